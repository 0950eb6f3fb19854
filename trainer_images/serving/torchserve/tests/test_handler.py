"""The handler by itself, outside of TorchServe: what it takes, what it refuses, and that one request can't spoil another."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import pytest

from conftest import answers, load_handler, rows


class Context:
    """What a handler uses of TorchServe's."""

    def __init__(self, folder: Path) -> None:
        self.system_properties = {"model_dir": str(folder), "gpu_id": None}
        self.status: dict[int, int] = {}

    def set_response_status(self, *, code: int, phrase: str, idx: int) -> None:
        self.status[idx] = code

    def set_response_content_type(self, idx: int, value: str) -> None:
        assert value == "application/json"


class Asked:
    """A handler that has loaded a model."""

    def __init__(self, folder: Path) -> None:
        self._module, self._context = load_handler(), Context(folder)
        assert self._module["handle"](None, self._context) is None

    def __call__(self, *bodies: Any) -> list[tuple[int, dict[str, Any]]]:
        self._context.status.clear()
        data = [{"body": body if isinstance(body, bytes) else json.dumps(body).encode()} for body in bodies]
        found = self._module["handle"](data, self._context)
        return [(self._context.status.get(place, 200), json.loads(one)) for place, one in enumerate(found)]


@pytest.fixture
def asked(published: tuple[Path, str], tmp_path: Path) -> Asked:
    """With the very archive that the publisher made."""
    with zipfile.ZipFile(published[0] / "versions/1/model.mar") as archive:
        archive.extractall(tmp_path / "extracted")
    return Asked(tmp_path / "extracted")


def test_each_request_of_a_batch_gets_its_own_rows(asked: Asked) -> None:
    requests = [rows(3), rows(1, 7), rows(5, 2)]
    for (status, answer), inputs in zip(asked(*({"inputs": one} for one in requests)), requests, strict=True):
        assert status == 200
        expected = answers(inputs)
        assert answer["outputs"]["logits"] == [pytest.approx(row, rel=1e-5) for row in expected]
        assert answer["classes"] == [["benign", "malignant"][row.index(max(row))] for row in expected]


def test_one_bad_request_is_told_and_the_others_are_answered(asked: Asked) -> None:
    unknown_word = {**rows(2), "words": [[0], [99]]}
    ragged = {**rows(2), "numbers": [[1, 2, 3], [4]]}
    found = asked({"inputs": rows(2)}, {"inputs": ragged}, {"inputs": unknown_word}, {"inputs": rows(1, 3)})
    assert [status for status, _ in found] == [200, 400, 500, 200]
    assert found[2][1]["error"].startswith("the model failed: IndexError")
    assert found[3][1]["outputs"]["logits"] == [pytest.approx(answers(rows(1, 3))[0], rel=1e-5)]


def test_a_tensor_of_no_columns_need_not_be_given(asked: Asked) -> None:
    inputs = rows(2)
    del inputs["none"]
    assert asked({"inputs": inputs})[0][0] == 200


def test_nan_goes_in_and_out(asked: Asked) -> None:
    everything = [[1.0, float("inf"), float("-inf")], [1, 2, float("nan")], [float("inf"), 0, 0]]
    status, answer = asked({"inputs": {**rows(3), "numbers": everything}})[0]
    logits = answer["outputs"]["logits"]
    assert status == 200
    assert [all(map(math.isfinite, row)) for row in logits] == [False, True, False]
    for row, label in zip(logits, answer["classes"], strict=True):
        assert (label is None) == any(map(math.isnan, row))


NUMBERS = "float32 of shape [rows, 3]"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "the body is no JSON"),
        (b"[1]", 'not of the form {"inputs": {"numbers": [rows], "words": [rows], "none": [rows]}}, sent as application/json'),
        ({"instances": []}, "not of the form"),
        ({"inputs": {"numbers": [[1, 2, 3]]}}, "tensor 'words' is missing; wanted is int64 of shape [rows, 1]"),
        ({"inputs": {**rows(1), "letters": []}}, "there is no tensor 'letters'; accepted: numbers, words, none"),
        ({"inputs": {**rows(1), "numbers": 5}}, f"tensor 'numbers' is int, not a list of rows; wanted is {NUMBERS}"),
        ({"inputs": {**rows(1), "numbers": [1, 2, 3]}}, f"tensor 'numbers' has shape [3]; wanted is {NUMBERS}"),
        ({"inputs": {**rows(1), "numbers": [[1, 2]]}}, f"tensor 'numbers' has shape [1, 2]; wanted is {NUMBERS}"),
        (
            {"inputs": {**rows(2), "numbers": [[1, 2, 3], [1, 2]]}},
            f"tensor 'numbers' is ragged: row 0 has 3 values, and row 1 has 2 values; wanted is {NUMBERS}",
        ),
        (
            {"inputs": {**rows(2), "numbers": [[1, 2, [3]], [1, 2, 3]]}},
            "tensor 'numbers' is ragged: row 0.0 has no list, and row 0.2 has",
        ),
        ({"inputs": {**rows(1), "numbers": [[1, 2, "3"]]}}, f"tensor 'numbers' has the value \"3\"; wanted is {NUMBERS}"),
        ({"inputs": {**rows(1), "numbers": [[True, False, True]]}}, "tensor 'numbers' has the value true"),
        ({"inputs": {**rows(1), "words": [[1.5]]}}, "tensor 'words' has the value 1.5; wanted is int64"),
        ({"inputs": {**rows(1), "words": [[None]]}}, "tensor 'words' has the value null; wanted is int64"),
        ({"inputs": {**rows(1), "words": [[2**70]]}}, "beyond what int64 holds"),
        ({"inputs": {**rows(1), "words": [[float("nan")]]}}, "tensor 'words' has the value NaN"),
        ({"inputs": {**rows(1), "numbers": [[1, 2, 3]] * 2}}, "tensor 'words' has 1 rows, and 'numbers' has 2"),
        ({"inputs": {"numbers": [], "words": []}}, "tensor 'numbers' has"),
    ],
)
def test_what_is_wrong_is_said(asked: Asked, body: Any, said: str) -> None:
    (status, answer), (other, _) = asked(body, {"inputs": rows(1)})
    assert (status, other) == (400, 200)
    assert said in answer["error"]
