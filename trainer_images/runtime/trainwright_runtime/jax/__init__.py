"""Checkpoint, resume, stop and progress for a training loop in JAX: see `docs/frameworks/jax.md`."""

from trainwright_runtime.jax.run import Run

__all__ = ["Run"]
