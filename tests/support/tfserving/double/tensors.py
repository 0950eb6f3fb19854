"""JSON as tensors and tensors as JSON, by the rules of TensorFlow Serving: by rows (`instances`) or by columns (`inputs`)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from double.status import invalid

Info = Mapping[str, Any]
"""TensorInfo by name, as a SignatureDef has them."""


def parse(body: bytes) -> dict[str, Any]:
    """The request's object. NaN and Infinity are taken; Raises Refused."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        found = json.loads(body)
    except ValueError as error:
        raise invalid(f"JSON Parse error: Invalid value. at offset: {getattr(error, 'pos', 0)}") from None
    if not isinstance(found, dict):
        raise invalid(f"JSON Value: {json.dumps(found)} Is not object")
    if "signature_name" in found and not isinstance(found["signature_name"], str):
        raise invalid(f"JSON Value: {json.dumps(found)} not formatted correctly. 'signature_name' key must be a string value.")
    return found


def inputs_of(request: dict[str, Any], infos: Info) -> tuple[dict[str, Any], bool]:
    """Tensors by name, and whether they came by rows. Raises Refused."""
    if "instances" in request:
        if "inputs" in request:
            raise invalid(
                f"JSON Value: {json.dumps(request)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
                "keys to exist "
            )
        rows = request["instances"]
        if not isinstance(rows, list):
            raise invalid(f"JSON Value: {json.dumps(request)} Excepting 'instances' to be an list/array")
        if not rows:
            raise invalid(f"JSON Value: {json.dumps(request)} No values in 'instances' array")
        return _by_rows(rows, infos), True
    if "inputs" not in request:
        raise invalid("Missing 'inputs' or 'instances' key")
    return _by_columns(request["inputs"], infos), False


def _by_rows(rows: list[Any], infos: Info) -> dict[str, Any]:
    named = _is_object(rows[0])
    if not isinstance(rows[0], dict) and len(infos) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map"
        )
    columns: dict[str, list[Any]] = {name: [] for name in infos}
    for place, row in enumerate(rows):
        if named and not _is_object(row):
            raise invalid(f"Expecting object but got list at item {place} of input list")
        if not named and _is_object(row):
            raise invalid(f"Expecting value/list but got object at item {place} of input list")
        values = row if named else {next(iter(infos)): row}
        for name, value in values.items():
            if name not in infos:
                raise invalid(
                    f"Failed to process element: {place} key: {name} of 'instances' list. "
                    f"Error: INVALID_ARGUMENT: JSON object: does not have named input: {name}"
                )
            columns[name].append(value)
        if set(values) != set(infos):
            raise invalid(
                f"Failed to process element: {place} of 'instances' list. JSON object: {json.dumps(row)} "
                f"keys must be equal to: {','.join(sorted(infos))}"
            )
    for values in columns.values():
        shapes = [_shape(value) for value in values]
        for shape in shapes:
            if shape != shapes[0]:
                raise invalid(f"Expecting shape {_shown(shapes[0])} but got: {_shown(shape)}")
    return {name: _tensor(values, infos[name]) for name, values in columns.items()}


def _by_columns(given: Any, infos: Info) -> dict[str, Any]:
    if not _is_object(given):
        if len(infos) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map"
            )
        name = next(iter(infos))
        return {name: _tensor(given, infos[name])}
    for name in infos:
        if name not in given:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: _tensor(given[name], info) for name, info in infos.items()}


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not (set(value) == {"b64"} and isinstance(value["b64"], str))


def _shape(value: Any) -> list[int]:
    """By the first element of each list, as a dense tensor's is."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _shown(shape: list[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _tensor(value: Any, info: Any) -> Any:
    dtype, shape = tf.dtypes.as_dtype(info.dtype), _shape(value)
    leaves: list[Any] = []
    _fill(value, 0, shape, dtype, leaves)
    return tf.reshape(tf.constant(leaves, dtype=dtype), shape)


def _fill(value: Any, level: int, shape: list[int], dtype: tf.DType, leaves: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {json.dumps(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        leaves.append(_leaf(value, dtype))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}")
    for one in value:
        _fill(one, level + 1, shape, dtype, leaves)


def _leaf(value: Any, dtype: tf.DType) -> Any:
    if dtype == tf.string:
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, dict) and not _is_object(value):
            return base64.b64decode(value["b64"])
    elif dtype == tf.bool:
        if isinstance(value, bool):
            return value
    elif isinstance(value, int | float) and not isinstance(value, bool) and (dtype.is_floating or isinstance(value, int)):
        return value
    kinds = {type(None): "Null", bool: str(value), dict: "Object", str: "String"}
    name = {"float32": "float", "float64": "double"}.get(dtype.name, dtype.name)
    raise invalid(f"JSON Value: {json.dumps(value)} Type: {kinds.get(type(value), 'Number')} is not of expected type: {name}")


def answer_of(outputs: Mapping[str, Any], *, by_rows: bool) -> dict[str, Any]:
    """The answer's object. Raises Refused."""
    values = {name: _values(name, np.asarray(tensor)) for name, tensor in outputs.items()}
    if not by_rows:
        return {"outputs": next(iter(values.values())) if len(values) == 1 else values}
    sizes = {}
    for name, tensor in outputs.items():
        if np.asarray(tensor).ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        sizes[name] = len(np.asarray(tensor))
    first = next(iter(sizes.values()))
    for name, size in sizes.items():
        if size != first:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {size} expecting: {first}")
    if len(values) == 1:
        return {"predictions": next(iter(values.values()))}
    return {"predictions": [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]}


def _values(name: str, array: Any) -> Any:
    if array.dtype.kind in "OS":
        if name.endswith("_bytes"):
            return _nested(array, lambda one: {"b64": base64.b64encode(one).decode()})
        return _nested(array, lambda one: one.decode(errors="replace"))
    if array.dtype.kind == "f":
        # The shortest decimal that is this number in its own precision, and not in that of a double.
        return _nested(array, lambda one: float(str(one)))
    return array.tolist()


def _nested(array: Any, write: Any) -> Any:
    return write(array[()]) if array.ndim == 0 else [_nested(one, write) if array.ndim > 1 else write(one) for one in array]
