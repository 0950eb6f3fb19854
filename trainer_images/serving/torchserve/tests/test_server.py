"""A real TorchServe with a published version: what it answers, what it refuses to start with, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from launching import wait_for
from serving import Server, publish, write_artifact

from conftest import COMMAND, FACTS, answers, rows, samples_of

PREDICT = "/predictions/tumours"
REFUSED = 3


@pytest.fixture(scope="module")
def serving(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that batches, for the tests that only ask."""
    models = tmp_path_factory.mktemp("serving") / "models"
    record = publish(artifact, models, server="torchserve")
    server = Server(COMMAND, models, record, TRAINWRIGHT_BATCH_SIZE="8", TRAINWRIGHT_BATCH_DELAY_MS="50")
    server.wait_until_ready("/ping")
    yield server
    server.end()


def family(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children(recursive=True)


def test_when_it_is_ready_it_answers_the_trainers_samples(serving: Server, artifact: Path) -> None:
    samples = json.loads((artifact / "samples.json").read_text())
    status, answer = serving.post(PREDICT, {"inputs": samples["inputs"]})
    assert status == 200
    assert answer["outputs"]["logits"] == [pytest.approx(row, rel=1e-5) for row in samples["outputs"]["logits"]]


def test_concurrent_requests_are_answered_each_with_its_own(serving: Server) -> None:
    requests = [rows(1 + number % 3, number) for number in range(100)]
    expected = [answers(inputs) for inputs in requests]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda inputs: serving.post(PREDICT, {"inputs": inputs}), requests))
    assert [status for status, _ in found] == [200] * 100
    for (_, answer), logits in zip(found, expected, strict=True):
        assert answer["outputs"]["logits"] == [pytest.approx(row, rel=1e-4, abs=1e-5) for row in logits]


def test_a_large_request_comes_through_whole(serving: Server) -> None:
    inputs = rows(50_000)
    status, answer = serving.post(PREDICT, {"inputs": inputs})
    assert status == 200
    assert len(answer["outputs"]["logits"]) == 50_000
    assert answer["outputs"]["logits"][-1] == pytest.approx(answers(rows(1, 49_999))[0], rel=1e-4, abs=1e-4)


def test_bad_requests_are_told_what_is_wrong(serving: Server) -> None:
    status, answer = serving.post(PREDICT, {"inputs": {**rows(2), "numbers": [[1, 2, 3], [4]]}})
    assert (status, answer["code"]) == (400, 400)
    assert "tensor 'numbers' is ragged" in answer["error"]
    assert serving.post(PREDICT, b"{")[0] == 400
    assert serving.post("/predictions/another", {"inputs": rows(1)})[0] == 404


def test_metrics_are_there_and_management_is_not(serving: Server) -> None:
    serving.post(PREDICT, {"inputs": rows(1)})
    status, text = serving.get("/metrics", 8082)
    assert status == 200
    assert 'ts_inference_requests_total{model_name="tumours"' in text
    for port in (8080, 8082):
        assert serving.get("/models", port)[0] in (404, 405)
    pids = {process.pid for process in family(serving)} | {serving.process.pid}
    listening = {
        (at.laddr.ip.removeprefix("::ffff:"), at.laddr.port)
        for at in psutil.net_connections("tcp")
        if at.status == psutil.CONN_LISTEN and at.pid in pids
    }
    assert {port for ip, port in listening if ip == serving.address} == {8080, 8082}
    assert {ip for ip, _ in listening} == {serving.address, "127.0.0.1"}


def test_several_live_on_one_machine(serving: Server, published: tuple[Path, str], start: Callable[..., Server]) -> None:
    another = start(*published, TRAINWRIGHT_SERVER_WORKERS="2")
    another.wait_until_ready("/ping")
    for server in (serving, another):
        assert server.post(PREDICT, {"inputs": rows(1)})[0] == 200
    workers = [process for process in family(another) if "model_service_worker" in " ".join(process.cmdline())]
    assert len(workers) == 2
    # One that dies comes back, and meanwhile the other answers.
    workers[0].kill()
    wait_for(lambda: len([process for process in family(another) if process.pid not in {workers[0].pid}]) >= 3, "a new worker")
    assert another.post(PREDICT, {"inputs": rows(1)})[0] == 200


