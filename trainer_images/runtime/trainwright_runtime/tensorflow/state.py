"""What a checkpoint of a TensorFlow training consists of: numpy archives and JSON, nothing of which is code when it is loaded."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

Array = npt.NDArray[Any]

ARRAY = "$array"
"""Stands in JSON for an array that is kept in the archive beside it."""

PLAIN = (type(None), bool, int, float, str)
"""By type, not by isinstance: numpy's float64 is a float too, and comes back as another."""


def raw(variable: Any) -> Any:
    """TensorFlow's variable behind one of Keras 3; others are that already."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def name_of(variable: Any) -> str:
    """The name that a user knows a variable by."""
    return str(getattr(variable, "path", variable.name))


def is_seed(variable: Any) -> bool:
    """Whether a variable is the place of a random number generator of Keras."""
    return name_of(variable).endswith("seed_generator_state")


def is_read_together(variable: Any) -> bool:
    """Whether reading a variable makes all workers add theirs up, so that they all have to."""
    return bool(getattr(raw(variable), "synchronization", None) == tf.VariableSynchronization.ON_READ)


class Staging:
    """Copies of variables, in memory that is kept from one checkpoint to the next: fresh memory costs several times the copy."""

    def __init__(self) -> None:
        self._kept: dict[str, Array] = {}

    def copy(self, prefix: str, variables: Sequence[Any]) -> dict[str, Array]:
        """The variables' values by their place and name. What was returned before for this prefix is overwritten."""
        copied = {}
        for number, variable in enumerate(variables):
            # Not `.numpy()`, which would be a copy as well, and one into fresh memory.
            value = np.asarray(tf.convert_to_tensor(raw(variable)))
            name = f"{number:05d} {name_of(variable)}"
            kept = self._kept.get(prefix + name)
            if kept is None or kept.shape != value.shape or kept.dtype != value.dtype:
                kept = self._kept[prefix + name] = np.empty_like(value)
            np.copyto(kept, value)
            copied[name] = kept
        return copied


def write_arrays(stream: IO[bytes], arrays: Mapping[str, Array]) -> None:
    """As `numpy.savez`, to a stream that can only be written to from start to end."""
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def read_arrays(path: Path) -> dict[str, Array]:
    """What `write_arrays` wrote, in the same order."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def fitting(saved: Mapping[str, Array], variables: Sequence[Any], what: str) -> list[tuple[Any, Array]]:
    """Each variable with the value that was saved for it; raises ValueError where they don't match.

    By place and shape: the names that Keras makes up depend on what a process has made before.
    """
    if len(saved) != len(variables):
        raise ValueError(f"its {what} has {len(saved)} variables; this training's has {len(variables)}")
    pairs = []
    for (name, value), variable in zip(saved.items(), variables, strict=True):
        if value.shape != tuple(variable.shape):
            raise ValueError(f"its {what} has {name!r} of shape {value.shape}; here it is {tuple(variable.shape)}")
        # numpy reads types that it doesn't know, such as bfloat16, as bytes without a meaning.
        wanted = raw(variable).dtype.as_numpy_dtype
        pairs.append((variable, value.view(wanted) if value.dtype.kind == "V" else value))
    return pairs


def packed(value: Any, arrays: dict[str, Array], name: str) -> Any:
    """The value as JSON can say it, its arrays put aside; raises TypeError for what couldn't be loaded again."""
    if isinstance(value, dict):
        for key in value:
            if type(key) is not str or key == ARRAY:
                raise TypeError(f"{name} has the key {key!r}: keys of what is kept in a checkpoint are text")
        return {key: packed(item, arrays, f"{name}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list):
        return [packed(item, arrays, f"{name}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        arrays[str(len(arrays))] = value
        return {ARRAY: str(len(arrays) - 1)}
    if type(value) not in PLAIN:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise TypeError(f"{name} is a {kind}: only plain values, lists, dicts and numpy arrays can be kept in a checkpoint")
    return value


def unpacked(value: Any, arrays: Mapping[str, Array]) -> Any:
    """What `packed` made this of."""
    if isinstance(value, dict):
        if ARRAY in value:
            return arrays[value[ARRAY]]
        return {key: unpacked(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [unpacked(item, arrays) for item in value]
    return value


def generator_states(seeds: Sequence[Any]) -> dict[str, Any]:
    """The state of Python's and numpy's generators, and of the variables `seeds` in every replica of this worker."""
    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = cast(tuple[Any, ...], np.random.get_state())
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [str(name), keys.tolist(), int(position), int(has_gauss), float(cached)],
        "seeds": [[replica.numpy().tolist() for replica in replicas_of(seed)] for seed in seeds],
    }


def set_generator_states(states: Mapping[str, Any], seeds: Sequence[Any]) -> None:
    """Continue every generator from where `generator_states` saw it; raises ValueError when there are others now."""
    here = [len(replicas_of(seed)) for seed in seeds]
    saved = [len(replicas) for replicas in states["seeds"]]
    if here != saved:
        raise ValueError(f"its generators have {saved} replicas; here they are {here}")
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    for seed, replicas in zip(seeds, states["seeds"], strict=True):
        for replica, value in zip(replicas_of(seed), replicas, strict=True):
            replica.assign(value)


def replicas_of(variable: Any) -> tuple[Any, ...]:
    """The variable of each replica of this worker."""
    found: tuple[Any, ...] = tf.distribute.get_strategy().experimental_local_results(raw(variable))
    return found
