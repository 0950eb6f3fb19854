"""A real MLServer with a published pipeline: what it answers, what it refuses, and how it ends."""

from __future__ import annotations

import json
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from launching import wait_for
from serving import Server, publish
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

from conftest import COMMAND, dumped, make_artifact, pipeline, samples_of, table, tensors

READY = "/v2/models/tumours/ready"
INFER = "/v2/models/tumours/infer"
REFUSED = 3


@pytest.fixture(scope="module")
def serving(model: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that batches, for the tests that only ask."""
    folder = tmp_path_factory.mktemp("serving")
    record = publish(make_artifact(folder / "artifact", model), folder / "models", server="sklearn")
    server = Server(COMMAND, folder / "models", record, TRAINWRIGHT_BATCH_SIZE="8", TRAINWRIGHT_BATCH_DELAY_MS="20")
    server.wait_until_ready(READY)
    yield server
    server.end()


def outputs(answer: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one for one in answer["outputs"]}


@pytest.mark.parametrize("form", ["skops", "joblib"])
def test_both_forms_answer_the_trainers_samples(model: Pipeline, tmp_path: Path, start: Callable[..., Server], form: str) -> None:
    models = tmp_path / "models"
    server = start(models, publish(make_artifact(tmp_path / "artifact", model, form), models, server="sklearn"))
    server.wait_until_ready(READY)
    status, answer = server.post(INFER, tensors(table(20)))
    found, expected = outputs(answer), samples_of(models)["outputs"]
    assert status == 200
    assert found["prediction"] == {"name": "prediction", "shape": [20], "datatype": "BYTES", "data": expected["prediction"]}
    assert found["probabilities"]["shape"] == [20, 2]
    assert found["probabilities"]["data"] == pytest.approx([value for row in expected["probabilities"] for value in row])


def test_a_regression_answers_numbers(tmp_path: Path, start: Callable[..., Server]) -> None:
    model, models = pipeline(LinearRegression()), tmp_path / "models"
    server = start(models, publish(make_artifact(tmp_path / "artifact", model), models, server="sklearn"))
    server.wait_until_ready(READY)
    found = outputs(server.post(INFER, tensors(table(4)))[1])
    assert set(found) == {"prediction"}
    assert found["prediction"]["datatype"] == "FP64"
    assert found["prediction"]["data"] == pytest.approx(model.predict(table(4)).tolist())


def test_concurrent_requests_are_answered_each_with_its_own(serving: Server, model: Pipeline) -> None:
    tables = [table(1 + number % 3, number) for number in range(60)]
    expected = [model.predict_proba(one).ravel().tolist() for one in tables]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda one: serving.post(INFER, tensors(one)), tables))
    assert [status for status, _ in found] == [200] * 60
    assert [outputs(answer)["probabilities"]["data"] for _, answer in found] == [pytest.approx(one) for one in expected]


def changed(place: int, **facts: Any) -> dict[str, Any]:
    body = tensors(table(2))
    body["inputs"][place] |= facts
    return body


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "JSON"),
        ({}, "inputs: Field required"),
        ({"inputs": []}, "tensor 'size' is missing; wanted are: size, place"),
        (changed(1, name="where"), "there is no tensor 'where'; accepted: size, place"),
        (changed(1, name="size"), "tensor 'size' is given twice"),
        (changed(0, datatype="BYTES", data=["1", "2"]), "tensor 'size' has datatype BYTES; wanted is FP64"),
        (changed(0, data=["1", 2]), "tensor 'size' has the value '1'; wanted is FP64: numbers, and null for a missing one"),
        (changed(0, data=[True, 2]), "tensor 'size' has the value True"),
        (changed(1, data=[1, "south"]), "tensor 'place' has the value 1; wanted is BYTES"),
        (changed(0, shape=[1, 2]), "tensor 'size' has shape [1, 2]; wanted is FP64 of shape [rows] or [rows, 1]"),
        (changed(0, data=[1.0]), "tensor 'size' has shape [2] and 1 values"),
        (changed(0, shape=[2, 1], data=[[1], [2, 3]]), "tensor 'size' is ragged: row 1 hasn't one value"),
        (changed(0, shape=[1], data=[1.0]), "tensor 'place' has 2 rows, and 'size' has 1"),
        (changed(0, datatype="FLOAT"), "inputs.0.datatype"),
    ],
)
def test_what_is_wrong_is_said(serving: Server, body: Any, said: str) -> None:
    status, answer = serving.post(INFER, body)
    assert status == 400
    assert said in answer["error"]


def test_only_what_clients_need_is_open(serving: Server) -> None:
    assert serving.get("/v2/models/another/ready")[0] == 404
    for path in ("/v2/repository/index", "/v2/repository/models/tumours/unload", "/v2/repository/models/tumours/load"):
        assert serving.post(path, {})[0] == 404
    assert serving.post(INFER, tensors(table(1)))[0] == 200
    status, text = serving.get("/metrics", 8082)
    assert status == 200
    assert 'path="/v2/models/{model_name}/infer",status_code="200"' in text
    listening = {at.laddr.port for at in psutil.Process(serving.process.pid).net_connections() if at.status == psutil.CONN_LISTEN}
    assert listening == {8080, 8082}


class Evil:
    """Runs code as it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def replace_by_a_pickle(models: Path) -> None:
    (models / "versions/1/model.joblib").write_bytes(pickle.dumps(Evil(models / "ran")))
    (models / "versions/1/model.skops").unlink()


def change_a_byte(models: Path) -> None:
    path = models / "versions/1/model.skops"
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.write_bytes(content)


def truncate(models: Path) -> None:
    path = models / "versions/1/model.skops"
    path.write_bytes(path.read_bytes()[:-1])


def lose_the_record(models: Path) -> None:
    (models / "records/1/record.json").unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (replace_by_a_pickle, "lacks model.skops"),
        (change_a_byte, "the publisher didn't write it"),
        (truncate, "the publisher didn't write it"),
        (lose_the_record, "record.json is not there"),
    ],
)
def test_what_the_publisher_did_not_write_is_never_loaded(
    published: tuple[Path, str], start: Callable[..., Server], damage: Callable[[Path], None], said: str
) -> None:
    models, record = published
    damage(models)
    server = start(models, record)
    assert server.wait() == REFUSED
    assert said in server.last_line
    assert not (models / "ran").exists()


