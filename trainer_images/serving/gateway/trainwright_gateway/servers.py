"""What the gateway knows of each server's own protocol: paths, ports, how it says that a version is ready, and its tensors.

Tensors are read and written here as lists of rows by the tensor's name, whatever the protocol writes them as.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from trainwright_gateway.manifest import Manifest

Tensors = Mapping[str, Any]
_NOT_FINITE = (b"NaN", b"Infinity", b"null")
_V2 = {"float64": "FP64", "float32": "FP32", "int64": "INT64", "int32": "INT32", "bool": "BOOL", "string": "BYTES"}


class Unreadable(ValueError):
    """A body that isn't what the server's protocol has."""


@dataclass(frozen=True)
class Call:
    """A client's request as its path says it. `version` is None where the path leaves it to the gateway."""

    model: str
    version: int | None
    rest: str
    predicts: bool


class Server(Protocol):
    """One server's protocol."""

    name: str
    port: int
    accepts: str

    def call(self, path: str) -> Call | None:
        """None for a path that isn't of this protocol."""

    def path(self, call: Call, version: int) -> str:
        """Where a server has what the call asks of this version."""

    def prediction(self, model: str) -> Call:
        """The call that predicts."""

    def status(self, model: str, version: int) -> str:
        """Where a server says whether a version is ready."""

    def not_ready(self, status: int, body: bytes) -> str | None:
        """Why the version isn't ready, by the answer of `status`; None when it is."""

    def ask(self, inputs: Tensors, manifest: Manifest) -> bytes:
        """The body of a prediction; None among the values is what is missing."""

    def inputs(self, body: bytes, manifest: Manifest) -> Tensors:
        """What a client asked; raises Unreadable."""

    def outputs(self, body: bytes, manifest: Manifest) -> Tensors:
        """What a server answered; raises Unreadable."""


class _ByPattern:
    pattern: ClassVar[re.Pattern[str]]

    def call(self, path: str) -> Call | None:
        if (found := self.pattern.fullmatch(path)) is None:
            return None
        rest = found["rest"]
        return Call(found["model"], int(found["version"]) if found["version"] else None, rest, self._predicts(rest))

    def _predicts(self, rest: str) -> bool:
        raise NotImplementedError


class TfServing(_ByPattern):
    """TensorFlow Serving's REST API."""

    name = "tfserving"
    port = 8501
    accepts = "/v1/models/{model}, /v1/models/{model}/metadata and /v1/models/{model}:predict (:classify, :regress)"
    pattern = re.compile(
        r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>\d{1,18}))?(?P<rest>:(?:predict|classify|regress)|/metadata|)"
    )

    def _predicts(self, rest: str) -> bool:
        return rest.startswith(":")

    def path(self, call: Call, version: int) -> str:
        return f"/v1/models/{call.model}/versions/{version}{call.rest}"

    def prediction(self, model: str) -> Call:
        return Call(model, None, ":predict", True)

    def status(self, model: str, version: int) -> str:
        return f"/v1/models/{model}/versions/{version}"

    def not_ready(self, status: int, body: bytes) -> str | None:
        if status != 200:
            return f"the server doesn't have it ({status}): {_shown(body)}"
        try:
            found = json.loads(body)["model_version_status"][0]
            state, message = found["state"], found["status"].get("error_message")
        except (ValueError, LookupError, TypeError, AttributeError):
            return f"the server's status can't be read: {_shown(body)}"
        return None if state == "AVAILABLE" else f"the server has it in state {state}{f': {message}' if message else ''}"

    def ask(self, inputs: Tensors, manifest: Manifest) -> bytes:
        return _named_rows(inputs, manifest)

    def inputs(self, body: bytes, manifest: Manifest) -> Tensors:
        found = _object(body)
        if "inputs" in found:
            return _named(found["inputs"], list(manifest.inputs))
        rows = found.get("instances")
        if not isinstance(rows, list) or not rows:
            raise Unreadable("there is neither 'inputs' nor 'instances'")
        return _columns(rows, list(manifest.inputs))

    def outputs(self, body: bytes, manifest: Manifest) -> Tensors:
        found = _object(body)
        if "outputs" in found:
            return _named(found["outputs"], list(manifest.outputs))
        rows = found.get("predictions")
        if not isinstance(rows, list) or not rows:
            raise Unreadable("there is neither 'outputs' nor 'predictions'")
        return _columns(rows, list(manifest.outputs))


class TorchServe(_ByPattern):
    """TorchServe with the handler that our publisher packs."""

    name = "torchserve"
    port = 8080
    accepts = "/predictions/{model}"
    pattern = re.compile(r"/predictions/(?P<model>[^/]+)(?:/(?P<version>\d{1,18}))?(?P<rest>)")

    def _predicts(self, rest: str) -> bool:
        return not rest

    def path(self, call: Call, version: int) -> str:  # noqa: ARG002 - its Deployment has one version
        return f"/predictions/{call.model}"

    def prediction(self, model: str) -> Call:
        return Call(model, None, "", True)

    def status(self, model: str, version: int) -> str:  # noqa: ARG002
        return "/ping"

    def not_ready(self, status: int, body: bytes) -> str | None:
        if status != 200:
            return f"/ping is answered with {status}: {_shown(body)}"
        # With some workers gone it says so and still answers 200.
        return None if b"Healthy" in body and b"Unhealthy" not in body else f"/ping says {_shown(body)}"

    def ask(self, inputs: Tensors, manifest: Manifest) -> bytes:
        return _named_rows(inputs, manifest)

    def inputs(self, body: bytes, manifest: Manifest) -> Tensors:
        return _named(_object(body).get("inputs"), list(manifest.inputs))

    def outputs(self, body: bytes, manifest: Manifest) -> Tensors:
        return _named(_object(body).get("outputs"), list(manifest.outputs))


