"""MLServer as a server of one published scikit-learn model."""
