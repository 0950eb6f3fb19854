"""The gRPC services: prediction, metadata, status."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from conftest import Serving


def request_for(model: str = "plus", *, number: int | None = None, label: str | None = None, **inputs: Any) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    if number is not None:
        request.model_spec.version.value = number
    if label is not None:
        request.model_spec.version_label = label
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def refused(call: Any, request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call(request, timeout=30)
    return raised.value.code(), raised.value.details()


X = np.array([[1, 2]], dtype=np.float32)


@pytest.mark.parametrize(("which", "version"), [({}, 2), ({"number": 1}, 1), ({"label": "stable"}, 1), ({"label": "canary"}, 2)])
def test_the_answer_says_which_version_it_is_of(serving: Serving, which: dict[str, Any], version: int) -> None:
    response = serving.predictions.Predict(request_for(x=X, **which), timeout=30)
    assert (response.model_spec.name, response.model_spec.version.value) == ("plus", version)
    assert response.model_spec.signature_name == "serving_default"
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["y"]), X + version)


def test_outputs_can_be_chosen(serving: Serving) -> None:
    request = request_for("named", numbers=X, words=np.array([b"a"]), counts=np.array([3], dtype=np.int64))
    request.output_filter.append("twice")
    response = serving.predictions.Predict(request, timeout=30)
    assert set(response.outputs) == {"twice"}
    assert tf.make_ndarray(response.outputs["twice"]).tolist() == [6]


def test_what_is_wrong_is_said(serving: Serving) -> None:
    predict = serving.predictions.Predict
    assert refused(predict, request_for("nope", x=X)) == (
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Latest(nope)",
    )
    assert refused(predict, request_for(number=9, x=X))[0] == grpc.StatusCode.NOT_FOUND
    assert refused(predict, request_for(label="gold", x=X)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "Unrecognized servable version label: gold",
    )
    code, said = refused(predict, request_for())
    assert (code, said) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
    )
    code, said = refused(predict, request_for(z=X))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "input tensor alias not found in signature: z" in said
    assert refused(predict, request_for(x=X.astype(np.int64)))[0] == grpc.StatusCode.INVALID_ARGUMENT


def test_status_and_metadata(serving: Serving) -> None:
    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.name = "plus"
    found = serving.models.GetModelStatus(asked, timeout=30).model_version_status
    assert [(one.version, one.state, one.status.error_code) for one in found] == [(2, 30, 0), (1, 30, 0)]
    asked.model_spec.name = "nope"
    assert refused(serving.models.GetModelStatus, asked)[0] == grpc.StatusCode.NOT_FOUND
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "named"
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert serving.predictions.GetModelMetadata(request, timeout=30).metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def["serving_default"].inputs) == {"numbers", "words", "counts"}
    request.metadata_field[:] = ["weather"]
    assert refused(serving.predictions.GetModelMetadata, request)[0] == grpc.StatusCode.INVALID_ARGUMENT
