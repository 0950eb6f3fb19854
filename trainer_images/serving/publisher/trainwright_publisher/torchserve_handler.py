"""How TorchServe answers with a model of Trainwright's. This file lies in every archive; it needs torch, numpy and itself.

A request is `{"inputs": {tensor: rows}}`; the answer `{"outputs": {tensor: rows}}`, and `classes` where the model has them.
Requests that TorchServe hands over together are run as one batch. What is wrong with one is told to that one only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

MANIFEST = "manifest.json"
MODEL = "model.pt2"
JSON = "application/json"


class BadRequest(Exception):
    """The request can't be answered; the message says which tensor, what it must be, and what it is."""


class Model:
    """An exported program, and what its manifest says of it."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        signature = json.loads((folder / MANIFEST).read_text())["signature"]
        self.inputs: list[dict[str, Any]] = signature["inputs"]
        self.outputs: list[dict[str, Any]] = signature["outputs"]
        self.classes: list[str] = signature.get("classes") or []
        self._device = torch.device(device)
        program = torch.export.load(folder / MODEL)
        self._module = program.module().to(self._device)

    def parse(self, body: Any) -> list[Any]:
        """A request's tensors, numpy, in the order in which the model takes them. Raises BadRequest."""
        given = _tensors(body, [tensor["name"] for tensor in self.inputs])
        arrays = [_array(tensor, given) for tensor in self.inputs]
        named = [(tensor["name"], len(array)) for tensor, array in zip(self.inputs, arrays, strict=True) if array is not None]
        first, rows = named[0] if named else ("inputs", 0)
        for name, count in named:
            if count != rows:
                raise BadRequest(f"tensor {name!r} has {count} rows, and {first!r} has {rows}; accepted: as many in each")
        if rows == 0:
            raise BadRequest(f"tensor {first!r} has no rows; accepted: at least one")
        return [
            np.zeros((rows, *tensor["shape"][1:]), dtype=tensor["dtype"]) if array is None else array
            for tensor, array in zip(self.inputs, arrays, strict=True)
        ]

    def run(self, requests: Sequence[list[Any]]) -> list[dict[str, Any]]:
        """The answer to each request, all of them run as one batch."""
        columns = [np.concatenate(arrays) for arrays in zip(*requests, strict=True)]
        with torch.inference_mode():
            found = self._module(*[torch.from_numpy(column).to(self._device) for column in columns])
        tensors = list(found.values()) if isinstance(found, dict) else [found] if isinstance(found, torch.Tensor) else list(found)
        arrays = [tensor.float().cpu().numpy() if tensor.is_floating_point() else tensor.cpu().numpy() for tensor in tensors]
        answers, start = [], 0
        for arrays_in in requests:
            end = start + len(arrays_in[0])
            answers.append(self._answer([array[start:end] for array in arrays]))
            start = end
        return answers

    def _answer(self, arrays: list[Any]) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "outputs": {tensor["name"]: array.tolist() for tensor, array in zip(self.outputs, arrays, strict=True)}
        }
        first = arrays[0]
        if self.classes and first.ndim == 2 and first.shape[1] == len(self.classes):
            answer["classes"] = [
                None if math.isnan(row.max()) else self.classes[place]
                for row, place in zip(first, first.argmax(axis=1), strict=True)
            ]
        return answer


_loaded: list[Model] = []


def handle(data: Sequence[dict[str, Any]] | None, context: Any) -> list[str] | None:
    """What TorchServe calls: once a worker without data, and then with each batch. One answer a request, as JSON; the status of
    each is told to `context`.
    """
    if data is None:
        properties = context.system_properties
        gpu = properties.get("gpu_id")
        device = f"cuda:{gpu}" if gpu is not None and torch.cuda.is_available() else "cpu"
        _loaded[:] = [Model(Path(properties["model_dir"]), device)]
        return None
    (model,) = _loaded
    answers: list[Any] = [None] * len(data)
    parsed: dict[int, list[Any]] = {}
    for place, request in enumerate(data):
        context.set_response_content_type(place, JSON)
        try:
            parsed[place] = model.parse(request.get("body", request.get("data")))
        except BadRequest as fault:
            answers[place] = _refuse(context, place, 400, str(fault))
    for place, answer in _answers(model, parsed).items():
        if isinstance(answer, Exception):
            said = f"{type(answer).__name__}: {' '.join(str(answer).split())}"[:400]
            answers[place] = _refuse(context, place, 500, f"the model failed: {said}")
        else:
            answers[place] = answer
    # NaN is written as it is: who watches a model looks for it.
    return [json.dumps(answer) for answer in answers]