def test_a_model_that_can_not_be_loaded_is_said(model: Pipeline, tmp_path: Path, start: Callable[..., Server]) -> None:
    from serving import write_artifact

    good = make_artifact(tmp_path / "good", model)
    facts = json.loads((good / "manifest.json").read_text())
    broken = {"model.skops": dumped(model, "skops")[:-100]}
    bad = write_artifact(tmp_path / "bad", broken, {"framework": "sklearn", "signature": facts["signature"]})
    server = start(tmp_path / "models", publish(bad, tmp_path / "models", server="sklearn"))
    assert server.wait() == 1
    assert server.last_line.startswith("trainwright: the model can't be loaded: BadZipFile")


@pytest.mark.parametrize(("workers", "number"), [("1", signal.SIGTERM), ("2", signal.SIGTERM), ("2", signal.SIGKILL)])
def test_ending_it_under_load_leaves_nothing_behind(
    published: tuple[Path, str], start: Callable[..., Server], workers: str, number: signal.Signals
) -> None:
    server = start(*published, TRAINWRIGHT_SERVER_WORKERS=workers)
    server.wait_until_ready(READY)
    stop, statuses = threading.Event(), list[int]()

    def ask() -> None:
        while not stop.is_set():
            statuses.append(server.post(INFER, tensors(table(3)))[0])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: statuses.count(200) > 20, "answers under load")
        family = psutil.Process(server.process.pid).children(recursive=True)
        assert len(family) >= (2 if workers == "2" else 0)
        server.process.send_signal(number)
        assert server.wait(30) == (0 if number == signal.SIGTERM else -number)
        assert psutil.wait_procs(family, 20)[1] == []
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if number == signal.SIGTERM:
        assert set(statuses) == {200, 0}
