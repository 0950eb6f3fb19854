"""The processes of a JAX training: one a pod."""

from __future__ import annotations

import json
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax.experimental import multihost_utils

from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.gang import Gang
from trainwright_runtime.startup import RENDEZVOUS, STARTUP

HEARTBEAT_SECONDS = 10
"""How long a process may be silent before the others end. JAX's own hundred seconds are a long time for a gang of GPUs."""

_BLOCK = 4096
"""Bytes that an exchange is filled up to: each size is a program of its own to compile."""


@STARTUP.part(RENDEZVOUS)
def meet(environment: RankEnvironment) -> None:
    """Join the gang, if there is one: from here on `jax.devices()` are those of all workers."""
    if environment.workers > 1:
        jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS)


class JaxGang(Gang):
    """The processes of `jax.distributed`."""

    def __init__(self) -> None:
        super().__init__(rank=jax.process_index(), size=jax.process_count())

    def exchange(self, value: Any) -> list[Any]:
        if self.size == 1:
            return [value]
        content = json.dumps(value).encode()
        lengths = _gathered(np.array([len(content)], dtype=np.int32))
        room = -(-int(lengths.max()) // _BLOCK) * _BLOCK
        padded = np.zeros(room, dtype=np.uint8)
        padded[: len(content)] = np.frombuffer(content, dtype=np.uint8)
        rows = _gathered(padded)
        return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths[:, 0], strict=True)]

    def total(self, value: npt.ArrayLike) -> npt.NDArray[np.float64]:
        own = np.asarray(value, dtype=np.float64)
        if self.size == 1:
            return own
        # As halves of whole numbers: JAX would bring 64 bits to 32.
        rows = np.ascontiguousarray(_gathered(own.reshape(-1).view(np.uint32)))
        return np.asarray(rows.view(np.float64).sum(axis=0).reshape(own.shape))

    def disband(self) -> None:
        self.any(False)
        if jax.distributed.is_initialized():
            jax.distributed.shutdown()


def _gathered(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(multihost_utils.process_allgather(array))
