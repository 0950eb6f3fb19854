"""From a trained model to a served one, on a whole twin: real jobs, publisher, TorchServe and gateway, under clients' load."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from typing import Any

import pytest

from support.jobs import apply, sample, succeeded
from support.load import load
from support.serving_twin import Served
from support.twin import RunningTwin
from support.waiting import eventually

NAME = "digits"


async def train(twin: RunningTwin, space: str, name: str, **config: Any) -> None:
    """Train a version and offer it."""
    job = sample("publish-digits")
    job["metadata"]["name"] = name
    job["spec"]["recipe"]["config"] = {"epochs": 8, **config}
    job["spec"]["publish"]["gates"] = []
    apply(twin, space, job)
    await succeeded(twin, space, name)


async def serve(twin: RunningTwin, space: str, **spec: Any) -> Served:
    deployment = sample("serve-digits")
    steps = [{"weight": 50, "holdSeconds": 1, "minRequests": 40}]
    deployment["spec"] |= {"gates": [], "canary": {"steps": steps, "maxLatencyRatio": 20}} | spec
    apply(twin, space, deployment)
    return Served(twin, space, NAME)


def state_of(status: dict[str, Any], version: int) -> str:
    return next((one["state"] for one in status.get("versions", []) if one["version"] == version), "")


def requests(served: Served) -> list[Any]:
    """Bodies made of the samples that came with the first version."""
    samples = json.loads((served.models() / "records" / "1" / "samples.json").read_text())["inputs"]
    (name,) = samples
    return [{"inputs": {name: [row]}} for row in samples[name]]


@pytest.mark.timeout(420)
async def test_versions_come_and_go_under_load_and_no_request_is_lost(twin: RunningTwin, space: str) -> None:
    served = await serve(twin, space)
    await train(twin, space, "first")
    status = await served.reaches(lambda now: now.get("live") == 1, "the first version is live")
    assert twin.kubectl.json("get", "tj", "first", "-n", space)["status"]["model"]["state"] in ("Candidate", "Live")

    async with load(served.gateways, f"/predictions/{NAME}", requests(served), clients=2, pause=0.05) as clients:
        await train(twin, space, "worse", learning_rate=1e-9)
        status = await served.reaches(lambda now: state_of(now, 2) == "RolledBack", "a worse one is rolled back")
        assert "Jensen-Shannon" in status["versions"][0]["reason"]
        assert status["live"] == 1
        await train(twin, space, "better", epochs=15)
        status = await served.reaches(lambda now: now.get("live") == 3, "a better one goes live")
        assert status["previous"] == 1
        await eventually(lambda: clients.answers["3"] > 100, within=30, what="all traffic is the new version's")

        # A server that dies, in the middle of it all.
        for process in served.processes("server", 3):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        back = twin.cli("rollback", NAME, "-n", space, "--follow", timeout=180)
        assert back.returncode == 0, back.stderr
        status = await served.reaches(lambda now: now.get("live") == 1 and not now.get("candidate"), "back at the first")
        before = clients.answers["1"]
        await eventually(lambda: clients.answers["1"] > before + 50, within=30, what="the first answers again")
    assert clients.failures == []
    assert clients.answers["2"] >= 40, "the worse one was asked, and answered"
    events = [one["reason"] for one in twin.kubectl.json("get", "events", "-n", space)["items"]]
    assert {"CanaryFailed", "VersionLive", "GatesPassed", "VersionPublished"} <= set(events)
    assert "not kept" in twin.cli("rollback", NAME, "2", "-n", space).stderr


@pytest.mark.timeout(300)
async def test_the_operator_is_killed_at_every_step_of_a_version(twin: RunningTwin, space: str) -> None:
    served = await serve(twin, space)
    await train(twin, space, "first")
    steps: list[str] = []
    for _ in range(6):
        status = await served.reaches(
            lambda now: now.get("live") == 1 or now.get("candidate", {}).get("step") not in (None, *steps),
            "another step",
        )
        if status.get("live") == 1:
            break
        steps.append(status["candidate"]["step"])
        operator = twin.twin.process("operator")
        assert operator is not None
        operator.kill()
        await twin.twin.restart_operator()
    status = await served.reaches(lambda now: now.get("live") == 1, "live in the end")
    assert len(status["versions"]) == 1, "taken once"
    assert steps
