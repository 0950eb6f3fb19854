"""The workers of a TensorFlow training. They meet through the strategy's own collectives, so there is one connection to lose."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainwright_runtime.gang import Gang

HEAD = 256
"""Numbers in the one message that is enough for most of what workers tell each other; the first is the length of it all."""


class TensorFlowGang(Gang):
    """The workers of a MultiWorkerMirroredStrategy; a gang of one with any other strategy.

    Every worker has as many replicas as every other.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        resolver = strategy.cluster_resolver
        workers = resolver.cluster_spec().as_dict().get("worker", []) if resolver is not None else []
        alone = len(workers) < 2
        super().__init__(rank=0 if alone else resolver.task_id, size=1 if alone else len(workers))
        self._strategy = strategy
        self._replicas = strategy.num_replicas_in_sync // self.size
        self._together = tf.function(self._gather)

    def exchange(self, value: Any) -> list[Any]:
        if self.size == 1:
            return [value]
        own = np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)
        texts = self._rows([len(own), *own[: HEAD - 1]], HEAD)
        longest = int(texts[:, 0].max())
        lengths, texts = texts[:, 0], texts[:, 1:]
        if longest >= HEAD:
            # Sizes that repeat, for each is a graph of its own.
            texts = self._rows(own, 1 << (longest - 1).bit_length())
        return [json.loads(row[:length].astype(np.uint8).tobytes()) for row, length in zip(texts, lengths, strict=True)]

    def total(self, value: npt.ArrayLike) -> npt.NDArray[np.float64]:
        own = np.asarray(value, dtype=np.float64)
        if self.size == 1:
            return own
        # Each worker has as many replicas as every other; its first brings what there is to add.
        parts = iter([own, *[np.zeros_like(own)] * (self._replicas - 1)])
        values = self._strategy.experimental_distribute_values_from_function(lambda _context: tf.convert_to_tensor(next(parts)))
        return np.asarray(self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None).numpy())

    def disband(self) -> None:
        if self.size == 1:
            return
        # Whoever comes out of the first meeting knows that all work is done. Who leaves the second may find the others gone.
        self.any(False)
        with contextlib.suppress(tf.errors.OpError):
            self.any(False)

    def _rows(self, numbers: Any, width: int) -> npt.NDArray[np.int64]:
        """Every worker's numbers, a row each."""
        padded = np.zeros(width, dtype=np.int64)
        padded[: len(numbers)] = numbers
        gathered = self._strategy.experimental_local_results(self._together(tf.constant(padded)))[0].numpy()
        rows: npt.NDArray[np.int64] = gathered[:: self._replicas]
        return rows

    def _gather(self, numbers: tf.Tensor) -> Any:
        # 64 bits, because NCCL has no others for whole numbers that TensorFlow would leave on the GPU.
        def of_all(own: tf.Tensor) -> tf.Tensor:
            return tf.distribute.get_replica_context().all_gather(own[tf.newaxis], axis=0)

        return self._strategy.run(of_all, args=(numbers,))
