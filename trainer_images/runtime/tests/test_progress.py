"""What ranks report is what the worker's port shows; and it costs a step next to nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from launching import Gang, wait_for

from trainwright_runtime.launch.status import progress
from trainwright_runtime.metrics import METRICS, render
from trainwright_runtime.progress import STEP_SECONDS_BOUNDS, Reporter
from trainwright_runtime.startup import Startup

SCRIPT = """
import os, time
import trainwright_runtime
rank = int(os.environ["RANK"])
trainwright_runtime.report(total_steps=100, main_metric="accuracy")
for step in range(1, 11):
    trainwright_runtime.report(step=step, epoch=2, samples=8, metrics={"loss": 1 / step, "accuracy": 0.5 + rank})
while not os.path.exists("go"):
    time.sleep(0.02)
"""


def test_the_port_shows_what_the_ranks_of_the_pod_report(gang: Gang) -> None:
    (gang.folder / "report_it.py").write_text(SCRIPT)
    (worker,) = gang.start("module", "report_it", nproc=2)
    seen = wait_for(lambda: (shown := worker.progress()).get("step") == 10 and shown, "step 10 in /progress")
    assert (seen["totalSteps"], seen["epoch"], seen["mainMetric"], seen["metrics"]["accuracy"]) == (100, 2, "accuracy", 0.5)
    assert abs(seen["time"] - time.time()) < 30
    assert worker.get("/healthz") == "ok\n"
    wanted = (
        'trainwright_samples_total{rank="1"} 80.0',
        'trainwright_step{rank="0"} 10.0',
        'trainwright_step_seconds_count{rank="1"} 10.0',
    )
    wait_for(lambda: all(line in worker.get("/metrics") for line in wanted), "both ranks in /metrics")
    page = worker.get("/metrics")
    assert 'trainwright_metric{name="accuracy",rank="1"} 1.5' in page
    (gang.folder / "go").touch()
    assert worker.wait() == 0


def test_a_port_that_is_taken_is_said_and_training_goes_on(gang: Gang) -> None:
    (gang.folder / "wait_for_it.py").write_text("import os, time\nwhile not os.path.exists('go'): time.sleep(0.02)\n")
    (first,) = gang.start("module", "wait_for_it")
    wait_for(lambda: first.process.poll() is None and first.progress() == {} and _answers(first), "the first to serve")
    host, port = first.address.removeprefix("http://").split(":")
    (second,) = gang.start("module", "wait_for_it", TRAINWRIGHT_POD_IP=host, TRAINWRIGHT_METRICS_PORT=port)
    wait_for(lambda: "training goes on" in second.output, "the second to say so")
    (gang.folder / "go").touch()
    assert (first.wait(), second.wait()) == (0, 0)


def _answers(worker: object) -> bool:
    try:
        return worker.get("/healthz") == "ok\n"  # type: ignore[attr-defined]
    except OSError:
        return False


def test_every_metric_of_the_table_is_rendered_once_it_is_known(tmp_path: Path) -> None:
    reporter = Reporter(rank=3, path=tmp_path / "rank-3.json", startup=Startup())
    reporter.report(resumed_from=40, epoch=1, total_steps=100)
    reporter.report(step=41, samples=64, own=0.1, metrics={"loss": 0.5, "learning_rate": 0.01, "gradient_norm": 2.0})
    reporter.oom_retried()
    reporter.checkpoint_written(step=41, path=tmp_path, write_seconds=0.1, size=10)
    reporter.close()
    page = render([json.loads((tmp_path / "rank-3.json").read_text())]).decode()
    shown = {line.split("{")[0] for line in page.splitlines() if not line.startswith("#")}
    assert 'trainwright_oom_retries_total{rank="3"} 1.0' in page
    for metric in METRICS:
        assert metric.name in shown or f"{metric.name}_count" in shown, metric.name
        assert metric.help in page


def test_speed_and_time_left_come_from_what_was_reported_lately() -> None:
    reporter = Reporter(rank=0, path=None)
    reporter.report(total_steps=1000)
    reporter.status()
    for step in range(1, 101):
        reporter.report(step=step, samples=10)
    time.sleep(0.01)
    reporter.report()
    status = progress([reporter.status()])
    assert status["etaSeconds"] > 0
    # 100 steps took as long as samplesPerSecond says, and 900 are left.
    assert abs(status["etaSeconds"] - 9 * 1000 / status["samplesPerSecond"]) < 1e-6


def test_time_that_is_not_waited_nor_blocked_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    reporter = Reporter(rank=0, path=None)
    for step, (seconds, waited) in enumerate([(2.0, 0.5), (1.0, 0.0), (3.0, 1.0)], 1):
        now += seconds
        reporter.report(step=step, waited=waited)
        now += 7.0
        reporter.report(metrics={"val_loss": 1.0})  # the evaluation before it is no part of a step
    reporter.checkpoint_blocked(0.25)
    status = reporter.status()
    assert status["stepSeconds"]["sum"] == pytest.approx(6.0)
    assert status["dataWaitSeconds"] == pytest.approx(1.5)
    assert status["computeSeconds"] == pytest.approx(6.0 - 1.5 - 0.25)


def test_steps_that_are_told_together_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    reporter = Reporter(rank=0, path=None)
    now = 110.0
    rest: dict[str, Any] = {"epoch": 0, "samples": 24, "waited": 0.5, "own": None, "straggler": None, "metrics": {"loss": 1.0}}
    reporter.took([100.02, 100.06, 103.0], step=3, **rest)
    reporter.report()  # a sign of life in an evaluation, which moves nothing
    reporter.took([103.5], step=4, **rest)
    reporter.report(metrics={"val_loss": 1.0})
    reporter.took([109.0], step=5, **rest)  # ended before that was reported
    now = 111.0
    reporter.report(step=6)
    status = reporter.status()
    taken = [
        bound for bound, count in zip(STEP_SECONDS_BOUNDS, status["stepSeconds"]["counts"], strict=False) for _ in range(count)
    ]
    assert taken == [0.001, 0.025, 0.05, 0.5, 1.0, 5.0]
    assert (status["step"], status["steps"], status["samples"]) == (6, 6, 72)
    assert status["stepSeconds"]["sum"] == pytest.approx(3.5 + 0.0 + 1.0)


def test_silence_that_is_to_be_expected_is_no_hanging() -> None:
    reporter = Reporter(rank=0, path=None)
    heartbeat = "trainwright_heartbeat_timestamp_seconds{"
    reporter.report(step=1)
    assert heartbeat in render([reporter.status()]).decode()
    reporter.expect_silence()
    reporter.report()
    assert heartbeat not in render([reporter.status()]).decode()
    assert progress([reporter.status()])["time"] > 0
    reporter.report(step=2)
    assert heartbeat in render([reporter.status()]).decode(), "it goes on after all"


def test_losses_that_are_not_finite_are_counted() -> None:
    reporter = Reporter(rank=0, path=None)
    for step, loss in enumerate([1.0, float("nan"), float("inf"), 0.5], 1):
        reporter.report(step=step, metrics={"loss": loss})
    assert reporter.status()["lossesNotFinite"] == 2


def test_a_number_that_json_has_no_word_for_is_left_out(tmp_path: Path) -> None:
    reporter = Reporter(rank=0, path=tmp_path / "rank-0.json")
    reporter.report(step=1, metrics={"loss": float("nan"), "accuracy": 0.5})
    reporter.close()
    status = json.loads((tmp_path / "rank-0.json").read_text(), parse_constant=lambda word: 1 / 0)
    assert status["metrics"] == {"accuracy": 0.5}


def test_a_status_directory_that_vanishes_does_not_end_the_training(tmp_path: Path) -> None:
    reporter = Reporter(rank=0, path=tmp_path / "gone" / "rank-0.json")
    reporter.report(step=1)
    reporter.close()
