"""The kinds that users write: typed models, what is refused and why, and the CRD generated from both."""
