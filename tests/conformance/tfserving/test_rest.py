"""The REST API: what is answered, and with which words a request is refused."""

from __future__ import annotations

import base64
import math
from typing import Any

import pytest

from conftest import Serving

ROWS = {"instances": [[1.0, 2.0], [3.0, 4.0]]}
NAMED = {"numbers": [[1, 2], [3, 4]], "words": ["ä", {"b64": base64.b64encode(b"\x00b").decode()}], "counts": [1, 2]}


def refused(answer: tuple[int, Any]) -> tuple[int, str]:
    status, content = answer
    assert set(content) == {"error"}, content
    return status, content["error"]


def test_rows_give_rows_and_columns_give_columns(serving: Serving) -> None:
    assert serving.predict(ROWS) == (200, {"predictions": [[3.0, 4.0], [5.0, 6.0]]})
    assert serving.predict({"inputs": ROWS["instances"]}) == (200, {"outputs": [[3.0, 4.0], [5.0, 6.0]]})
    assert serving.predict({"inputs": {"x": ROWS["instances"]}})[1] == {"outputs": [[3.0, 4.0], [5.0, 6.0]]}
    assert serving.predict({"instances": [{"x": [1.0, 2.0]}]})[1] == {"predictions": [[3.0, 4.0]]}


@pytest.mark.parametrize(
    ("which", "added"), [("", 2), ("/versions/1", 1), ("/versions/2", 2), ("/labels/stable", 1), ("/labels/canary", 2)]
)
def test_a_request_says_which_version_is_meant(serving: Serving, which: str, added: int) -> None:
    assert serving.predict({"instances": [[0, 0]]}, which=which) == (200, {"predictions": [[added, added]]})


def test_each_type_has_its_form(serving: Serving) -> None:
    status, answer = serving.predict({"inputs": NAMED}, "named")
    assert status == 200
    outputs = answer["outputs"]
    assert outputs["total"] == [0.3, 0.7], "the shortest decimal, and not that of a double"
    assert outputs["shout"][0] == "ä"
    assert [base64.b64decode(one["b64"]) for one in outputs["raw_bytes"]] == ["ä".encode(), b"\x00b"]
    assert (outputs["twice"], outputs["many"]) == ([2, 4], [False, True])
    rows = [dict(zip(NAMED, row, strict=True)) for row in zip(*NAMED.values(), strict=True)]
    assert serving.predict({"instances": rows}, "named")[1]["predictions"][1]["twice"] == 4


def test_nan_and_infinity_go_in_and_out(serving: Serving) -> None:
    status, answer = serving.predict(b'{"instances": [[NaN, Infinity], [-Infinity, 1]]}')
    assert status == 200
    assert math.isnan(answer["predictions"][0][0])
    assert answer["predictions"][0][1] == math.inf
    assert answer["predictions"][1] == [-math.inf, 3.0]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "JSON Parse error"),
        (b"{", "JSON Parse error"),
        ([1], "Is not object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({**ROWS, "inputs": []}, "expecting only one of 'inputs' or 'instances'"),
        ({"instances": 5}, "'instances' to be an list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"instances": [[1.0, None]]}, "Type: Null is not of expected type: float"),
        ({"instances": [[1.0, "2"]]}, "Type: String is not of expected type: float"),
        ({"instances": [[1.0, True]]}, "is not of expected type: float"),
        ({"instances": [[1, 2], [3]]}, "Expecting"),
        ({"inputs": [[1, 2], [3]]}, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ({"instances": [{"z": [1, 2]}]}, "does not have named input: z"),
        ({"inputs": {"z": [[1, 2]]}}, "Missing named input: x in 'inputs' object."),
        ({**ROWS, "signature_name": 5}, "'signature_name' key must be a string value."),
        ({**ROWS, "signature_name": "other"}, 'Serving signature name: "other" not found in signature def'),
    ],
)
def test_what_can_not_be_read_is_said(serving: Serving, body: Any, said: str) -> None:
    status, error = refused(serving.predict(body))
    assert status == 400
    assert said in error


def test_a_wrong_width_is_an_error_of_the_clients(serving: Serving) -> None:
    assert refused(serving.predict({"instances": [[1, 2, 3]]}))[0] == 400
    assert refused(serving.predict({"inputs": {**NAMED, "counts": [1.5, 2]}}, "named")) == (
        400,
        "JSON Value: 1.5 Type: Number is not of expected type: int64",
    )
    assert "multiple input tensors required" in refused(serving.predict({"instances": [1]}, "named"))[1]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/models/nope:predict", (404, "Servable not found for request: Latest(nope)")),
        ("/v1/models/plus/versions/9:predict", (404, "Servable not found for request: Specific(plus, 9)")),
        ("/v1/models/plus/labels/gold:predict", (400, "Unrecognized servable version label: gold")),
        ("/v1/models/plus:guess", (400, "Malformed request: POST /v1/models/plus:guess")),
        ("/v1/models/plus", (400, "Malformed request: POST /v1/models/plus")),
    ],
)
def test_what_is_not_there_can_not_be_asked(serving: Serving, path: str, expected: tuple[int, str]) -> None:
    assert refused(serving.post(path, ROWS)) == expected


@pytest.mark.parametrize("method", ["classify", "regress"])
def test_a_signature_for_predict_does_nothing_else(serving: Serving, method: str) -> None:
    status, error = refused(serving.post(f"/v1/models/plus:{method}", {"examples": [{"x": [1.0, 2.0]}]}))
    assert status == 400
    assert f"signature method_name to be tensorflow/serving/{method}. Was: tensorflow/serving/predict" in error


def test_status_lists_the_newest_first(serving: Serving) -> None:
    def entry(number: int) -> dict[str, Any]:
        return {"version": str(number), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}

    assert serving.get("/v1/models/plus") == (200, {"model_version_status": [entry(2), entry(1)]})
    assert serving.get("/v1/models/plus/versions/1") == (200, {"model_version_status": [entry(1)]})
    assert serving.get("/v1/models/plus/labels/canary") == (200, {"model_version_status": [entry(2)]})


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/models/nope", (404, "Could not find any versions of model nope")),
        ("/v1/models/plus/versions/9", (404, "Could not find version 9 of model plus")),
        ("/v1/models/plus/labels/gold", (400, "Unrecognized servable version label: gold")),
        ("/v1/models", (400, "Missing model name in request.")),
        ("/v1/nothing", (400, "Malformed request: GET /v1/nothing")),
    ],
)
def test_status_of_what_is_not_there(serving: Serving, path: str, expected: tuple[int, str]) -> None:
    assert refused(serving.get(path)) == expected


def test_metadata_says_what_a_signature_takes(serving: Serving) -> None:
    status, answer = serving.get("/v1/models/plus/versions/1/metadata")
    assert status == 200
    assert answer["model_spec"]["name"] == "plus"
    assert answer["model_spec"]["version"] == "1"
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert [one["size"] for one in signature["inputs"]["x"]["tensor_shape"]["dim"]] == ["-1", "2"]


def test_metrics_count_requests(serving: Serving) -> None:
    serving.predict(ROWS)
    status, text = serving.get("/monitoring/prometheus/metrics")
    assert status == 200
    assert ':tensorflow:serving:request_count{model_name="plus",status="OK"}' in text
    assert ":tensorflow:serving:request_latency_bucket{" in text
