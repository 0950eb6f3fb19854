"""A pod's status as a kubelet writes it, from the states of its containers."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from trainwright.cluster.port import PODS, Cluster, ClusterError, Conflict, NotFound, Object
from trainwright.observe.times import rfc3339

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
RETRY_SECONDS = 0.5


class PodStatus:
    """What is told of one pod. `address` is its own; `restarts` counts those of its container."""

    def __init__(self, cluster: Cluster, pod: Object, address: str) -> None:
        self._cluster = cluster
        self._metadata = pod["metadata"]
        self._before: dict[str, Any] = {one["type"]: one for one in pod.get("status", {}).get("conditions", [])}
        self._address = address
        self._initial: list[Object] = pod["spec"].get("initContainers", [])
        self._containers: list[Object] = pod["spec"]["containers"]
        self._states: dict[str, dict[str, Any]] = {}
        self._last: dict[str, dict[str, Any]] = {}
        self._started: str = pod.get("status", {}).get("startTime") or now()
        self.restarts = 0

    async def report(self, phase: str, container: str, state: dict[str, Any], *, ready: bool = False) -> None:
        """One container's new state, and with it the pod's. The API server may be away for a while, but not for ever."""
        self._states[container] = state
        first = bool(self._initial) and any(container == one["name"] for one in self._initial)
        self._conditions(phase, ready=ready, initialized=not first)
        status: dict[str, Any] = {
            "phase": phase,
            "hostIP": HOST,
            "hostIPs": [{"ip": HOST}],
            "podIP": self._address,
            "podIPs": [{"ip": self._address}],
            "startTime": self._started,
            "conditions": list(self._before.values()),
            "containerStatuses": [self._container(one, ready=ready) for one in self._containers],
        }
        if self._initial:
            status["initContainerStatuses"] = [self._container(one, ready=False) for one in self._initial]
        patch = {"metadata": {"uid": self._metadata["uid"]}, "status": status}
        while True:
            try:
                await self._cluster.patch(PODS, self._metadata["name"], self._metadata["namespace"], patch, subresource="status")
                return
            except (NotFound, Conflict):
                return
            except ClusterError as error:
                log.warning("%s: status not written: %s", self._metadata["name"], error)
                await asyncio.sleep(RETRY_SECONDS)

    def ended(self, container: str, state: dict[str, Any]) -> None:
        """Keep how a container ended that is started again."""
        self._last[container] = state

    def _container(self, container: Object, *, ready: bool) -> dict[str, Any]:
        state = self._states.get(container["name"], {"waiting": {"reason": "PodInitializing"}})
        return {
            "name": container["name"],
            "image": container.get("image", ""),
            "imageID": "",
            "ready": ready,
            "started": ready,
            "restartCount": self.restarts if container in self._containers else 0,
            "state": state,
            **({"lastState": self._last[container["name"]]} if container["name"] in self._last else {}),
        }

    def _conditions(self, phase: str, *, ready: bool, initialized: bool) -> None:
        completed = {"reason": "PodCompleted"} if phase == "Succeeded" else {}
        wanted = {
            "PodScheduled": ("True", {}),
            "Initialized": ("True" if initialized else "False", {}),
            "ContainersReady": ("True" if ready else "False", completed),
            "Ready": ("True" if ready else "False", completed),
        }
        for kind, (status, extra) in wanted.items():
            old = self._before.get(kind, {})
            since = old.get("lastTransitionTime") if old.get("status") == status else None
            self._before[kind] = {"type": kind, "status": status, "lastTransitionTime": since or now(), **extra}

    def keep(self, pod: Object) -> None:
        """Take over conditions that others have set meanwhile."""
        for one in pod.get("status", {}).get("conditions", []):
            self._before.setdefault(one["type"], one)


def over(code: int, reason: str, message: str, *, since: str | None = None) -> dict[str, Any]:
    """The state of a container that has ended."""
    state = {"exitCode": code, "reason": reason, "startedAt": since or now(), "finishedAt": now()}
    return {"terminated": state | ({"message": message} if message else {})}


def now() -> str:
    return rfc3339(time.time())
