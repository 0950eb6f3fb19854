"""Checkpoint, resume, stop and progress for a training loop in TensorFlow: see `docs/frameworks/tensorflow.md`."""

from trainwright_runtime.tensorflow.run import Run

__all__ = ["Run"]
