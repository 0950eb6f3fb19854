"""The local twin as a whole: control plane, CRD, storage class, nodes, operator; up, down, and what is there."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import NODES, ClusterError
from trainwright.local import binaries, prometheus
from trainwright.local.addresses import free_port
from trainwright.local.controlplane import ORDER, ControlPlane
from trainwright.local.locks import locked
from trainwright.local.paths import DEFAULT, home, state_of
from trainwright.local.podstatus import HOST
from trainwright.local.process import end_pod
from trainwright.local.processes import Processes

READY_SECONDS = 30.0
NODE_GRACE_SECONDS = 8.0
OPERATOR_GRACE_SECONDS = 5.0
PROMETHEUS = "prometheus"
PROMETHEUS_GRACE_SECONDS = 3.0
Progress = Callable[[str], None]


class TwinFailed(RuntimeError):
    """A part of the twin did not come up; the message ends with its log's last lines."""


@dataclass(frozen=True)
class TwinStatus:
    """`processes`: whether each runs. `nodes`: their GPUs by name."""

    name: str
    state: Path
    kubeconfig: Path
    kubectl: str
    processes: dict[str, bool]
    nodes: dict[str, int]


def running_kubeconfig(name: str = DEFAULT) -> Path | None:
    """The kubeconfig of the twin of that name, if its API server runs."""
    state = state_of(name)
    return state / "kubeconfig" if Processes(state).alive("apiserver") else None


