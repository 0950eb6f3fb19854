"""The replicas of a model: what each of them takes of a step, how their random numbers differ, and that their weights do not."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainwright_runtime.order import Step, plan_epoch
from trainwright_runtime.tensorflow.state import is_seed, replicas_of


class Replicas:
    """The replicas of this worker among those of the gang."""

    def __init__(self, strategy: tf.distribute.Strategy, *, worker: int, workers: int) -> None:
        self._strategy = strategy
        self._workers = workers
        self.total = strategy.num_replicas_in_sync
        self.here = range(worker * self.total // workers, (worker + 1) * self.total // workers)

    def __str__(self) -> str:
        device = "GPU" if tf.config.get_visible_devices("GPU") else "CPU"
        workers = f"{self._workers} worker{'s' if self._workers > 1 else ''}"
        return f"{workers}, {self.total} replica{'s' if self.total > 1 else ''} on {device}"

    def plan_epoch(self, size: int, **given: int) -> list[tuple[Step, ...]]:
        """The steps of an epoch as `order.plan_epoch` has them, each as the replicas see it that are here."""
        plans = [plan_epoch(size, rank=replica, world_size=self.total, **given) for replica in self.here]
        return list(zip(*plans, strict=True))

    def distribute(self, values: Sequence[Any]) -> Any:
        """One value for each replica that is here, as `strategy.run` takes them."""
        ready = iter(values)
        return self._strategy.experimental_distribute_values_from_function(lambda _context: tf.convert_to_tensor(next(ready)))

    def results(self, values: Any) -> list[Any]:
        """What `strategy.run` returned, as one numpy value for each replica that is here."""
        return [value.numpy() for value in self._strategy.experimental_local_results(values)]


def weights_of(step: Sequence[Step]) -> list[Any]:
    """What a sample's loss counts in this step, for each replica that is here: all replicas' add up to the mean."""
    return [np.float32(0.0 if share.is_padding else 1.0 / share.samples) for share in step]


def tell_replicas_apart(model: keras.Model, generators: Sequence[Any], *, first: int) -> None:
    """Give each replica random numbers of its own: mirrored, dropout would hit the same features in all of them.

    `first`: the number, in the gang, of this worker's first replica.
    """
    for seed in [*filter(is_seed, model.variables), *(generator.state for generator in generators)]:
        for number, replica in enumerate(replicas_of(seed)):
            replica.assign_add(tf.constant([first + number, 0], replica.dtype))


def digest(model: keras.Model) -> str:
    """One number for all weights: equal only if they are equal to the bit."""
    return hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest()