def change_a_byte(models: Path) -> None:
    path = models / "versions/1/model.mar"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def truncate(models: Path) -> None:
    path = models / "versions/1/model.mar"
    path.write_bytes(path.read_bytes()[:-10])


def remove(models: Path) -> None:
    (models / "versions/1/model.mar").unlink()


def replace_by_a_foreign_one(models: Path) -> None:
    """An archive that TorchServe itself would load, and whose handler would do as it likes."""
    with zipfile.ZipFile(models / "versions/1/model.mar", "w") as archive:
        about = {"model": {"modelName": "tumours", "handler": "own.py", "modelVersion": "1"}, "runtime": "python"}
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(about))
        archive.writestr("own.py", f"import os; os.mkdir({str(models / 'ran')!r})")


def add_a_file(models: Path) -> None:
    (models / "versions/1/another.mar").write_bytes(b"")


def rewrite_the_record(models: Path) -> None:
    replace_by_a_foreign_one(models)
    import hashlib

    path = models / "records/1/record.json"
    record = json.loads(path.read_text())
    content = (models / "versions/1/model.mar").read_bytes()
    record["files"]["model.mar"] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    path.write_text(json.dumps(record))


def lose_the_record(models: Path) -> None:
    (models / "records/1/record.json").unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (change_a_byte, "the publisher didn't write it"),
        (truncate, "the publisher didn't write it"),
        (remove, "lacks model.mar"),
        (replace_by_a_foreign_one, "the publisher didn't write it"),
        (add_a_file, "has another.mar, which record.json doesn't name"),
        (rewrite_the_record, "and TRAINWRIGHT_RECORD sha256:"),
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
    assert server.last_line.startswith("trainwright: ")
    assert said in server.last_line
    assert not (models / "ran").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"TRAINWRIGHT_VERSION": "2"}, "records/2/record.json is not there"),
        ({"TRAINWRIGHT_VERSION": "one"}, "TRAINWRIGHT_VERSION is 'one'; accepted: a whole number, at least 1"),
        ({"TRAINWRIGHT_RECORD": "0" * 64}, "accepted: sha256: and 64 hexadecimal digits"),
        ({"TRAINWRIGHT_RECORD": ""}, "TRAINWRIGHT_RECORD is not set"),
        ({"TRAINWRIGHT_POD_IP": "here"}, "TRAINWRIGHT_POD_IP is 'here'; accepted: an IP address"),
        ({"TRAINWRIGHT_BATCH_SIZE": "0"}, "TRAINWRIGHT_BATCH_SIZE is '0'; accepted: a whole number, at least 1"),
    ],
)
def test_a_wrong_environment_is_said(
    published: tuple[Path, str], start: Callable[..., Server], changed: dict[str, str], said: str
) -> None:
    server = start(*published, **changed)
    assert server.wait() == REFUSED
    assert said in server.last_line


@pytest.mark.long
def test_a_model_that_can_not_be_loaded_ends_the_server_and_is_never_ready(tmp_path: Path, start: Callable[..., Server]) -> None:
    artifact = write_artifact(tmp_path / "artifact", {"model.pt2": b"no program"}, FACTS)
    server = start(tmp_path / "models", publish(artifact, tmp_path / "models", server="torchserve"))
    while server.process.poll() is None:
        assert server.get("/ping")[0] == 0
    assert server.wait() == 1
    assert server.last_line.startswith("trainwright: TorchServe's workers can't load the model")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_ending_it_under_load_leaves_nothing_behind(
    published: tuple[Path, str], start: Callable[..., Server], number: signal.Signals
) -> None:
    server = start(*published, TRAINWRIGHT_BATCH_SIZE="4", TRAINWRIGHT_BATCH_DELAY_MS="20")
    server.wait_until_ready("/ping")
    stop, statuses = threading.Event(), list[Any]()
    inputs = samples_of(published[0])["inputs"]

    def ask() -> None:
        while not stop.is_set():
            statuses.append(server.post(PREDICT, {"inputs": inputs})[0])

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: statuses.count(200) > 30, "answers under load")
        processes = family(server)
        assert len(processes) >= 2
        os.kill(server.process.pid, number)
        assert server.wait(30) == (0 if number == signal.SIGTERM else -number)
        _, left = psutil.wait_procs(processes, 30)
        assert left == []
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if number == signal.SIGTERM:
        # Those that had been taken were answered; the others weren't let in.
        assert set(statuses) == {200, 0}
