"""`trainwright report` as a command: the page that it makes of what is there. Prometheus is a stand-in with canned answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import pytest

from support.builders import job
from support.cli import CommandLine
from support.reports import RESTARTED, T0, at, event, fill, page
from trainwright.cli.reporting.prom import plain
from trainwright.cluster.admission import ADMISSION
from trainwright.cluster.memory import MemoryCluster
from trainwright.cluster.port import CLAIMS, EVENTS, TRAINING_JOBS, VOLUMES
from trainwright.local.twin import Twin


@pytest.fixture
def digits(cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    """A job that was submitted at T0 and has succeeded after a restart; no Prometheus is known, and its claim has no volume."""
    cli.cluster = MemoryCluster(admission=ADMISSION, clock=lambda: T0)
    monkeypatch.delenv("TRAINWRIGHT_PROMETHEUS", raising=False)
    monkeypatch.chdir(tmp_path)
    cli.put(
        job("digits").workers(2).gpus(1).spec(env=[{"name": "HF_TOKEN", "value": "hf_123"}, {"name": "MODE", "value": "<fast>"}])
    )
    cli.say("digits", **RESTARTED, metrics={"<loss>": 0.5}, gpuHours=0.1)
    message = "attempt 1: digits-a1-worker-1 was killed by signal 9; restarting as attempt 2"
    uid = cli.do(cli.cluster.get(TRAINING_JOBS, "digits", "default"))["metadata"]["uid"]
    told = {
        "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"uid": uid},
        **event("WorkerFailed", 100, message),
    }
    cli.do(cli.cluster.create(EVENTS, told))
    return cli


def give_workspace(cli: CommandLine, path: str) -> None:
    """Bind the job's claim to a directory, as the twin's storage does."""
    volume = {
        "metadata": {"name": "pv"},
        "spec": {"hostPath": {"path": path}, "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"]},
    }
    cli.do(cli.cluster.create(VOLUMES, volume))
    cli.do(
        cli.cluster.create(
            CLAIMS, {"metadata": {"name": "digits-workspace", "namespace": "default"}, "spec": {"volumeName": "pv"}}
        )
    )


ANSWERS = {
    "query": {
        "trainwright_job_created_timestamp_seconds{$of}[5m]": [{"metric": {}, "values": [[T0 + 2 * n, "1"] for n in range(5)]}],
        "last_over_time(trainwright_job_created_timestamp_seconds": [{"metric": {}, "value": [T0, "1"]}],
        "last_over_time(trainwright_heartbeat_timestamp_seconds": [{"metric": {}, "value": [T0, "1"]}],
        "sum(last_over_time(trainwright_step_seconds_sum": [{"metric": {}, "value": [T0, "200"]}],
        "sum(last_over_time(trainwright_step_seconds_count": [{"metric": {}, "value": [T0, "400"]}],
        "sum(last_over_time(trainwright_data_wait_seconds_total": [{"metric": {}, "value": [T0, "80"]}],
        "max by (attempt) (sum by (attempt, rank)": [
            {"metric": {"attempt": "1"}, "value": [T0, "50"]},
            {"metric": {"attempt": "2"}, "value": [T0, "7"]},
        ],
        "count(count by (rank)": [{"metric": {}, "value": [T0, "2"]}],
        "trainwright_job_cost_total": [{"metric": {"currency": "EUR"}, "value": [T0, "1"]}],
    },
    "query_range": {
        "(trainwright_loss{": [
            {"metric": {"rank": rank}, "values": [[T0 + 30 + n, "NaN" if n == 50 else str(1 / (n + 1))] for n in range(200)]} for rank in ("10", "2")
        ],
        "group_right ()": [{"metric": {"phase": "Restarting"}, "values": [[T0 + 104, str(T0 + 100)]]}, {"metric": {"phase": "Running"}, "values": [[T0 + 120, str(T0 + 110)]]}],
    },
}  # fmt: skip


@contextmanager
def prometheus(answers: dict[str, dict[str, Any]], *, status: int = 200) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Its address, and what it was asked."""
    asked: list[dict[str, str]] = []

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = {name: one[0] for name, one in parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).items()}
            asked.append(form)
            of = 'namespace="default", job="digits"'
            known = answers.get(self.path.rpartition("/")[2], {})
            result = next((one for part, one in known.items() if part.replace("$of", of) in form["query"]), [])
            content = (
                {"status": "success", "data": {"result": result}}
                if status == 200
                else {"status": "error", "error": "too <many> samples"}
            )
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://user:word@127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def test_the_page_from_prometheus(digits: CommandLine, tmp_path: Path) -> None:
    with prometheus(ANSWERS) as (url, asked):
        shown = digits("report", "digits", "--prometheus", url)
    assert (shown.code, shown.out) == (0, "digits-report.html\n")
    text = (tmp_path / "digits-report.html").read_text()
    made = page(text)
    assert "Succeeded in 4 min 12 s. Largest loss: waiting for data, 40 s." in made.text
    assert "attempt 1, worker 1, killed by signal 9" in made.text
    assert "7 s passed before the first step" in made.text, "the first attempt wrote no checkpoint: its start is in what was lost"
    assert "Steps waited 40% of their time for data." in made.text
    assert made.pictures == ["Phases", "Parts", "Training loss"]
    assert "Restarting 10 s" in made.text
    assert "rank 2 0.005 rank 10" in made.text.replace("0.00500", "0.005"), "ranks in their order"
    assert "Metrics : the training reported none beside its loss." in made.text
    assert "GPUs: utilization, GPUs: memory : no worker measured a GPU" in made.text
    assert "hf_123" not in text
    assert "&lt;fast&gt;" in text
    assert "word@" not in text, "nor the password of an address"
    ranges = [one for one in asked if "step" in one]
    assert {float(one["start"]) for one in ranges} == {T0}
    assert {float(one["end"]) for one in ranges} == {T0 + 256}, "the last figures are scraped after the end"
    assert all("$" not in one["query"] for one in asked)


