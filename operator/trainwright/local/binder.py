"""What kube-scheduler and the volume controller do, as far as one process needs it: for the in-memory cluster only.

Pods go to the first node with enough of what they ask for, or to the one that they are made for, in the order of their creation;
a claim is bound to the volume that was made for it. A pod that fits nowhere is told so in the scheduler's own words.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from trainwright.api.model import amount
from trainwright.cluster.port import CLAIMS, NODES, PODS, VOLUMES, Cluster, NotFound, Object
from trainwright.controller.store import Store
from trainwright.observe.times import rfc3339
from trainwright.schedulers.capacity.pins import pinned_to

_Amounts = dict[str, float]


class Binder:
    """Runs until cancelled."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._changed = asyncio.Event()
        self._pods, self._nodes, self._claims, self._volumes = (
            Store(cluster, resource, on_change=lambda _: self._changed.set()) for resource in (PODS, NODES, CLAIMS, VOLUMES)
        )

    async def run(self) -> None:
        """Bind whatever can be bound, whenever something changed."""
        stores = (self._pods, self._nodes, self._claims, self._volumes)
        async with asyncio.TaskGroup() as group:
            for store in stores:
                group.create_task(store.run())
            for store in stores:
                await store.synced.wait()
            while True:
                self._changed.clear()
                await self._bind_claims()
                await self._bind_pods()
                await self._changed.wait()

    async def _bind_claims(self) -> None:
        volumes = {
            (claim["namespace"], claim["name"]): volume["metadata"]["name"]
            for volume in self._volumes.all()
            if (claim := volume["spec"].get("claimRef"))
        }
        for claim in self._claims.all():
            metadata = claim["metadata"]
            volume = volumes.get((metadata["namespace"], metadata["name"]))
            if volume is not None and not claim["spec"].get("volumeName"):
                where = (metadata["name"], metadata["namespace"])
                await self._cluster.patch(CLAIMS, *where, {"spec": {"volumeName": volume}})
                bound = await self._cluster.patch(CLAIMS, *where, {"status": {"phase": "Bound"}}, subresource="status")
                self._claims.put(bound)

    async def _bind_pods(self) -> None:
        free = self._free()
        waiting = [
            pod for pod in self._pods.all() if not pod["spec"].get("nodeName") and "deletionTimestamp" not in pod["metadata"]
        ]
        for pod in sorted(waiting, key=lambda pod: int(pod["metadata"]["resourceVersion"])):
            asked = _requests(pod)
            wanted = pinned_to(pod)
            allowed = {name: room for name, room in free.items() if wanted in ("", name)}
            node = next((name for name, room in allowed.items() if not _short(asked, room)), None)
            try:
                if node is None:
                    await self._refuse(pod, asked, free, allowed)
                else:
                    self._pods.put(await self._bind(pod, node))
                    free[node] = {name: room - asked.get(name, 0.0) for name, room in free[node].items()}
            except NotFound:
                continue

    def _free(self) -> dict[str, _Amounts]:
        """What each ready node has left once its unfinished pods are counted."""
        free = {
            node["metadata"]["name"]: {name: amount(str(value)) for name, value in node["status"]["allocatable"].items()}
            for node in self._nodes.all()
            if _ready(node)
        }
        for pod in self._pods.all():
            room = free.get(pod["spec"].get("nodeName", ""))
            if room is not None and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
                for name, asked in _requests(pod).items():
                    room[name] = room.get(name, 0.0) - asked
        return free

    async def _bind(self, pod: Object, node: str) -> Object:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        await self._cluster.patch(PODS, name, namespace, {"spec": {"nodeName": node}})
        return await self._say(pod, status="True", reason="Scheduled", message="")

    async def _refuse(self, pod: Object, asked: _Amounts, free: dict[str, _Amounts], allowed: dict[str, _Amounts]) -> None:
        lacking = Counter(f"Insufficient {name}" for room in allowed.values() for name in _short(asked, room))
        if others := len(free) - len(allowed):
            lacking["node(s) didn't match Pod's node affinity/selector"] = others
        why = ", ".join(f"{count} {what}" for what, count in sorted(lacking.items())) or "no node is ready"
        message = f"0/{len(free)} nodes are available: {why}."
        if not any(one.get("message") == message for one in pod.get("status", {}).get("conditions", [])):
            self._pods.put(await self._say(pod, status="False", reason="Unschedulable", message=message))

    async def _say(self, pod: Object, *, status: str, reason: str, message: str) -> Object:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        now = rfc3339(time.time())
        condition = {"type": "PodScheduled", "status": status, "reason": reason, "message": message, "lastTransitionTime": now}
        others = [one for one in pod.get("status", {}).get("conditions", []) if one["type"] != "PodScheduled"]
        patch: dict[str, Any] = {"status": {"conditions": [*others, condition]}}
        return await self._cluster.patch(PODS, name, namespace, patch, subresource="status")


def _ready(node: Object) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _requests(pod: Object) -> _Amounts:
    total: _Amounts = {"pods": 1.0}
    for container in pod["spec"].get("containers", []):
        for name, value in (container.get("resources", {}).get("requests") or {}).items():
            total[name] = total.get(name, 0.0) + amount(str(value))
    return total


def _short(asked: _Amounts, room: _Amounts) -> list[str]:
    return [name for name, wanted in asked.items() if wanted > room.get(name, 0.0)]
