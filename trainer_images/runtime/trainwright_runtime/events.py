"""A training's metrics as TensorBoard reads them: `logs/tensorboard/` of the workspace, a line a metric over all attempts."""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainwright_runtime.exits import say


class Events:
    """The events of one process. Without a folder nothing is written.

    `step` is where this attempt goes on: what an earlier one wrote from there on is passed over by TensorBoard.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._begins_at = 0
        self._writer: Any = None

    def go_on_from(self, step: int) -> None:
        """Called before the first `write` of a training that resumes."""
        self._begins_at = step

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add a point to the line of each metric."""
        if self._folder is None or not metrics:
            return
        # Events are worth less than training: a disk that is full must not end a rank by them.
        try:
            if self._writer is None:
                # Loading it takes a moment that only the rank which writes should wait for.
                from tensorboardX import SummaryWriter  # noqa: PLC0415

                self._writer = SummaryWriter(str(self._folder), purge_step=self._begins_at or None)
                self._begins_at = 0
                atexit.register(self.close)
            for name, value in metrics.items():
                self._writer.add_scalar(name, value, step)
        except OSError as error:
            say(f"no events for TensorBoard any more: {error}")
            self._folder = None

    def close(self) -> None:
        """Let the last points reach the disk."""
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()
            self._writer = None
