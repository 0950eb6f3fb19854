"""What a kubelet would make of a pod, for tests without one: statuses by hand, and a scripted kubelet over the port."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

from trainwright.api.names import CONTAINER, JOB_LABEL
from trainwright.cluster.port import PODS, Cluster, NotFound
from trainwright.schedulers.capacity.pins import pinned_to

STARTED = "2026-11-21T09:00:10Z"


def running(pod: dict[str, Any], *, address: str = "10.0.0.1", node: str = "node-1") -> dict[str, Any]:
    pod = copy.deepcopy(pod)
    pod["spec"]["nodeName"] = node
    pod["status"] = {
        "phase": "Running",
        "podIP": address,
        "containerStatuses": [{"name": CONTAINER, "state": {"running": {"startedAt": STARTED}}}],
    }
    return pod


def waiting(pod: dict[str, Any], *, reason: str, message: str = "", node: str = "node-1") -> dict[str, Any]:
    pod = copy.deepcopy(pod)
    pod["spec"]["nodeName"] = node
    state = {"waiting": {"reason": reason} | ({"message": message} if message else {})}
    pod["status"] = {"phase": "Pending", "containerStatuses": [{"name": CONTAINER, "state": state}]}
    return pod


def unschedulable(pod: dict[str, Any], message: str) -> dict[str, Any]:
    pod = copy.deepcopy(pod)
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    pod["status"] = {"phase": "Pending", "conditions": [condition]}
    return pod


def ended(
    pod: dict[str, Any],
    code: int,
    *,
    message: str | dict[str, Any] = "",
    reason: str | None = None,
    at: str = "2026-11-21T09:01:00Z",
) -> dict[str, Any]:
    pod = running(pod, node=pod["spec"].get("nodeName") or "node-1")
    terminated: dict[str, Any] = {
        "exitCode": code,
        "reason": reason or ("Completed" if code == 0 else "Error"),
        "startedAt": STARTED,
        "finishedAt": at,
    }
    if message:
        terminated["message"] = message if isinstance(message, str) else json.dumps(message)
    pod["status"]["phase"] = "Succeeded" if code == 0 else "Failed"
    pod["status"]["containerStatuses"][0]["state"] = {"terminated": terminated}
    return pod


class ScriptedKubelet:
    """Moves the pods of a job on, when a test says so, through any adapter of the port.

    With `bind` it also chooses their node, which a real API server leaves to its scheduler."""

    def __init__(self, cluster: Cluster, namespace: str = "default", *, bind: bool = True) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.bind = bind

    async def pods(self, job: str) -> list[dict[str, Any]]:
        listed = await self.cluster.list(PODS, self.namespace, labels={JOB_LABEL: job})
        return sorted(listed.items, key=lambda pod: pod["metadata"]["name"])

    async def become(self, pod: dict[str, Any]) -> None:
        """Write a pod's binding and status as they stand in `pod`."""
        name = pod["metadata"]["name"]
        there = await self.cluster.get(PODS, name, self.namespace)
        if self.bind and pod["spec"].get("nodeName") and not there["spec"].get("nodeName"):
            await self.cluster.patch(PODS, name, self.namespace, {"spec": {"nodeName": pod["spec"]["nodeName"]}})
        await self.cluster.patch(PODS, name, self.namespace, {"status": pod["status"]}, subresource="status")

    async def run_all(self, job: str) -> None:
        for pod in await self.pods(job):
            if pod["status"]["phase"] == "Pending":
                await self.become(running(pod, node=pinned_to(pod) or "node-1"))

    async def end_all(self, job: str, code: int = 0) -> None:
        for pod in await self.pods(job):
            if pod["status"]["phase"] == "Running":
                await self.become(ended(pod, code))

    async def confirm_deletions(self, job: str) -> None:
        """End and remove what is being deleted, as a node does."""
        for pod in await self.pods(job):
            if "deletionTimestamp" in pod["metadata"]:
                # One that was never bound is gone by itself.
                with contextlib.suppress(NotFound):
                    await self.cluster.delete(PODS, pod["metadata"]["name"], self.namespace, grace_seconds=0)
