"""Answers compared with what a trainer recorded, and what was predicted in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trainwright_gateway.manifest import Manifest
from trainwright_gateway.servers import Tensors

LABELS = "prediction"
"""The output of a scikit-learn classifier that has the label itself."""


class Differs(Exception):
    """An answer is not what the trainer recorded; the message says of which tensor, and how."""


def compare(recorded: Tensors, answered: Tensors, *, tolerance: float) -> float:
    """The largest difference, relative to the largest magnitude of its tensor; raises Differs."""
    largest = 0.0
    for name, rows in recorded.items():
        if name not in answered:
            raise Differs(f"the answer has no output {name!r}, but {', '.join(map(repr, answered)) or 'none'}")
        wanted, found = np.asarray(rows, dtype=object), _array(name, answered[name])
        if wanted.shape != found.shape:
            raise Differs(f"{name} has the shape {list(found.shape)}; recorded is {list(wanted.shape)}")
        # Trainers write numbers as floats; what is whole numbers or words is labels.
        if all(isinstance(one, str | int) for one in wanted.flat):
            _compare_labels(name, wanted, found)
        else:
            largest = max(largest, _compare_numbers(name, wanted, found, tolerance))
    return largest


def _array(name: str, rows: Any) -> npt.NDArray[np.object_]:
    try:
        return np.asarray(rows, dtype=object)
    except ValueError:
        raise Differs(f"the rows of {name} don't have the same length") from None


def _compare_labels(name: str, wanted: npt.NDArray[Any], found: npt.NDArray[Any]) -> None:
    for row, (label, answer) in enumerate(zip(wanted.flat, found.flat, strict=True)):
        if str(label) != str(answer):
            raise Differs(f"{name} of sample {row} is {answer!r}; recorded is {label!r}")


def _compare_numbers(name: str, wanted: npt.NDArray[Any], found: npt.NDArray[Any], tolerance: float) -> float:
    try:
        expected, values = wanted.astype(np.float64), found.astype(np.float64)
    except (TypeError, ValueError):
        raise Differs(f"{name} has values that are no numbers") from None
    if (bad := ~np.isfinite(values) & np.isfinite(expected)).any():
        raise Differs(f"{name} of sample {int(np.argwhere(bad)[0][0])} is {values[bad][0]}; recorded is {expected[bad][0]:g}")
    there = np.isfinite(expected)
    if not there.any():
        return 0.0
    difference = np.where(there, np.abs(values - np.where(there, expected, 0.0)), 0.0)
    scale = float(np.abs(expected[there]).max()) or 1.0
    largest = float(difference.max()) / scale
    if largest > tolerance:
        at = tuple(np.unravel_index(int(difference.argmax()), difference.shape))
        raise Differs(
            f"{name} of sample {int(at[0]) if at else 0} is {values[at]:g}; recorded is {expected[at]:g}: "
            f"a difference of {largest:.2g} of the largest magnitude, more than {tolerance:g}"
        )
    return largest


def predictions(outputs: Tensors, manifest: Manifest) -> list[str | None] | list[float | None]:
    """What each row of an answer says: a class, or a number; None where it says neither, as with NaN.

    A classifier answers labels, or numbers by class, the largest of which is its class. Raises ValueError, TypeError and
    LookupError for outputs of another kind.
    """
    if manifest.classes:
        if LABELS in outputs:
            return [None if one is None else _label(one) for one in outputs[LABELS]]
        scores = np.asarray(_first(outputs, manifest), dtype=np.float64)
        if scores.ndim != 2 or scores.shape[1] != len(manifest.classes):
            raise ValueError(f"outputs of shape {scores.shape} don't fit {len(manifest.classes)} classes")
        usable: npt.NDArray[np.bool_] = np.asarray(np.isfinite(scores).all(axis=1))
        return [
            manifest.classes[at] if good else None
            for at, good in zip(np.where(usable, scores.argmax(axis=1), 0), usable, strict=True)
        ]
    values = np.asarray(outputs[LABELS] if LABELS in outputs else _first(outputs, manifest), dtype=np.float64)
    if values.ndim == 0 or values.size != len(values):
        raise ValueError(f"outputs of shape {values.shape} aren't one number a row")
    return [float(one) if np.isfinite(one) else None for one in values.reshape(-1)]


def _label(value: Any) -> str:
    """A class as manifests name it: 3.0 is the class 3."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _first(outputs: Tensors, manifest: Manifest) -> Any:
    names = [name for name in manifest.outputs if name in outputs] or list(outputs)
    if not names:
        raise ValueError("there are no outputs")
    return outputs[names[0]]
