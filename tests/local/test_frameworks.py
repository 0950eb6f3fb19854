"""Each framework's samples on a whole twin: real pods' processes, a worker killed on the way, the model at the end."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from support.twin import ROOT, RunningTwin
from support.waiting import eventually

SAMPLES = ROOT / "manifests" / "samples"


def get(twin: RunningTwin, space: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {"status": {}} | twin.kubectl.json("get", "tj", name, "-n", space)
    return found


async def succeeded(twin: RunningTwin, space: str, name: str, *, within: float = 200) -> dict[str, Any]:
    def over() -> dict[str, Any] | None:
        status = get(twin, space, name)["status"]
        assert status.get("phase") != "Failed", status
        return status if status.get("phase") == "Succeeded" else None

    status: dict[str, Any] = await eventually(over, within=within, every=0.3)
    return status


def kill_worker(job: dict[str, Any], index: int) -> None:
    wanted = {"TRAINWRIGHT_UID": job["metadata"]["uid"], "TRAINWRIGHT_WORKER_INDEX": str(index)}
    for process in psutil.process_iter():
        try:
            if wanted.items() <= process.environ().items():
                os.kill(process.pid, signal.SIGKILL)
        except (psutil.Error, ProcessLookupError):
            continue


@pytest.mark.timeout(300)
@pytest.mark.parametrize("framework", ["horovod", "jax", "tensorflow"])
async def test_a_killed_worker_costs_steps_and_the_digits_are_learned(twin: RunningTwin, space: str, framework: str) -> None:
    name = f"{framework}-digits"
    job = yaml.safe_load((SAMPLES / f"{name}.yaml").read_text())
    job["spec"]["recipe"]["config"] |= {"step_delay_seconds": 0.05}
    twin.kubectl("apply", "-n", space, "-f", "-", stdin=yaml.safe_dump(job))
    checkpoint = await eventually(lambda: get(twin, space, name)["status"].get("checkpoint"), within=120, every=0.1)
    kill_worker(get(twin, space, name), 1)
    status = await succeeded(twin, space, name)
    assert status["attempt"] == 2
    assert status["restarts"]["last"]["pod"] == f"{name}-a1-worker-1", "not the one that lost its peer"
    assert status["progress"]["resumedFrom"] >= checkpoint["step"]
    manifest = json.loads((Path(status["checkpoint"]["path"]).parents[1] / "artifacts/manifest.json").read_text())
    assert manifest["framework"] == framework
    assert manifest["metrics"]["accuracy"] >= 0.97


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("sample", "says"),
    [
        ("horovod-script", "2 ranks, accuracy 0.9"),
        ("jax-script", "2 processes, accuracy 0.9"),
        ("tensorflow-keras-fit", "1 replicas, accuracy 0.9"),
        ("tensorflow-mwms-fit", "worker 0 of 2, accuracy 0.9"),
    ],
)
async def test_a_script_without_a_line_of_ours(twin: RunningTwin, space: str, sample: str, says: str) -> None:
    twin.kubectl("apply", "-n", space, "-f", SAMPLES / f"{sample}.yaml")
    await succeeded(twin, space, sample)
    assert says in twin.kubectl("logs", f"{sample}-a1-worker-0", "-n", space)
