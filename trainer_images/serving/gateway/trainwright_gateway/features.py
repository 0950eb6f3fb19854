"""Which features a request has, by name: lists of values, one a row.

- scikit-learn: a tensor a column, named as the feature.
- Networks over tables: the tensors `numbers` (rows, numeric columns) and `words` (rows, categorical columns); the manifest's
  `columns` says which feature stands in which place. TensorFlow takes words; PyTorch their codes: a word's place among the
  categories, and -1 for one that training didn't have, which is therefore counted as a new category.
- Images: one float tensor, (rows, height, width, channels) or the like, or (rows, pixels) where the signature has it flat. Their
  features are each image's brightness, the mean of all its numbers, and contrast, their standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from trainwright_gateway.manifest import Manifest
from trainwright_gateway.servers import Tensors

NEW = "\0not in training"
"""What stands for a word that a code can't name."""
IMAGES: Mapping[str, Callable[[Any], Any]] = {
    "brightness": lambda rows: rows.mean(axis=1),
    "contrast": lambda rows: rows.std(axis=1),
}


def of(inputs: Tensors, manifest: Manifest) -> dict[str, list[Any]]:
    """Raises ValueError, TypeError and LookupError for inputs that don't fit the manifest."""
    if manifest.numbers or manifest.words:
        return {**_numbers(inputs, manifest), **_words(inputs, manifest)}
    if image := _image(manifest):
        rows = np.asarray(inputs[image], dtype=np.float64)
        flat = rows.reshape(len(rows), -1)
        return {name: made(flat).tolist() for name, made in IMAGES.items()}
    return {name: _column(values) for name, values in inputs.items() if name in manifest.features}


def _image(manifest: Manifest) -> str | None:
    """The name of the tensor that images come in."""
    if len(manifest.inputs) != 1 or not set(IMAGES) & set(manifest.features):
        return None
    (name, tensor), = manifest.inputs.items()  # fmt: skip
    return name if tensor.dtype.startswith("float") and len(tensor.shape) in {2, 3, 4} else None


def _numbers(inputs: Tensors, manifest: Manifest) -> dict[str, list[Any]]:
    if not manifest.numbers:
        return {}
    return dict(zip(manifest.numbers, _transposed(inputs["numbers"], len(manifest.numbers)), strict=True))


def _words(inputs: Tensors, manifest: Manifest) -> dict[str, list[Any]]:
    if not manifest.words:
        return {}
    columns = _transposed(inputs["words"], len(manifest.words))
    return {
        name: [_word(one, known) for one in column] for (name, known), column in zip(manifest.words.items(), columns, strict=True)
    }


def _word(value: Any, known: tuple[str, ...]) -> Any:
    if isinstance(value, str) or value is None:
        return value
    return known[int(value)] if 0 <= value < len(known) else NEW


def _transposed(rows: Any, width: int) -> list[list[Any]]:
    if any(len(row) != width for row in rows):
        raise ValueError(f"rows must have {width} values")
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]


def _column(values: Any) -> list[Any]:
    if not isinstance(values, list) or any(isinstance(one, list | dict) for one in values):
        raise ValueError("a column must have one value a row")
    return values
