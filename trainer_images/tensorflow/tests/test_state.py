"""What a checkpoint is made of: nothing is lost on the way, and what doesn't fit is told before any of it is taken."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from trainwright_runtime.tensorflow.state import (
    Staging,
    fitting,
    generator_states,
    packed,
    read_arrays,
    set_generator_states,
    unpacked,
    write_arrays,
)


class OnlyForward:
    """A stream that can't be read, told or sought: as the one that hashes a file on its way to disk."""

    def __init__(self) -> None:
        self.content = io.BytesIO()

    def write(self, data: Any) -> int:
        return self.content.write(data)

    def flush(self) -> None:
        pass


def test_arrays_come_back_in_order_and_in_their_type(tmp_path: Path) -> None:
    arrays = {
        "00000 b/kernel": np.random.default_rng(0).random((300, 400), dtype=np.float32),
        "00001 a": np.array(7, dtype=np.int64),
        "00002 empty": np.empty((0, 3), dtype=np.float16),
    }
    stream = OnlyForward()
    write_arrays(stream, arrays)  # type: ignore[arg-type]
    (tmp_path / "a.npz").write_bytes(stream.content.getvalue())
    found = read_arrays(tmp_path / "a.npz")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_a_copy_stays_while_training_goes_on() -> None:
    variable = keras.Variable(np.zeros(1000, dtype=np.float32), name="v")
    copied = Staging().copy("model", [variable])
    variable.assign_add(np.ones(1000, dtype=np.float32))
    assert not copied["00000 v"].any()


def test_bfloat16_is_kept_to_the_bit(tmp_path: Path) -> None:
    variable = keras.Variable(np.array([1.5, -3.25], dtype=ml_dtypes.bfloat16), dtype="bfloat16", name="v")
    with (tmp_path / "a.npz").open("wb") as stream:
        write_arrays(stream, Staging().copy("model", [variable]))
    ((_, value),) = fitting(read_arrays(tmp_path / "a.npz"), [variable], "model")
    np.testing.assert_array_equal(value, variable.numpy())


def test_what_does_not_fit_is_told_by_name() -> None:
    variables = [keras.Variable(np.zeros((2, 3)), name="kernel"), keras.Variable(np.zeros(3), name="bias")]
    saved = Staging().copy("model", variables)
    with pytest.raises(ValueError, match="its model has 2 variables; this training's has 1"):
        fitting(saved, variables[:1], "model")
    with pytest.raises(ValueError, match=r"its model has '00001 bias' of shape \(3,\); here it is \(4,\)"):
        fitting(saved, [variables[0], keras.Variable(np.zeros(4), name="bias")], "model")


def test_state_of_the_callers_own_comes_back() -> None:
    arrays: dict[str, Any] = {}
    state = {"best": [np.arange(3), np.eye(2)], "losses": [[1, 0.5]], "none": None, "nan": float("inf"), "text": "ä", "yes": True}
    found = unpacked(packed(state, arrays, "state"), arrays)
    np.testing.assert_array_equal(found.pop("best")[1], np.eye(2))
    assert found == {name: value for name, value in state.items() if name != "best"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"f": np.float64(1)}, r"state\['f'\] is a numpy.float64: only plain values"),
        ({"a": [(1, 2)]}, r"state\['a'\]\[0\] is a builtins.tuple"),
        ({1: 2}, "state has the key 1: keys of what is kept in a checkpoint are text"),
        ({"t": tf.constant(1)}, "is a tensorflow"),
    ],
    ids=["a number of numpy", "a tuple", "a key that is no text", "a tensor"],
)
def test_what_would_not_come_back_is_refused(value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        packed(value, {}, "state")


def test_generators_go_on_where_they_were() -> None:
    import random

    seeds = [keras.random.SeedGenerator(3), tf.random.Generator.from_seed(5)]
    variables = [generator.state for generator in seeds]

    def draw() -> list[float]:
        own = [random.random(), float(np.random.random())]
        return [*own, float(keras.random.uniform((), seed=seeds[0])), float(seeds[1].uniform(()))]

    states = generator_states(variables)
    first = draw()
    assert draw() != first
    set_generator_states(states, variables)
    assert draw() == first
    with pytest.raises(ValueError, match="its generators have"):
        set_generator_states(states, variables[:1])
