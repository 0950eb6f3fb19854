"""What the ranks have to decide together, and how they do it without a message a step.

A rank that leaves or saves on its own leaves the others waiting in a collective for ever. So the ranks meet in one tiny
all-reduce about twice a second, at the same step, and act on its result. They meet in a gloo group of its own: that costs no
GPU synchronisation and can't get between the gradients.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.distributed as dist

MEET_SECONDS = 0.5
MAX_STEPS_APART = 1000


class Gang:
    """The ranks of this training as a group; a group of one when torch.distributed is not initialised."""

    def __init__(self) -> None:
        self.size = dist.get_world_size() if dist.is_initialized() else 1
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self._group = dist.new_group(backend="gloo") if self.size > 1 else None
        self._steps_to_meeting = 1
        self._steps_apart = 1
        self._met = time.monotonic()

    def meet(self, *, stop: bool, save: bool) -> tuple[bool, bool]:
        """Called once a step by every rank: whether to stop now, and whether to save now.

        The gang stops when any rank has been asked to; it saves when rank 0 asks for it.
        """
        if self._group is None:
            return stop, save
        self._steps_to_meeting -= 1
        if self._steps_to_meeting > 0:
            return False, False
        elapsed = max(time.monotonic() - self._met, 1e-6)
        fitting = int(self._steps_apart * MEET_SECONDS / elapsed)
        # Growth is bounded: the first steps of a training are no measure for those that follow.
        apart = max(1, min(fitting, self._steps_apart * 4, MAX_STEPS_APART))
        wish = torch.tensor([int(stop), int(save and self.rank == 0), apart if self.rank == 0 else 0])
        dist.all_reduce(wish, op=dist.ReduceOp.MAX, group=self._group)
        self._met = time.monotonic()
        stop_all, save_all, self._steps_apart = wish.tolist()
        self._steps_to_meeting = self._steps_apart
        return bool(stop_all), bool(save_all)

    def from_main(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        if self._group is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]

    def gather(self, value: Any) -> list[Any] | None:
        """Every rank's value, in order of rank, on rank 0; None elsewhere."""
        if self._group is None:
            return [value]
        gathered: list[Any] | None = [None] * self.size if self.rank == 0 else None
        dist.gather_object(value, gathered, dst=0, group=self._group)
        return gathered

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; every rank waits for the others here."""
        if self._group is None:
            return flag
        raised = torch.tensor(int(flag))
        dist.all_reduce(raised, op=dist.ReduceOp.MAX, group=self._group)
        return bool(raised)

    def disband(self) -> None:
        """End torch.distributed in order: gloo aborts now and then when one rank tears down while another still talks."""
        if dist.is_initialized():
            self.any(False)
            dist.destroy_process_group()
