"""Checkpoint, resume, stop and progress for a training loop in PyTorch, in about ten lines: see `docs/own-code.md`."""

from trainwright_runtime.torch.run import Run

__all__ = ["Run"]
