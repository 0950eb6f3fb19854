"""A TensorFlow training's state for `run.py`: weights, optimizer, loss scale, and every worker's random numbers."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from trainwright_runtime.exits import say
from trainwright_runtime.gang import Gang
from trainwright_runtime.nan import holds_nan
from trainwright_runtime.run import BaseRun, NotANumber
from trainwright_runtime.sealed import Writer
from trainwright_runtime.tensorflow.gang import TensorFlowGang
from trainwright_runtime.tensorflow.state import (
    Array,
    Staging,
    fitting,
    generator_states,
    is_read_together,
    is_seed,
    packed,
    raw,
    read_arrays,
    set_generator_states,
    unpacked,
    write_arrays,
)


class Run(BaseRun):
    """A training loop that can be stopped at any step and goes on from there.

    Every worker makes one, with the strategy that `model` and `optimizer` were made under (none is needed outside of one).
    `generators` are those that the loop draws from beside the model's layers: `keras.random.SeedGenerator`,
    `tf.random.Generator`. `state` is a dict of plain values and numpy arrays of the caller's own, saved with the model and filled
    in by `resume`. Attributes to read: `steps` (optimizer steps taken), `epoch`, and `position` (samples of this epoch that the
    gang has trained on).
    """

    framework = "tensorflow"

    def __init__(
        self,
        *,
        model: Any,
        optimizer: Any,
        strategy: Any = None,
        generators: Sequence[Any] = (),
        state: dict[str, Any] | None = None,
        total_steps: int | None = None,
        main_metric: str | None = None,
        gang: Gang | None = None,
    ) -> None:
        strategy = strategy or tf.distribute.get_strategy()
        super().__init__(gang or TensorFlowGang(strategy), state=state, total_steps=total_steps, main_metric=main_metric)
        if not getattr(optimizer, "built", False):
            with strategy.scope():
                optimizer.build(model.trainable_variables)
        self._optimizer = optimizer
        self._variables = {
            "model": [variable for variable in model.variables if not is_seed(variable)],
            "optimizer": list(optimizer.variables),
        }
        # By place; what is not learnt may be NaN by intention.
        self._learnt = [number for number, variable in enumerate(self._variables["model"]) if variable.trainable]
        self._seeds = [variable for variable in model.variables if is_seed(variable)]
        self._seeds += [generator.state for generator in generators]
        self._is_read_together = any(map(is_read_together, itertools.chain(*self._variables.values())))
        self._staging = Staging()

    def _learning_rate(self) -> float | None:
        # A mirrored variable is no number yet.
        return float(tf.convert_to_tensor(raw(self._optimizer.learning_rate)))

    @property
    def framework_version(self) -> str:
        return str(tf.__version__)

    def batches(self, dataset: Any, *, samples: int) -> Iterator[Any]:
        """The batches of this epoch that are still to train; `samples` in one, over all workers.

        What was trained before is drawn and passed over, so `dataset` has to give the same order again for the same epoch: a
        shuffle needs a seed. A `step` counts what was given out since the last.
        """
        for batch in self.data(itertools.islice(iter(dataset), self.position // samples, None)):
            self._taken += samples
            yield batch

    def _copies(self) -> Mapping[str, Writer] | None:
        generators = self._gang.gather(generator_states(self._seeds))
        if generators is None and not self._is_read_together:
            return None
        parts = {name: self._staging.copy(name, variables) for name, variables in self._variables.items()}
        if generators is None:
            return None
        arrays: dict[str, Array] = {}
        training = {"facts": self._facts_now(), "state": packed(self.state, arrays, "state")}
        parts["state"] = {name: array.copy() for name, array in arrays.items()}
        files: dict[str, Writer] = {f"{name}.npz": functools.partial(_write_arrays, part) for name, part in parts.items()}
        files["model.npz"] = functools.partial(_write_weights, parts["model"], self._learnt)
        files["training.json"] = functools.partial(_write_json, training)
        files |= {f"rank-{rank}.json": functools.partial(_write_json, states) for rank, states in enumerate(generators)}
        return files

    def _load(self, path: Path) -> Mapping[str, Any]:
        training = json.loads((path / "training.json").read_text())
        pairs = [
            pair
            for name, variables in self._variables.items()
            for pair in fitting(read_arrays(path / f"{name}.npz"), variables, name)
        ]
        # Only when all of it fits is any of it taken.
        for variable, value in pairs:
            raw(variable).assign(value)
        self.state.clear()
        self.state.update(unpacked(training["state"], read_arrays(path / "state.npz")))
        facts: Mapping[str, Any] = training["facts"]
        try:
            set_generator_states(json.loads((path / f"rank-{self._gang.rank}.json").read_text()), self._seeds)
        except (FileNotFoundError, ValueError):
            say(f"{path.name} was written by other replicas: worker {self._gang.rank} starts its random numbers afresh")
        return facts


def _write_weights(arrays: Mapping[str, Array], learnt: Sequence[int], stream: Any) -> None:
    weights = list(arrays.items())
    for name, array in (weights[number] for number in learnt):
        if holds_nan(array):
            raise NotANumber(f"the weights {name} have become NaN")
    write_arrays(stream, arrays)


def _write_arrays(arrays: Mapping[str, Array], stream: Any) -> None:
    write_arrays(stream, arrays)


def _write_json(content: Any, stream: Any) -> None:
    stream.write(json.dumps(content).encode())
