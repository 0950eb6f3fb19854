"""The ranks of a Horovod training."""

from __future__ import annotations

from typing import Any

import horovod.torch as hvd
import numpy as np
import numpy.typing as npt
import torch

from trainwright_runtime.gang import Gang
from trainwright_runtime.startup import RENDEZVOUS, STARTUP


@STARTUP.part(RENDEZVOUS)
def meet() -> None:
    """Join the gang: from here on Horovod knows its ranks."""
    hvd.init()


class HorovodGang(Gang):
    """The ranks of `hvd.init()`."""

    def __init__(self) -> None:
        super().__init__(rank=hvd.rank(), size=hvd.size())

    def exchange(self, value: Any) -> list[Any]:
        if self.size == 1:
            return [value]
        # A name, because Horovod would make one of the value's type, which may differ from rank to rank.
        return list(hvd.allgather_object(value, name="trainwright-exchange"))

    def total(self, value: npt.ArrayLike) -> npt.NDArray[np.float64]:
        own = torch.tensor(np.asarray(value, dtype=np.float64))
        return np.asarray(hvd.allreduce(own, op=hvd.Sum, name="trainwright-total").numpy())

    def disband(self) -> None:
        self.any(False)
        hvd.shutdown()
