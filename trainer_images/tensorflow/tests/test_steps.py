"""What replicas have to agree on within a step, on two shares of this process's CPU."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from trainwright_tensorflow.image_classification.feed import evaluation_shares
from trainwright_tensorflow.replicas import Replicas
from trainwright_tensorflow.steps import agreed


def test_gradients_that_overflow_in_one_replica_are_taken_by_none() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    replicas = Replicas(strategy, worker=0, workers=1)

    @tf.function
    def step(gradient: tf.Tensor) -> tf.Tensor:
        def of_a_replica(own: tf.Tensor) -> tf.Tensor:
            return agreed([tf.stack([own, own])], tf.distribute.get_replica_context())[0]

        return strategy.run(of_a_replica, args=(gradient,))

    one, other = replicas.results(step(replicas.distribute([np.float32(1.0), np.float32(np.inf)])))
    assert np.isnan(one).all()
    assert np.isnan(other).all()
    one, other = replicas.results(step(replicas.distribute([np.float32(1.0), np.float32(2.0)])))
    assert (one.tolist(), other.tolist()) == ([1.0, 1.0], [2.0, 2.0])


def test_every_image_counts_once_in_an_evaluation_of_equally_many_steps() -> None:
    class Place:
        def __init__(self, here: range, total: int) -> None:
            self.here, self.total = here, total

    for size, total in ((10, 4), (3, 4), (8, 2), (1, 3)):
        shares = [list(evaluation_shares(size, batch=2, replicas=Place(range(one, one + 1), total))) for one in range(total)]
        assert len({len(steps) for steps in shares}) == 1
        counted = [index for steps in shares for step in steps for indices, count in step for index in indices[:count]]
        assert sorted(counted) == list(range(size))
        assert all(indices for steps in shares for step in steps for indices, _ in step)
