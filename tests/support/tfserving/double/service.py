"""What requests ask for, whichever protocol they came by: run a signature, say what there is, count it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from double import tensors
from double.models import Loaded, Models
from double.status import Code, Refused, invalid

DEFAULT_SIGNATURE = "serving_default"
PREDICT = "tensorflow/serving/predict"
BUCKETS = [10 * 1.8**power for power in range(30)]
"""Microseconds."""


class Service:
    """Answers requests by the models that are loaded."""

    def __init__(self, models: Models) -> None:
        self.models = models
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._latency: dict[tuple[str, str], list[float]] = {}

    async def predict_json(self, name: str, number: int | None, label: str | None, body: bytes) -> dict[str, Any]:
        """Raises Refused."""
        request = tensors.parse(body)
        _, version = self.models.find(name, number, label)
        assert version.loaded is not None
        signature = signature_of(version.loaded, request.get("signature_name", ""))
        inputs, by_rows = tensors.inputs_of(request, signature.inputs)
        _, outputs = await self.predict(name, number, label, request.get("signature_name", ""), inputs, protocol="REST")
        return tensors.answer_of(outputs, by_rows=by_rows)

    async def predict(
        self, name: str, number: int | None, label: str | None, signature_name: str, inputs: Mapping[str, Any], *, protocol: str
    ) -> tuple[int, dict[str, Any]]:
        """The version that answered, and its outputs by name. Raises Refused."""
        began, status = time.perf_counter(), "OK"
        number, version = self.models.find(name, number, label)
        version.running += 1
        try:
            assert version.loaded is not None
            require_inputs(signature_of(version.loaded, signature_name), inputs)
            function = version.loaded.functions[signature_name or DEFAULT_SIGNATURE]
            return number, await asyncio.to_thread(function, **inputs)
        except (tf.errors.OpError, ValueError, TypeError) as error:
            status = "INVALID_ARGUMENT"
            raise invalid(str(error)) from None
        except Refused as refused:
            status = refused.code.name
            raise
        finally:
            version.running -= 1
            self._requests[name, status, protocol] += 1
            self._latency.setdefault((name, protocol), []).append((time.perf_counter() - began) * 1e6)

    def signatures(self, name: str, number: int | None, label: str | None) -> tuple[int, dict[str, Any]]:
        """The version, and its SignatureDefs by name. Raises Refused."""
        number, version = self.models.find(name, number, label)
        assert version.loaded is not None
        return number, version.loaded.signatures

    def page(self) -> str:
        """In Prometheus's text format, by the names that TensorFlow Serving has."""
        lines = ["# TYPE :tensorflow:serving:request_count counter"]
        counts: Counter[tuple[str, str]] = Counter()
        for (name, status, _), count in self._requests.items():
            counts[name, status] += count
        lines += [
            f':tensorflow:serving:request_count{{model_name="{name}",status="{status}"}} {count}'
            for (name, status), count in counts.items()
        ]
        lines.append("# TYPE :tensorflow:serving:request_latency histogram")
        for (name, protocol), seen in self._latency.items():
            labels = f'model_name="{name}",API="predict",entrypoint="{protocol}"'
            for bound in BUCKETS:
                within = sum(value <= bound for value in seen)
                lines.append(f':tensorflow:serving:request_latency_bucket{{{labels},le="{bound:g}"}} {within}')
            lines.append(f':tensorflow:serving:request_latency_bucket{{{labels},le="+Inf"}} {len(seen)}')
            lines.append(f":tensorflow:serving:request_latency_sum{{{labels}}} {sum(seen):g}")
            lines.append(f":tensorflow:serving:request_latency_count{{{labels}}} {len(seen)}")
        lines.append("# TYPE :tensorflow:cc:saved_model:load_attempt_count counter")
        lines += [
            f':tensorflow:cc:saved_model:load_attempt_count{{model_path="{path}",status="{status}"}} {count}'
            for (path, status), count in self.models.load_attempts.items()
        ]
        return "\n".join(lines) + "\n"


def signature_of(loaded: Loaded, name: str) -> Any:
    """Raises Refused."""
    wanted = name or DEFAULT_SIGNATURE
    if wanted not in loaded.signatures:
        raise invalid(f'Serving signature name: "{wanted}" not found in signature def')
    return loaded.signatures[wanted]


def require_inputs(signature: Any, given: Mapping[str, Any]) -> None:
    """Raises Refused unless these are the signature's inputs, by name and type."""
    wanted, there = set(signature.inputs), set(given)
    if len(wanted) != len(there):
        raise invalid(
            f"input size does not match signature: {len(there)}!={len(wanted)} len({{{','.join(sorted(there))}}}) != "
            f"len({{{','.join(sorted(wanted))}}}). Sent extra: {{{','.join(sorted(there - wanted))}}}. "
            f"Missing but required: {{{','.join(sorted(wanted - there))}}}."
        )
    for name in there:
        if name not in wanted:
            raise invalid(
                f"input tensor alias not found in signature: {name}. Inputs expected to be in the set {{{','.join(sorted(wanted))}}}."
            )
        expected = tf.dtypes.as_dtype(signature.inputs[name].dtype)
        if given[name].dtype != expected:
            raise invalid(f"Expects {name} to be {expected.name} but {given[name].dtype.name} is provided")


def require_method(signature: Any, method: str) -> None:
    """Raises Refused: only signatures for predict are run here."""
    wanted = f"tensorflow/serving/{method}"
    kind = {"classify": "classification", "regress": "regression"}[method]
    if signature.method_name != wanted:
        raise invalid(f"Expected {kind} signature method_name to be {wanted}. Was: {signature.method_name}")
    raise Refused(Code.UNIMPLEMENTED, f"this double of TensorFlow Serving does not run signatures for {method}")