class Sklearn(_ByPattern):
    """The Open Inference Protocol, a tensor a column."""

    name = "sklearn"
    port = 8080
    accepts = "/v2/models/{model}, /v2/models/{model}/ready and /v2/models/{model}/infer"
    pattern = re.compile(r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>\d{1,18}))?(?P<rest>/infer|/ready|)")

    def _predicts(self, rest: str) -> bool:
        return rest == "/infer"

    def path(self, call: Call, version: int) -> str:  # noqa: ARG002 - its Deployment has one version
        return f"/v2/models/{call.model}{call.rest}"

    def prediction(self, model: str) -> Call:
        return Call(model, None, "/infer", True)

    def status(self, model: str, version: int) -> str:  # noqa: ARG002
        return f"/v2/models/{model}/ready"

    def not_ready(self, status: int, body: bytes) -> str | None:
        return None if status == 200 else f"the server isn't ready ({status}): {_shown(body)}"

    def ask(self, inputs: Tensors, manifest: Manifest) -> bytes:
        """JSON proper has no NaN: a number that is missing is null."""
        tensors = []
        for name, values in inputs.items():
            datatype = _V2.get(manifest.inputs[name].dtype, "BYTES") if name in manifest.inputs else _guessed(values)
            data = ["" if one is None else str(one) for one in values] if datatype == "BYTES" else values
            tensors.append({"name": name, "shape": [len(values)], "datatype": datatype, "data": data})
        return json.dumps({"inputs": tensors}, ensure_ascii=False).encode()

    def inputs(self, body: bytes, manifest: Manifest) -> Tensors:  # noqa: ARG002 - they are named
        return _v2(_object(body).get("inputs"))

    def outputs(self, body: bytes, manifest: Manifest) -> Tensors:  # noqa: ARG002
        return _v2(_object(body).get("outputs"))


BY_NAME: dict[str, Server] = {one.name: one for one in (TfServing(), TorchServe(), Sklearn())}


def not_finite(body: bytes) -> bool:
    """Whether an answer has NaN or infinity in its outputs. MLServer writes null for both.

    Looking for the words is quick; only an answer that has one of them is parsed.
    """
    if not any(word in body for word in _NOT_FINITE):
        return False
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if isinstance(found, dict):
        found = found.get("outputs", found.get("predictions", found))
    stack = [found]
    while stack:
        match stack.pop():
            case list() as items:
                stack += items
            case dict() as fields:
                # Of a V2 tensor, all but its data may be null.
                stack += [fields["data"]] if "data" in fields and "datatype" in fields else fields.values()
            case None:
                return True
            case float() as number if not math.isfinite(number):
                return True
    return False


def _named_rows(inputs: Tensors, manifest: Manifest) -> bytes:
    rows = {}
    for name, values in inputs.items():
        is_text = name in manifest.inputs and manifest.inputs[name].dtype == "string"
        rows[name] = _filled(values, "" if is_text else math.nan)
    return json.dumps({"inputs": rows}, ensure_ascii=False).encode()


def _filled(value: Any, missing: Any) -> Any:
    if isinstance(value, list):
        return [_filled(one, missing) for one in value]
    return missing if value is None else value


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Unreadable("no JSON object")
    return found


def _named(found: Any, names: list[str]) -> Tensors:
    """Tensors by name; one alone may come without its name."""
    if isinstance(found, dict) and found:
        return found
    if isinstance(found, list) and len(names) == 1:
        return {names[0]: found}
    raise Unreadable("there are no tensors by name")


def _columns(rows: list[Any], names: list[str]) -> Tensors:
    if isinstance(rows[0], dict):
        try:
            return {name: [row[name] for row in rows] for name in rows[0]}
        except (KeyError, TypeError):
            raise Unreadable("rows don't have the same tensors") from None
    return _named(rows, names)


def _v2(found: Any) -> Tensors:
    if not isinstance(found, list) or not found:
        raise Unreadable("there is no list of tensors")
    tensors: dict[str, Any] = {}
    for one in found:
        try:
            name, shape, data = one["name"], one["shape"], one["data"]
            rows = int(shape[0])
            flat = _flat(data)
            width = math.prod(map(int, shape[1:]))
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise Unreadable(f"a tensor can't be read: {error!r}") from None
        if rows < 0 or len(flat) != rows * width:
            raise Unreadable(f"tensor {name!r} has {len(flat)} values, its shape says {shape}")
        tensors[str(name)] = flat if width == 1 else [flat[row * width : (row + 1) * width] for row in range(rows)]
    return tensors


def _flat(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise TypeError("'data' is no list")
    return [one for part in data for one in _flat(part)] if data and isinstance(data[0], list) else data


def _guessed(values: list[Any]) -> str:
    return "FP64" if all(isinstance(one, int | float | None) for one in values) else "BYTES"


def _shown(body: bytes) -> str:
    return " ".join(body[:200].decode(errors="replace").split()) or "no words"
