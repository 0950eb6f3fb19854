"""The process node: a node agent that runs the pods bound to it as processes of this machine, and tells as a kubelet does.

It talks to the cluster through the port, so the same node serves a real API server (`trainwright up`) and the in-memory
cluster (`trainwright run`).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from trainwright import __version__
from trainwright.api.names import GPU
from trainwright.cluster.port import LEASES, NODES, PODS, AlreadyExists, Cluster, ClusterError, NotFound, Object
from trainwright.controller.store import Store
from trainwright.local.addresses import Addresses
from trainwright.local.cgroups import Groups
from trainwright.local.gpus import Gpus
from trainwright.local.pod import Host, PodRunner
from trainwright.local.podstatus import HOST
from trainwright.local.process import end_pod
from trainwright.observe.times import rfc3339, rfc3339_micro

log = logging.getLogger(__name__)

LEASE_SECONDS = 5.0
LEASE_NAMESPACE = "kube-node-lease"


class ProcessNode:
    """One node. `prefix` is the /24 of its pods (`127.33.0`); `state` holds what its pods write; `port` serves their logs.

    `groups`: where containers get cgroups; without it memory is watched. With `overcommit` the node claims room for anything.
    `labels`: those it has beside a node's own.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        name: str,
        state: Path,
        prefix: str,
        gpus: Gpus,
        groups: Groups | None = None,
        port: int = 0,
        overcommit: bool = False,
        labels: Mapping[str, str] | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = name
        self._cluster = cluster
        self._gpus = gpus
        self._port = port
        self._overcommit = overcommit
        self._labels = dict(labels or {})
        self._runners: dict[str, PodRunner] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._pods = Store(cluster, PODS, on_change=self._changed)
        self._host = Host(
            cluster=cluster,
            state=state,
            addresses=Addresses(prefix),
            gpus=gpus,
            groups=groups,
            pods=self._pods.all,
            progress=progress,
        )

    async def run(self) -> None:
        """Register, run pods, stay alive; until cancelled. Pods that run then are stopped."""
        await self._register()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pods.run())
                group.create_task(self._renew())
                group.create_task(self._sweep())
        finally:
            await self._stop()

    def log_file(self, namespace: str, pod: str) -> Path | None:
        """The log of a pod of this node; None when it runs no such pod."""
        found = self._pods.get(namespace, pod)
        runner = self._runners.get(found["metadata"]["uid"]) if found else None
        return runner.log if runner else None

    async def read_log(self, namespace: str, pod: str, tail_lines: int | None) -> str:
        """The end of a pod's log, for the in-memory cluster. Raises `NotFound`."""
        path = self.log_file(namespace, pod)
        if path is None:
            raise NotFound(f'pods "{pod}" not found on node {self.name}')
        lines = path.read_text(errors="replace").splitlines(keepends=True)
        return "".join(lines if tail_lines is None else lines[max(0, len(lines) - tail_lines) :])

    def logs_of(self, labels: dict[str, str]) -> list[tuple[str, Path]]:
        """Name and log of every pod of this node with these labels."""
        return [(runner.name, runner.log) for runner in self._runners.values() if labels.items() <= runner.labels.items()]

    def finished(self, namespace: str, pod: str) -> bool:
        """Whether a pod writes no more."""
        found = self._pods.get(namespace, pod)
        return found is None or found.get("status", {}).get("phase") in ("Succeeded", "Failed")

    def _changed(self, pod: Object) -> None:
        """News of any pod: ours to run, or a peer that one of ours waits for."""
        uid = pod["metadata"]["uid"]
        metadata = pod["metadata"]
        present = self._pods.get(metadata["namespace"], metadata["name"])
        here = present is not None and present["metadata"]["uid"] == uid
        runner = self._runners.get(uid)
        if runner is not None and not here:
            runner.gone()
        elif runner is None and here and pod["spec"].get("nodeName") == self.name:
            self._begin(uid, pod)
        for other in self._runners.values():
            other.changed(pod)

    def _begin(self, uid: str, pod: Object) -> None:
        over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if over and "deletionTimestamp" not in pod["metadata"] and not (self._host.state / "pods" / uid).exists():
            return
        runner = self._runners[uid] = PodRunner(self._host, pod)
        task = self._tasks[uid] = asyncio.create_task(runner.run(), name=pod["metadata"]["name"])
        task.add_done_callback(lambda done: self._over(uid, done))
        runner.changed(pod)

    def _over(self, uid: str, task: asyncio.Task[None]) -> None:
        self._runners.pop(uid, None)
        self._tasks.pop(uid, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("pod %s: the agent failed", task.get_name(), exc_info=error)

    async def _sweep(self) -> None:
        """End and remove what a dead agent left here of pods that are over or gone. The lock tells it from a living one."""
        await self._pods.synced.wait()
        self._host.state.mkdir(parents=True, exist_ok=True)
        with (self._host.state / "agent.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.warning("another agent works in %s; what it runs is left alone", self._host.state)
                return
            for folder in (self._host.state / "pods").glob("*"):
                if folder.name not in self._runners:
                    await asyncio.to_thread(end_pod, folder)
                    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            await asyncio.Event().wait()

    async def _stop(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _register(self) -> None:
        labels = {
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
            "trainwright.dev/process-node": "true",
            **self._labels,
        }
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name, "labels": labels}, "spec": {}}
        with contextlib.suppress(AlreadyExists):
            await self._cluster.create(NODES, node)
        await self._cluster.patch(NODES, self.name, None, {"status": self._status()}, subresource="status")

    def _status(self) -> dict[str, Any]:
        now = rfc3339(time.time())
        amounts = {"cpu": str(os.cpu_count() or 1), "memory": f"{psutil.virtual_memory().total // 1024}Ki"}
        if self._overcommit:
            amounts = {"cpu": "100000", "memory": "1000Ti"}
        amounts |= {"pods": "250", GPU: str(self._gpus.count)}
        condition = {
            "type": "Ready",
            "status": "True",
            "reason": "ProcessNodeReady",
            "message": "pods run as processes of this machine",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        info = dict.fromkeys(("machineID", "systemUUID", "bootID", "kubeProxyVersion"), "")
        info |= {
            "kernelVersion": platform.release(),
            "osImage": platform.platform(),
            "containerRuntimeVersion": f"process://{__version__}",
            "kubeletVersion": "v1.36.3",
            "operatingSystem": "linux",
            "architecture": platform.machine(),
        }
        return {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [condition],
            "addresses": [{"type": "InternalIP", "address": HOST}, {"type": "Hostname", "address": self.name}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._port}},
            "nodeInfo": info,
        }

    async def _is_ready(self) -> bool:
        try:
            node = await self._cluster.get(NODES, self.name)
        except NotFound:
            return False
        return any(one["type"] == "Ready" and one["status"] == "True" for one in node.get("status", {}).get("conditions", []))

    async def _renew(self) -> None:
        """Say "alive" for ever: the lease as a kubelet keeps it, the condition again when somebody has doubted it."""
        while True:
            try:
                lease = {
                    "apiVersion": LEASES.api_version,
                    "kind": LEASES.kind,
                    "metadata": {"name": self.name, "namespace": LEASE_NAMESPACE},
                    "spec": {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": rfc3339_micro(time.time())},
                }
                await self._cluster.apply(LEASES, lease, manager="process-node")
                if not await self._is_ready():
                    await self._register()
            except ClusterError as error:
                log.warning("node %s: lease not renewed: %s", self.name, error)
            await asyncio.sleep(LEASE_SECONDS)
