"""The ranks of a torch training. They meet in a gloo group of its own: that costs no GPU synchronisation and can't get between
the gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.gang import Gang
from trainwright_runtime.startup import RENDEZVOUS, STARTUP


@STARTUP.part(RENDEZVOUS)
def meet(environment: RankEnvironment, device: torch.device) -> None:
    """Join the gang, if there is one, over what its devices are best joined by."""
    if environment.world_size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


class TorchGang(Gang):
    """The ranks of torch.distributed; a gang of one when it is not initialised."""

    def __init__(self) -> None:
        alone = not dist.is_initialized()
        super().__init__(rank=0 if alone else dist.get_rank(), size=1 if alone else dist.get_world_size())
        self._group = dist.new_group(backend="gloo") if self.size > 1 else None

    def exchange(self, value: Any) -> list[Any]:
        if self._group is None:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self._group)
        return values

    def gather(self, value: Any) -> list[Any] | None:
        if self._group is None:
            return [value]
        gathered: list[Any] | None = [None] * self.size if self.rank == 0 else None
        dist.gather_object(value, gathered, dst=0, group=self._group)
        return gathered

    def total(self, value: npt.ArrayLike) -> npt.NDArray[np.float64]:
        total = torch.tensor(np.asarray(value, dtype=np.float64))
        if self._group is not None:
            dist.all_reduce(total, group=self._group)
        return np.asarray(total.numpy())

    def disband(self) -> None:
        # Gloo aborts now and then when one rank tears down while another still talks.
        if dist.is_initialized():
            self.any(False)
            dist.destroy_process_group()