class Twin:
    """One twin, by name."""

    def __init__(self, name: str = DEFAULT) -> None:
        self.name = name
        self.state = state_of(name)
        self._processes = Processes(self.state)
        self._settings = self.state / "twin.json"

    async def up(
        self,
        *,
        nodes: int | None = None,
        gpus_per_node: int | None = None,
        monitoring: bool | None = None,
        operator: bool = True,
        progress: Progress = lambda _: None,
    ) -> Path:
        """Bring everything up; what runs is left alone. Returns the kubeconfig's path.

        None means as the twin had it before, so that mending it doesn't change it; a new one has one node without GPUs, and no
        Prometheus (`monitoring`).
        Raises `ControlPlaneUnavailable` when there is none to be had, `TwinFailed` when a part doesn't start.
        """
        with locked(home() / "locks" / self.name, lambda: progress("somebody else is bringing this twin up; waiting")):
            return await self._up(nodes, gpus_per_node, monitoring, operator=operator, progress=progress)

    async def _up(
        self, nodes: int | None, gpus_per_node: int | None, monitoring: bool | None, *, operator: bool, progress: Progress
    ) -> Path:
        programs = await asyncio.to_thread(binaries.ensure, progress)
        plane = ControlPlane(self.state, programs, name=self.name)
        kubeconfig = await plane.start(progress)
        settings = self._read_settings()
        nodes = settings.get("nodes", 1) if nodes is None else nodes
        gpus_per_node = settings.get("gpus_per_node", 0) if gpus_per_node is None else gpus_per_node
        monitoring = settings.get("monitoring", False) if monitoring is None else monitoring
        settings = {
            "kubectl": str(programs["kubectl"]),
            "nodes": nodes,
            "gpus_per_node": gpus_per_node,
            "monitoring": monitoring,
        }
        self._settings.write_text(json.dumps(settings))
        cluster = await KubeCluster.connect(kubeconfig=kubeconfig)
        try:
            progress(f"starting {nodes} process node{'s' if nodes != 1 else ''}{' and the operator' if operator else ''}")
            names = [f"node-{number + 1}" for number in range(nodes)]
            for number, name in enumerate(names):
                self._start_node(name, number, gpus_per_node)
            if operator:
                self._start_operator(kubeconfig)
            await self._eventually("node", lambda: _nodes_ready(cluster, names), [*names, *ORDER])
            if operator:
                await self._eventually("operator", self.operator_healthy, ["operator"])
            if monitoring:
                await self._start_prometheus(progress)
            else:
                self._processes.stop(PROMETHEUS, grace=PROMETHEUS_GRACE_SECONDS)
        finally:
            await cluster.close()
        return kubeconfig

    def down(self, progress: Progress = lambda _: None) -> bool:
        """Stop everything and remove its state; whether there was anything."""
        if not self.state.exists():
            return False
        names = self._processes.names()
        progress("stopping the operator, the nodes and their pods")
        pods = list((self.state / "nodes").glob("*/pods/*"))
        for name in names:
            if name in ("operator", PROMETHEUS) or name.startswith("node-"):
                grace = OPERATOR_GRACE_SECONDS if name == "operator" else NODE_GRACE_SECONDS
                self._processes.stop(name, grace=grace)
        for folder in pods:
            end_pod(folder)
        progress("stopping the control plane")
        ControlPlane(self.state, {}).stop()
        shutil.rmtree(self.state, ignore_errors=True)
        return True

    async def status(self) -> TwinStatus | None:
        """What is there; None when the twin has no state."""
        if not self.state.exists():
            return None
        nodes: dict[str, int] = {}
        kubeconfig = self.state / "kubeconfig"
        if self._processes.alive("apiserver"):
            cluster = await KubeCluster.connect(kubeconfig=kubeconfig)
            try:
                listed = (await cluster.list(NODES)).items
                nodes = {
                    node["metadata"]["name"]: int(node["status"].get("capacity", {}).get("nvidia.com/gpu", 0)) for node in listed
                }
            except ClusterError:
                nodes = {}
            finally:
                await cluster.close()
        return TwinStatus(
            name=self.name,
            state=self.state,
            kubeconfig=kubeconfig,
            kubectl=self.kubectl,
            processes={name: self._processes.alive(name) for name in self._processes.names()},
            nodes=nodes,
        )

    def process(self, name: str) -> psutil.Process | None:
        """The running process of that name: a part of the control plane, a node, `operator`."""
        return self._processes.process(name)

    async def restart_operator(self) -> None:
        """Start the operator anew, and wait until it works. Raises `TwinFailed`."""
        self._processes.stop("operator", grace=0)
        self._start_operator(self.state / "kubeconfig")
        await self._eventually("operator", self.operator_healthy, ["operator"])

    @property
    def kubectl(self) -> str:
        """The kubectl that goes with this twin."""
        return str(self._read_settings().get("kubectl", "kubectl"))

    def _read_settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = json.loads(self._settings.read_text()) if self._settings.exists() else {}
        return settings

    def _start_node(self, name: str, number: int, gpus: int) -> None:
        command = [sys.executable, "-m", "trainwright.local.agent", "--state", str(self.state), "--name", name]
        command += ["--number", str(number), "--gpus", str(gpus), *(["--storage"] if number == 0 else [])]
        self._processes.start(name, command)

    def _start_operator(self, kubeconfig: Path) -> None:
        if self._processes.alive("operator"):
            return
        path = self.state / "operator.port"
        # The port that it had, if it can be had again: a Prometheus knows no other.
        port = free_port(HOST, wanted=int(path.read_text()) if path.exists() else 0)
        path.write_text(str(port))
        command = [sys.executable, "-m", "trainwright.controller", "--listen", f"{HOST}:{port}", "--progress-interval", "1"]
        # A node of a twin is a process: it doesn't come back after a reboot, so there is nothing to wait for.
        command += ["--node-lost-after", "10"]
        key = self.state / "gateway.key"
        if not key.exists():
            key.touch(mode=0o600)
            key.write_text(secrets.token_hex(32))
        command += ["--gateway-key", str(key)]
        self._processes.start("operator", command, env={**os.environ, "KUBECONFIG": str(kubeconfig)})

    async def _start_prometheus(self, progress: Progress) -> None:
        where, operator = self.state / PROMETHEUS, f"{HOST}:{(self.state / 'operator.port').read_text()}"
        if url := self.prometheus_url:
            prometheus.configure(where, operator=operator)
            async with aiohttp.ClientSession() as session, session.post(f"{url}/-/reload"):
                return
        program = (await asyncio.to_thread(prometheus.ensure, progress))["prometheus"]
        progress("starting Prometheus")
        port = free_port(HOST)
        (self.state / "prometheus.port").write_text(str(port))
        self._processes.start(PROMETHEUS, prometheus.command(program, where, address=f"{HOST}:{port}", operator=operator))
        await self._eventually("Prometheus", self.prometheus_ready, [PROMETHEUS])

    @property
    def prometheus_url(self) -> str | None:
        """Where the twin's Prometheus answers, if it has one that runs."""
        try:
            port = (self.state / "prometheus.port").read_text()
        except OSError:
            return None
        return f"http://{HOST}:{port}" if self._processes.alive(PROMETHEUS) else None

    async def prometheus_ready(self) -> bool:
        """Whether the twin's Prometheus answers queries."""
        return await _answers(f"{self.prometheus_url}/-/ready")

    async def operator_healthy(self) -> bool:
        """Whether the twin's operator answers that all is well."""
        try:
            port = (self.state / "operator.port").read_text()
        except OSError:
            return False
        return await _answers(f"http://{HOST}:{port}/healthz")

    async def _eventually(self, what: str, condition: Callable[[], Awaitable[bool]], processes: Sequence[str]) -> None:
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        while not await condition():
            dead = next((name for name in processes if not self._processes.alive(name)), None)
            if dead or asyncio.get_running_loop().time() > deadline:
                name = dead or processes[0]
                ended = f"{name} ended" if dead else f"the {what} {name} is not ready after {READY_SECONDS:.0f} s"
                raise TwinFailed(f"{ended}; its last lines:\n{self._processes.tail(name)}")
            await asyncio.sleep(0.1)


async def _answers(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status == 200
    except (OSError, aiohttp.ClientError):
        return False


async def _nodes_ready(cluster: KubeCluster, names: list[str]) -> bool:
    try:
        nodes = {node["metadata"]["name"]: node for node in (await cluster.list(NODES)).items}
    except ClusterError:
        return False
    return all(name in nodes and _schedulable(nodes[name]) for name in names)


def _schedulable(node: dict[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return not node["spec"].get("taints") and any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
