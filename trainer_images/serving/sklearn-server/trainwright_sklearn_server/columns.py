"""Tensors of the Open Inference Protocol as the table that a pipeline takes, and its answers as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

NUMBERS = frozenset({"FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"})
WORDS = frozenset({"BYTES"})
MISSING = ""
"""What stands for a missing word, in training as here."""


class BadRequest(Exception):
    """The request can't be answered; the message says which tensor, what it must be, and what it is."""


def table_of(inputs: Sequence[Any], signature: Sequence[Mapping[str, Any]]) -> Any:
    """A DataFrame with the model's columns in their order. `inputs`: tensors with name, shape, datatype and data.

    Raises BadRequest.
    """
    given: dict[str, Any] = {}
    known = [column["name"] for column in signature]
    for tensor in inputs:
        if tensor.name not in known:
            raise BadRequest(f"there is no tensor {tensor.name!r}; accepted: {_listed(known)}")
        if tensor.name in given:
            raise BadRequest(f"tensor {tensor.name!r} is given twice")
        given[tensor.name] = tensor
    if missing := [name for name in known if name not in given]:
        raise BadRequest(f"tensor {missing[0]!r} is missing; wanted are: {_listed(known)}")
    columns = {column["name"]: _column(given[column["name"]], column["dtype"]) for column in signature}
    sizes = {name: len(values) for name, values in columns.items()}
    first = known[0]
    for name, size in sizes.items():
        if size != sizes[first]:
            raise BadRequest(f"tensor {name!r} has {size} rows, and {first!r} has {sizes[first]}; accepted: as many in each")
    if sizes[first] == 0:
        raise BadRequest(f"tensor {first!r} has no rows; accepted: at least one")
    return pd.DataFrame(columns)


def outputs_of(prediction: Any, probabilities: Any) -> list[dict[str, Any]]:
    """Names, shapes, datatypes and data, the rows one after the other; what isn't finite is null, as JSON has it."""
    is_words = prediction.dtype.kind in "OUS"
    found = [
        {
            "name": "prediction",
            "shape": [len(prediction)],
            "datatype": "BYTES" if is_words else "FP64",
            "data": [str(one) for one in prediction] if is_words else _finite(prediction),
        }
    ]
    if probabilities is not None:
        found.append(
            {
                "name": "probabilities",
                "shape": list(probabilities.shape),
                "datatype": "FP64",
                "data": _finite(probabilities),
            }
        )
    return found


def _finite(values: Any) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in np.ravel(values)]


def _column(tensor: Any, dtype: str) -> Any:
    name, shape = tensor.name, list(tensor.shape)
    wanted = "BYTES" if dtype == "string" else "FP64"
    datatype = getattr(tensor.datatype, "value", tensor.datatype)
    if datatype not in (WORDS if dtype == "string" else NUMBERS):
        raise BadRequest(
            f"tensor {name!r} has datatype {datatype}; wanted is {wanted}, {'words' if dtype == 'string' else 'numbers'}"
        )
    if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
        raise BadRequest(f"tensor {name!r} has shape {shape}; wanted is {wanted} of shape [rows] or [rows, 1]")
    data = getattr(tensor.data, "root", tensor.data)
    if not isinstance(data, list):
        raise BadRequest(f"the data of tensor {name!r} is {type(data).__name__}, not a list of values")
    if data and isinstance(data[0], list):
        uneven = next((place for place, row in enumerate(data) if not isinstance(row, list) or len(row) != 1), None)
        if uneven is not None:
            raise BadRequest(
                f"tensor {name!r} is ragged: row {uneven} hasn't one value, as wanted is; {wanted} of shape [rows, 1]"
            )
        data = [row[0] for row in data]
    if len(data) != shape[0]:
        raise BadRequest(f"tensor {name!r} has shape {shape} and {len(data)} values")
    return _words(name, data) if dtype == "string" else _numbers(name, data)


def _words(name: str, data: list[Any]) -> Any:
    words = [
        value.decode(errors="replace") if isinstance(value, bytes) else MISSING if value is None else value for value in data
    ]
    other = next((value for value in words if not isinstance(value, str)), None)
    if other is not None:
        raise BadRequest(f"tensor {name!r} has the value {other!r}; wanted is BYTES: words, and null for a missing one")
    return pd.Series(words, dtype=object)


def _numbers(name: str, data: list[Any]) -> Any:
    other = next(
        (value for value in data if value is not None and (isinstance(value, bool) or not isinstance(value, int | float))), None
    )
    if other is not None:
        raise BadRequest(f"tensor {name!r} has the value {other!r}; wanted is FP64: numbers, and null for a missing one")
    values = np.array(data, dtype=np.float64)
    if np.isinf(values).any():
        raise BadRequest(f"tensor {name!r} has an infinite value; wanted is FP64: numbers, and null for a missing one")
    return values


def _listed(names: Sequence[str], most: int = 30) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
