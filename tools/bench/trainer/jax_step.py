"""Steps of a JAX training, bare and under the runtime: `jax_step STEPS`. One process, one thread."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

# Read when JAX is loaded.
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from numpy.typing import NDArray

from bench.trainer.turns import Seconds, answer, in_turns
from trainwright_runtime.jax import Run

BATCH = 64
IMAGE = 16
EPOCH = 50


class Loop:
    """One tree of parameters, trained bare or under the runtime."""

    def __init__(self) -> None:
        model = nn.Sequential(
            [nn.Conv(16, (3, 3)), nn.relu, nn.Conv(16, (3, 3)), nn.relu, lambda x: x.reshape(len(x), -1), nn.Dense(10)]
        )
        optimizer = optax.sgd(0.01)

        def update(tree, images, labels):  # type: ignore[no-untyped-def]
            def loss_of(parameters):  # type: ignore[no-untyped-def]
                logits = model.apply(parameters, images)
                return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

            loss, gradients = jax.value_and_grad(loss_of)(tree["parameters"])
            changes, state = optimizer.update(gradients, tree["optimizer"])
            return {"parameters": optax.apply_updates(tree["parameters"], changes), "optimizer": state}, loss

        self._update = jax.jit(update)
        numbers = np.random.default_rng(0)
        self._images = numbers.normal(size=(EPOCH, BATCH, IMAGE, IMAGE, 1)).astype(np.float32)
        self._labels = numbers.integers(0, 10, (EPOCH, BATCH)).astype(np.int32)
        parameters = model.init(jax.random.key(0), jnp.zeros((1, IMAGE, IMAGE, 1)))
        self.run = Run({"parameters": parameters, "optimizer": optimizer.init(parameters)}, total_steps=10**6)

    def bare(self) -> Iterator[None]:
        """A step for each `next`, for ever."""
        while True:
            for batch in zip(self._images, self._labels, strict=True):
                self._train(*batch)
                yield

    def managed(self) -> Iterator[None]:
        """The same, under the runtime."""
        for _ in self.run.epochs(10**6):
            for batch in zip(self._images, self._labels, strict=True):
                self.run.step(loss=self._train(*batch), samples=BATCH)
                yield

    def _train(self, images: NDArray[Any], labels: NDArray[Any]) -> jax.Array:
        self.run.tree, loss = self._update(self.run.tree, images, labels)
        # Or its time would be the next turn's.
        return loss.block_until_ready()


def measure(steps: int) -> Seconds:
    loop = Loop()
    return in_turns(loop.bare(), loop.managed(), turns=steps)


if __name__ == "__main__":
    answer(lambda: measure(int(sys.argv[1])))
