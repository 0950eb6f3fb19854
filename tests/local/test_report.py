"""`trainwright report` of a real training on a twin, one worker of which was killed: from its Prometheus, and from its workspace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.jobs import apply, get, kill_worker, sample, succeeded, until
from support.reports import Page, page
from support.twin import RunningTwin, running_twin

pytestmark = pytest.mark.long

OF_WORKERS = [
    "Step time by rank",
    "Where a step's time goes",
    "A rank's own time of a step",
    "Waiting for data by rank",
    "Throughput",
]
OF_BOTH = ["Phases", "Parts", "Steps done", "Training loss", "Metrics", "Learning rate and gradient norm", "Step time", "Size"]


@pytest.fixture(scope="module")
def trained() -> Iterator[tuple[RunningTwin, dict[str, Any]]]:
    """A twin with a Prometheus, and on it a job that has succeeded in its second attempt."""

    async def story(twin: RunningTwin) -> dict[str, Any]:
        job = sample("digits")
        job["spec"] |= {"resources": {"gpus": 1, "cpu": "500m", "memory": "2Gi"}, "checkpoint": {"everySteps": 20}}
        job["spec"]["recipe"]["config"] |= {"epochs": 6, "step_delay_seconds": 0.05, "log_every_steps": 2}
        apply(twin, "default", job)
        await until(twin, "default", lambda status: (status.get("checkpoint") or {}).get("step", 0) >= 40)
        kill_worker(get(twin, "default"), 1)
        return await succeeded(twin, "default", within=110)

    with running_twin(gpus_per_node=2, monitoring=True) as twin:
        yield twin, asyncio.run(story(twin))


def report(twin: RunningTwin, path: Path, *options: str) -> tuple[Page, str]:
    """The page of the job, and what was said on stderr."""
    result = twin.cli("report", "digits", "-o", path, *options)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(path)
    return page(path.read_text()), " ".join(result.stderr.split())


def told_in_both(made: Page, status: dict[str, Any]) -> None:
    """What status and events say of it."""
    assert "Succeeded in" in made.text
    assert f"{status['goodput']:.0f}% of its time was productive" in made.text
    assert "lost to one restart (attempt 1, worker 1, killed by signal 9)" in made.text
    assert "digits-a1-worker-1 was killed by signal 9; restarting as attempt 2" in made.text
    assert f"{status['metrics']['test_accuracy']:.4f}" in made.text
    assert set(OF_BOTH) <= set(made.pictures)


async def test_from_the_twin_s_prometheus(trained: tuple[RunningTwin, dict[str, Any]], tmp_path: Path) -> None:
    twin, status = trained
    made, _ = report(twin, tmp_path / "digits.html")
    told_in_both(made, status)
    assert {*OF_WORKERS, "Blocked by a checkpoint"} <= set(made.pictures)
    assert "Steps waited" in made.text
    assert "in 2 attempts before the first step" in made.text
    assert "rank 0" in made.text
    assert "rank 1" in made.text
    assert "no worker measured a GPU" in made.text


async def test_from_the_workspace(trained: tuple[RunningTwin, dict[str, Any]], tmp_path: Path) -> None:
    twin, status = trained
    made, said = report(twin, tmp_path / "digits.html", "--prometheus", "http://127.0.0.1:9")
    told_in_both(made, status)
    assert "127.0.0.1:9: it can't be reached" in said
    assert "127.0.0.1:9: it can't be reached" in made.text
    assert "The pictures come from the job's workspace" in made.text
    assert "The trainer's own report: Accuracy" in made.text
    assert not {*OF_WORKERS} & set(made.pictures)