def test_without_a_prometheus_the_workspace_is_read(digits: CommandLine, tmp_path: Path) -> None:
    fill(tmp_path / "volume")
    give_workspace(digits, str(tmp_path / "volume"))
    shown = digits("report", "digits", "-o", "page.html")
    assert shown.out == "page.html\n"
    assert "no Prometheus: none is known; name one with --prometheus or TRAINWRIGHT_PROMETHEUS" in shown.err
    made = page((tmp_path / "page.html").read_text())
    assert made.pictures == ["Phases", "Parts", "Steps done", "Training loss", "Step time", "Size"]
    assert "The pictures come from the job's workspace: 49 values of TensorBoard's events" in made.text
    assert "The trainer's own report: Accuracy <98%> on 269 images." in made.text
    assert "Step time by rank" in made.text
    assert "only a Prometheus has it" in made.text


def test_prometheus_that_fails_is_no_error(digits: CommandLine, tmp_path: Path) -> None:
    fill(tmp_path / "volume")
    with prometheus(ANSWERS, status=422) as (url, _):
        shown = digits("report", "digits", "--prometheus", url, "--workspace", tmp_path / "volume", "-o", "-")
    assert shown.code == 0
    assert "it refuses the question: too <many> samples" in shown.err.replace("\n", " ")
    made = page(shown.out)
    assert "Training loss" in made.pictures
    assert "it refuses the question: too <many> samples" in made.text


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:9", "127.0.0.1:9: it can't be reached (connection refused)"),
        ("localhost:9090", "is no address of a Prometheus; one looks like http://localhost:9090"),
    ],
)
def test_one_that_can_t_be_reached_neither(digits: CommandLine, url: str, why: str) -> None:
    shown = digits("report", "digits", "--prometheus", url, "-o", "-")
    assert shown.code == 0
    assert why in page(shown.out).text
    assert why in " ".join(shown.err.split())


