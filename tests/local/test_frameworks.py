"""Each framework's samples on a whole twin: real pods' processes, a worker killed on the way, the model at the end."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from support.jobs import SAMPLES, apply, get, kill_worker, sample, succeeded
from support.twin import RunningTwin
from support.waiting import eventually

pytestmark = pytest.mark.long


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "metric", "least"),
    [
        ("horovod-digits", "accuracy", 0.97),
        ("jax-digits", "accuracy", 0.97),
        ("tensorflow-digits", "accuracy", 0.97),
        ("tensorflow-tabular-two", "r2", 0.4),
        ("tensorflow-sequence", "skill", 0.4),
        ("torch-sequence", "skill", 0.5),
    ],
)
async def test_a_killed_worker_costs_steps_and_no_quality(
    twin: RunningTwin, space: str, name: str, metric: str, least: float
) -> None:
    job = sample(name)
    job["spec"]["recipe"]["config"] |= {"step_delay_seconds": 0.05}
    apply(twin, space, job)
    checkpoint = await eventually(lambda: get(twin, space, name)["status"].get("checkpoint"), within=120, every=0.1)
    kill_worker(get(twin, space, name), 1)
    status = await succeeded(twin, space, name)
    assert status["attempt"] == 2
    assert status["restarts"]["last"]["pod"] == f"{name}-a1-worker-1", "not the one that lost its peer"
    assert status["progress"]["resumedFrom"] >= checkpoint["step"]
    manifest = json.loads((Path(status["checkpoint"]["path"]).parents[1] / "artifacts/manifest.json").read_text())
    assert manifest["framework"] == job["spec"]["framework"]
    assert manifest["metrics"][metric] >= least


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("horovod-script", "2 ranks, accuracy 0.9"),
        ("jax-script", "2 processes, accuracy 0.9"),
        ("tensorflow-keras-fit", r"Restoring model weights from the end of the best epoch: \d+\.\n1 replicas, accuracy 0.9"),
        ("tensorflow-mwms-fit", "worker 0 of 2, accuracy 0.9"),
    ],
)
async def test_a_script_without_a_line_of_ours(twin: RunningTwin, space: str, name: str, says: str) -> None:
    twin.kubectl("apply", "-n", space, "-f", SAMPLES / f"{name}.yaml")
    await succeeded(twin, space, name)
    assert re.search(says, twin.kubectl("logs", f"{name}-a1-worker-0", "-n", space))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "says", "least"),
    [
        ("horovod-one-worker", "2 ranks on cpu", 0.97),
        ("jax-one-worker", "1 worker, 1 cpu devices", 0.97),
        ("tensorflow-mirrored", "1 worker, 2 replicas on CPU", 0.97),
        ("tensorflow-tabular", "1 worker, 1 replica on CPU: classification of 'target'", 0.95),
    ],
)
async def test_one_worker_with_all_that_it_has(twin: RunningTwin, space: str, name: str, says: str, least: float) -> None:
    twin.kubectl("apply", "-n", space, "-f", SAMPLES / f"{name}.yaml")
    status = await succeeded(twin, space, name)
    assert status["metrics"]["test_accuracy"] >= least
    assert says in twin.kubectl("logs", f"{name}-a1-worker-0", "-n", space)
