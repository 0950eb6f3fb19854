"""Steps of a TensorFlow training, bare and under the runtime: `tensorflow_step STEPS`. One worker, one thread."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

# Read when TensorFlow is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from bench.trainer.turns import Seconds, answer, in_turns
from trainwright_runtime.tensorflow import Run

BATCH = 64
IMAGE = 16
EPOCH = 50


class Loop:
    """One model, trained bare or under the runtime, by a strategy as the recipe's is."""

    def __init__(self) -> None:
        strategy = tf.distribute.MirroredStrategy(["CPU:0"])
        with strategy.scope():
            self._model = keras.Sequential(
                [
                    keras.Input((IMAGE, IMAGE, 1)),
                    keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
                    keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
                    keras.layers.Flatten(),
                    keras.layers.Dense(10),
                ]
            )
            self._optimizer = keras.optimizers.SGD(0.01)
            self._optimizer.build(self._model.trainable_variables)
        self._step = tf.function(lambda images, labels: strategy.run(self._of_a_replica, args=(images, labels)))
        numbers = np.random.default_rng(0)
        images = numbers.normal(size=(EPOCH * BATCH, IMAGE, IMAGE, 1)).astype(np.float32)
        self._data = tf.data.Dataset.from_tensor_slices((images, numbers.integers(0, 10, EPOCH * BATCH))).batch(BATCH)
        self.run = Run(model=self._model, optimizer=self._optimizer, strategy=strategy, total_steps=10**6)

    def bare(self) -> Iterator[None]:
        """A step for each `next`, for ever."""
        while True:
            for images, labels in self._data:
                self._train(images, labels)
                yield

    def managed(self) -> Iterator[None]:
        """The same, under the runtime."""
        for _ in self.run.epochs(10**6):
            for images, labels in self.run.batches(self._data, samples=BATCH):
                self.run.step(loss=self._train(images, labels))
                yield

    def _train(self, images: Any, labels: Any) -> Any:
        return self._step(images, labels)

    def _of_a_replica(self, images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = self._model(images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        self._optimizer.apply(tape.gradient(loss, self._model.trainable_variables), self._model.trainable_variables)
        return loss


def measure(steps: int) -> Seconds:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    # One for what waits, beside one for what works.
    tf.config.threading.set_inter_op_parallelism_threads(2)
    loop = Loop()
    return in_turns(loop.bare(), loop.managed(), turns=steps)


if __name__ == "__main__":
    answer(lambda: measure(int(sys.argv[1])))