def test_one_that_knows_nothing_of_the_job_says_so(digits: CommandLine) -> None:
    with prometheus({}) as (url, _):
        shown = digits("report", "digits", "--prometheus", url, "-o", "-")
    made = page(shown.out)
    assert "knows nothing of default/digits" in made.text
    assert made.pictures == ["Phases", "Parts"], "what status tells is shown in any case"


def test_the_environment_names_a_prometheus_and_an_option_another(digits: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    with prometheus(ANSWERS) as (named, asked), prometheus(ANSWERS) as (other, instead):
        monkeypatch.setenv("TRAINWRIGHT_PROMETHEUS", named)
        assert "Training loss" in page(digits("report", "digits", "-o", "-").out).pictures
        assert asked
        before = len(asked)
        digits("report", "digits", "-o", "-", "--prometheus", other)
        assert instead
        assert len(asked) == before


def test_the_twin_s_own_prometheus_comes_before_the_environment_s(
    digits: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state = tmp_path / "twins" / "t"
    state.mkdir(parents=True)
    (state / "kubeconfig").touch()
    monkeypatch.setenv("KUBECONFIG", str(state / "kubeconfig"))
    with prometheus(ANSWERS) as (named, asked), prometheus(ANSWERS) as (own, instead):
        monkeypatch.setenv("TRAINWRIGHT_PROMETHEUS", named)
        monkeypatch.setattr(Twin, "prometheus_url", property(lambda twin: own if twin.name == "t" else None))
        digits("report", "digits", "-o", "-")
        assert instead
        assert not asked


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"workspace": {"uri": "s3://bucket/runs"}}, "its workspace is in object storage (s3://bucket/runs/default/other)"),
        ({"workspace": {"claim": "shared"}}, "its workspace, the claim shared, can't be looked up"),
    ],
    ids=["in object storage", "a claim that is not there"],
)
def test_where_the_workspace_is_when_it_is_not_here(digits: CommandLine, spec: dict[str, Any], why: str) -> None:
    digits.put(job("other").spec(**spec))
    digits.say("other", **RESTARTED)
    assert why in page(digits("report", "other", "-o", "-").out).text


def test_a_disk_of_the_cluster_is_not_seen_from_here(digits: CommandLine) -> None:
    give_workspace(digits, "/no/such/folder")
    made = page(digits("report", "digits", "-o", "-").out)
    assert "is on a disk of the cluster that this machine does not see; mount or copy it" in made.text
    assert "it takes a Prometheus or the workspace, and there is neither" in made.text


def test_a_job_that_has_not_run_lacks_nothing(digits: CommandLine) -> None:
    digits.put(job("waits"))
    digits.say("waits", phase="Queued", reason="0/1 nodes are available", phaseSince=at(0))
    made = page(digits("report", "waits", "-o", "-").out)
    assert "0/1 nodes are available." in made.text
    assert "no worker has run yet" in made.text
    assert "No figures of a Prometheus" not in made.text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["digit"], "no TrainingJob digit in namespace default; did you mean digits?"),
        (["digits", "--workspace", "/no/such"], "--workspace /no/such: no such folder"),
        (["digits", "-o", "/no/such/page.html"], "--output /no/such/page.html: No such file or directory"),
        (["digits", "-o", "-", "--open"], "--open needs a file to open"),
    ],
    ids=["no such job", "no such workspace", "no such folder to write to", "nothing to open"],
)
def test_what_was_asked_wrongly_is_named(digits: CommandLine, words: list[str], said: str) -> None:
    shown = digits("report", *words)
    assert shown.code == 2
    assert said in shown.err.replace("\n", " ")


def test_a_page_that_can_t_be_written_leaves_the_old_one(
    digits: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page.html").write_text("before")

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    shown = digits("report", "digits", "-o", "page.html")
    assert (shown.code, "No space left on device" in shown.err) == (2, True)
    assert (tmp_path / "page.html").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir() if "page" in path.name] == ["page.html"]


def test_addresses_are_shown_without_what_opens_them() -> None:
    assert plain("https://me:secret@prom.example:9090/path?x=1") == "prom.example:9090"