def _answers(model: Model, parsed: dict[int, list[Any]]) -> dict[int, Any]:
    if not parsed:
        return {}
    try:
        return dict(zip(parsed, model.run(list(parsed.values())), strict=True))
    except Exception as error:
        if len(parsed) == 1:
            return dict.fromkeys(parsed, error)
    # One of them may have spoilt it for the others.
    answers: dict[int, Any] = {}
    for place, arrays in parsed.items():
        answers |= _answers(model, {place: arrays})
    return answers


def _refuse(context: Any, place: int, code: int, message: str) -> dict[str, Any]:
    context.set_response_status(code=code, phrase="Bad Request" if code == 400 else "Internal Server Error", idx=place)
    return {"code": code, "error": message}


def _tensors(body: Any, names: list[str]) -> dict[str, Any]:
    if isinstance(body, bytes | bytearray | str):
        try:
            body = json.loads(body)
        except ValueError as error:
            raise BadRequest(f"the body is no JSON: {error}") from None
    form = '{"inputs": {' + ", ".join(f'"{name}": [rows]' for name in names) + "}}"
    if not isinstance(body, dict) or set(body) != {"inputs"} or not isinstance(body["inputs"], dict):
        raise BadRequest(f"the body is not of the form {form}, sent as {JSON}")
    given: dict[str, Any] = body["inputs"]
    if unknown := sorted(set(given) - set(names)):
        raise BadRequest(f"there is no tensor {unknown[0]!r}; accepted: {', '.join(names)}")
    return given


def _array(tensor: dict[str, Any], given: dict[str, Any]) -> Any:
    """The rows of one tensor; None for one that has no columns and needn't be given."""
    name, dtype, shape = tensor["name"], tensor["dtype"], tensor["shape"]
    wanted = f"{dtype} of shape [{', '.join(['rows', *map(str, shape[1:])])}]"
    if name not in given:
        if 0 in shape[1:]:
            return None
        raise BadRequest(f"tensor {name!r} is missing; wanted is {wanted}")
    rows = given[name]
    _require_even(name, rows, wanted)
    plain = np.asarray(rows)
    if plain.size:
        _require_kind(name, rows, plain, dtype, wanted)
    if plain.ndim != len(shape) or any(have != want for have, want in zip(plain.shape[1:], shape[1:], strict=True) if want != -1):
        raise BadRequest(f"tensor {name!r} has shape {list(plain.shape)}; wanted is {wanted}")
    with np.errstate(over="ignore"):
        return plain.astype(dtype)


def _require_kind(name: str, rows: Any, plain: Any, dtype: str, wanted: str) -> None:
    """Numbers, whole ones where those are wanted; for a tensor of floats also null, which stands for a missing one."""
    is_float = np.issubdtype(np.dtype(dtype), np.floating)
    if plain.dtype.kind in ("iuf" if is_float else "i"):
        return
    for value in _leaves(rows):
        if value is None and is_float:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not (is_float or float(value).is_integer()):
            raise BadRequest(f"tensor {name!r} has the value {json.dumps(value)}; wanted is {wanted}")
        if not is_float and not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
            raise BadRequest(f"tensor {name!r} has the value {value}, beyond what {dtype} holds")


def _leaves(rows: Any) -> Iterator[Any]:
    if isinstance(rows, list):
        for row in rows:
            yield from _leaves(row)
    else:
        yield rows


def _require_even(name: str, rows: Any, wanted: str) -> None:
    if not isinstance(rows, list):
        raise BadRequest(f"tensor {name!r} is {type(rows).__name__}, not a list of rows; wanted is {wanted}")
    try:
        np.asarray(rows)
    except ValueError:
        raise BadRequest(f"tensor {name!r} is ragged: {_ragged(rows)}; wanted is {wanted}") from None


def _ragged(rows: list[Any], place: str = "") -> str:
    """Where a nested list is uneven, in words."""
    sizes = [len(row) if isinstance(row, list) else None for row in rows]
    for index, size in enumerate(sizes):
        if size != sizes[0]:
            first, other = (f"{one} values" if one is not None else "no list" for one in (sizes[0], size))
            return f"row {place}0 has {first}, and row {place}{index} has {other}"
    for index, row in enumerate(rows):
        if isinstance(row, list):
            try:
                np.asarray(row)
            except ValueError:
                return _ragged(row, f"{place}{index}.")
    return "its rows differ"
