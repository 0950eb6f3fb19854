"""TrainingJobs on a twin, as a suite follows and disturbs them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from typing import Any

import psutil
import yaml

from support.twin import ROOT, RunningTwin
from support.waiting import eventually
from trainwright.api.kinds import KINDS

SAMPLES = ROOT / "manifests" / "samples"


def sample(name: str) -> dict[str, Any]:
    """The job, or the deployment, of a sample file, to be changed."""
    (found,) = [one for one in yaml.safe_load_all((SAMPLES / f"{name}.yaml").read_text()) if one["kind"] in KINDS]
    return dict(found)


def apply(twin: RunningTwin, space: str, job: dict[str, Any]) -> None:
    twin.kubectl("apply", "-n", space, "-f", "-", stdin=yaml.safe_dump(job))


def get(twin: RunningTwin, space: str, name: str = "digits") -> dict[str, Any]:
    """The job, with a status in any case."""
    return {"status": {}} | twin.kubectl.json("get", "tj", name, "-n", space)


async def until(
    twin: RunningTwin, space: str, condition: Callable[[dict[str, Any]], Any], *, name: str = "digits", within: float = 90
) -> dict[str, Any]:
    """The job's status as soon as the condition holds for it; a job that fails meanwhile is an error."""

    def met() -> dict[str, Any] | None:
        status = get(twin, space, name)["status"]
        assert status.get("phase") != "Failed", status
        return status if condition(status) else None

    status: dict[str, Any] = await eventually(met, within=within, every=0.2)
    return status


async def succeeded(twin: RunningTwin, space: str, name: str = "digits", *, within: float = 200) -> dict[str, Any]:
    return await until(twin, space, lambda status: status.get("phase") == "Succeeded", name=name, within=within)


def worker_pids(job: dict[str, Any], index: int) -> list[int]:
    """Every process of one worker of a job."""
    wanted = {"TRAINWRIGHT_UID": job["metadata"]["uid"], "TRAINWRIGHT_WORKER_INDEX": str(index)}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if wanted.items() <= process.environ().items():
                found.append(process.pid)
    return sorted(found)


def kill_worker(job: dict[str, Any], index: int) -> None:
    """As a node that loses its power would."""
    for pid in worker_pids(job, index):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
