"""Scripts that a trainer image's own Python runs, each with `python -m bench.trainer.NAME`; what they find is JSON on stdout."""
