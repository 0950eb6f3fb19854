"""Training goes on: what happens to workers, to the operator and to the node costs steps, and not the training."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from cluster.cluster import NODE
from support.installed import NAMESPACE, Installed, bare
from support.jobs import apply, sample, succeeded, until
from support.waiting import eventually


def digits(**changes: Any) -> dict[str, Any]:
    job = sample("digits")
    job["spec"]["recipe"]["config"] |= changes
    job["spec"]["checkpoint"] = {"everySteps": 20}
    return job


def resumed(status: dict[str, Any]) -> int:
    return int(status.get("progress", {}).get("resumedFrom") or 0)


@contextlib.asynccontextmanager
async def bystander(release: Installed) -> AsyncIterator[None]:
    """A second node that takes no pods and is well: where all nodes fall silent at once, Kubernetes gives up none of them."""
    name = "bystander"
    ready = {"type": "Ready", "status": "True", "reason": "Pretended", "message": "by a test"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"unschedulable": True}}
    release.kubectl("apply", "-f", "-", stdin=json.dumps(node))
    release.kubectl(
        "patch", "node", name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": {"conditions": [ready]}})
    )

    async def beats() -> None:
        while True:
            now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now}
            metadata = {"name": name, "namespace": "kube-node-lease"}
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            await asyncio.to_thread(release.kubectl, "apply", "-f", "-", stdin=json.dumps(lease))
            await asyncio.sleep(3)

    beating = asyncio.create_task(beats())
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.wait([beating])
        release.kubectl("delete", "node", name)


def step(status: dict[str, Any]) -> int:
    return int(status.get("progress", {}).get("step") or 0)


@pytest.mark.timeout(400)
async def test_a_killed_worker_and_a_deleted_operator_cost_steps_alone(release: Installed, space: str) -> None:
    apply(release, space, digits(epochs=6, step_delay_seconds=0.1))
    await until(release, space, lambda status: step(status) >= 25, within=120)
    (pid,) = release.cluster.containers.pids("digits-a1-worker-1")
    os.kill(pid, signal.SIGKILL)
    (operator,) = release.operator_pods()
    release.kubectl("delete", "pod", "-n", NAMESPACE, operator["metadata"]["name"], "--wait=false")

    status = await succeeded(release, space, within=240)
    assert status["attempt"] == 2
    assert status["restarts"]["failure"] == 1
    last = status["restarts"]["last"]
    assert (last["pod"], last["cause"], last["signal"]) == ("digits-a1-worker-1", "Killed", 9)
    assert status["progress"]["resumedFrom"] >= 20
    (after,) = release.operator_pods()
    assert after["metadata"]["uid"] != operator["metadata"]["uid"]
    described = release.kubectl("describe", "tj", "digits", "-n", space)
    assert "WorkerFailed" in described


@pytest.mark.timeout(400)
async def test_a_deleted_pod_a_drained_node_and_a_pause_cost_no_try(release: Installed, space: str) -> None:
    job = digits(epochs=15, step_delay_seconds=0.2)
    job["spec"]["runPolicy"] = {"backoffLimit": 0}
    apply(release, space, job)
    await until(release, space, lambda status: step(status) >= 5, within=120)

    release.kubectl("delete", "pod", "-n", space, "digits-a1-worker-1", "--wait=false")
    status = await until(release, space, lambda status: status.get("progress", {}).get("resumedFrom"), within=120)
    assert status["attempt"] == 2
    assert status["restarts"]["last"]["cause"] == "Deleted"

    release.kubectl("cordon", NODE)
    try:
        release.kubectl("drain", NODE, "--pod-selector=trainwright.dev/job=digits", "--force", "--delete-emptydir-data")
        line = await release.waits(space, "digits", lambda reason: "cordoned" in reason)
        assert line.startswith("needs 2 × ")
    finally:
        release.kubectl("uncordon", NODE)
    status = await until(release, space, lambda status: status["attempt"] == 3 and status["phase"] == "Running", within=120)
    assert status["restarts"]["failure"] == 0
    assert status["restarts"]["infrastructure"] == 2
    assert status["restarts"]["last"]["cause"] == "Evicted"

    resumed_from = status["progress"].get("resumedFrom") or 0
    status = await until(release, space, lambda status: resumed(status) > resumed_from and step(status) > resumed(status))
    before = step(status)
    release.kubectl("patch", "tj", "digits", "-n", space, "--type=merge", "-p", '{"spec":{"runPolicy":{"suspend":true}}}')
    await until(release, space, lambda status: status.get("reason") == "suspended")
    await eventually(lambda: not release.pods(space, "digits"), within=60, every=0.3, what="its pods are gone")
    release.kubectl("patch", "tj", "digits", "-n", space, "--type=merge", "-p", '{"spec":{"runPolicy":{"suspend":false}}}')
    status = await until(release, space, lambda status: resumed(status) >= before, within=120)
    assert status["restarts"]["failure"] == 0, "and what was saved on the way out was found"


@pytest.mark.timeout(300)
async def test_a_node_that_falls_silent_is_given_up_and_taken_again(release: Installed, space: str) -> None:
    apply(release, space, bare("patient", "sleep 600"))
    await until(release, space, lambda status: status.get("phase") == "Running", name="patient")
    async with bystander(release):
        release.cluster.stop_kubelet()
        try:
            status = await until(release, space, lambda status: status.get("attempt") == 2, name="patient", within=150)
            assert status["restarts"]["last"]["cause"] == "NodeLost"
            assert status["restarts"]["failure"] == 0
        finally:
            release.cluster.start_kubelet()
    await until(release, space, lambda status: status.get("phase") == "Running", name="patient", within=120)

    def names() -> set[str]:
        return {pod["metadata"]["name"] for pod in release.pods(space, "patient")}

    await eventually(lambda: names() == {"patient-a2-worker-0"}, within=60, every=0.3, what="the kubelet has ended the first")
