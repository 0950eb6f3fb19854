"""The world that jobs are measured in: a real control plane, 200 simulated nodes, the operator as a process of its own.

Started under a temporary folder and ended with the block, however it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

import aiohttp
import psutil
from prometheus_client.parser import text_string_to_metric_families

from bench.observer import Observer
from bench.waiting import until
from trainwright.api.names import GPU, GROUP
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import CLAIMS, NAMESPACES, NODES, PODS, SERVICES, TRAINING_JOBS, VOLUMES, NotFound, Object, Resource
from trainwright.controller.execute import CONCURRENCY
from trainwright.controller.store import Store
from trainwright.local import binaries
from trainwright.local.addresses import free_port
from trainwright.local.controlplane import ControlPlane
from trainwright.local.processes import Processes
from trainwright.local.storage import Provisioner

Say = Callable[[str], None]

NODE_COUNT = 200
GPUS_PER_NODE = 8
NAMESPACE = "bench"
SHARED_CLAIM = "shared"
SIMULATED_LABEL = f"bench.{GROUP}/simulated"
FINISH_ANNOTATION = f"bench.{GROUP}/finish"
LOOPBACK = "127.0.0.1"
ACCOUNTS = Resource("ServiceAccount", "serviceaccounts")
REQUESTS_METRIC = "trainwright_api_requests"

Requests = dict[tuple[str, str], int]
"""Requests of the operator by verb and resource."""


class World:
    """What a case may use of it."""

    def __init__(self, cluster: KubeCluster, kubeconfig: Path, processes: Processes, operator_port: int, say: Say) -> None:
        self.cluster = cluster
        self.kubeconfig = kubeconfig
        self.say = say
        self.observer = Observer()
        self._processes = processes
        self._operator_port = operator_port
        self.stores = [
            Store(cluster, PODS, namespace=NAMESPACE, on_change=self.observer.pod),
            Store(cluster, TRAINING_JOBS, namespace=NAMESPACE, on_change=self.observer.job),
        ]

    @property
    def operator(self) -> psutil.Process:
        process = self._processes.process("operator")
        if process is None:
            raise RuntimeError(f"the operator ended; its last lines:\n{self._processes.tail('operator')}")
        return process

    def cpu_seconds(self) -> dict[str, float]:
        """CPU that each process has used so far, the observer's own as `bench`, and that of the whole machine."""
        used = {"bench": sum(psutil.Process().cpu_times()[:2])}
        for name in self._processes.names():
            if process := self._processes.process(name):
                used[name] = sum(process.cpu_times()[:2])
        times = psutil.cpu_times()
        return used | {"machine": sum(times) - times.idle - times.iowait - times.guest - times.guest_nice}

    async def scrape(self) -> str:
        """The operator's page of metrics."""
        async with aiohttp.ClientSession() as session, session.get(f"http://{LOOPBACK}:{self._operator_port}/metrics") as answer:
            return await answer.text()

    async def requests(self) -> Requests:
        """The operator's own count of its requests, watches left out: they are few and long."""
        counts: Requests = {}
        for family in text_string_to_metric_families(await self.scrape()):
            if family.name == REQUESTS_METRIC:
                for sample in family.samples:
                    key = (sample.labels["verb"], sample.labels["resource"])
                    if sample.name.endswith("_total") and key[0] != "watch":
                        counts[key] = counts.get(key, 0) + int(sample.value)
        return counts

    async def finish(self, pods: list[Object]) -> None:
        """Have the simulated nodes end these pods with exit code 0."""
        patch = {"metadata": {"annotations": {FINISH_ANNOTATION: "yes"}}}
        await self._each(pods, lambda pod: self.cluster.patch(PODS, pod["metadata"]["name"], NAMESPACE, patch))

    async def cordon(self, numbers: Iterable[int], *, away: bool) -> None:
        """Let no pods come to these nodes, or let them come."""
        nodes: list[Object] = [{"metadata": {"name": f"simulated-{number}"}} for number in numbers]
        patch = {"spec": {"unschedulable": away}}
        await self._each(nodes, lambda node: self.cluster.patch(NODES, node["metadata"]["name"], None, patch))

    async def clear(self) -> None:
        """Remove all jobs and pods, and wait until their children have gone too: the next repeat starts from nothing."""
        jobs = await self.cluster.list(TRAINING_JOBS, NAMESPACE)
        await self._each(jobs.items, lambda job: self.cluster.delete(TRAINING_JOBS, job["metadata"]["name"], NAMESPACE))
        pods = await self.cluster.list(PODS, NAMESPACE)
        await self._each(pods.items, lambda pod: self.cluster.delete(PODS, pod["metadata"]["name"], NAMESPACE, grace_seconds=0))

        async def nothing_left() -> bool:
            return not any([(await self.cluster.list(kind, NAMESPACE)).items for kind in (TRAINING_JOBS, PODS, SERVICES)])

        await until(nothing_left, within=180, every=0.5, what="an empty namespace")
        await asyncio.sleep(1)

    async def _each(self, objects: list[Object], act: Callable[[Object], Awaitable[object]]) -> None:
        limit = asyncio.Semaphore(CONCURRENCY)

        async def limited(obj: Object) -> None:
            async with limit:
                with contextlib.suppress(NotFound):
                    await act(obj)

        await asyncio.gather(*(limited(obj) for obj in objects))


@contextlib.asynccontextmanager
async def world(say: Say, *, nodes: int = NODE_COUNT) -> AsyncIterator[World]:
    """Everything up, and down again."""
    programs = await asyncio.to_thread(binaries.ensure, say, (*binaries.TOOLS, binaries.SIMULATED_NODES))
    state = Path(tempfile.mkdtemp(prefix="tw-bench-"))
    plane = ControlPlane(state, programs, name="bench")
    processes = plane.processes
    try:
        kubeconfig = await plane.start(say)
        cluster = await KubeCluster.connect(kubeconfig=kubeconfig)
        try:
            say(f"starting {nodes} simulated nodes and the operator")
            processes.start(
                "kwok", [programs["kwok"], f"--kubeconfig={kubeconfig}", f"--config={Path(__file__).with_name('kwok.yaml')}"]
            )
            port = free_port(LOOPBACK)
            operator = [
                sys.executable,
                "-m",
                "trainwright.controller",
                "--listen",
                f"{LOOPBACK}:{port}",
                "--log-level",
                "WARNING",
            ]
            processes.start("operator", operator, env={**os.environ, "KUBECONFIG": str(kubeconfig)})
            made = World(cluster, kubeconfig, processes, port, say)
            await _populate(cluster, nodes, processes)
            await _healthy(made, port)
            provisioner = Provisioner(cluster, lambda claim: state / "claims" / claim["metadata"]["uid"])
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(run()) for run in (*(store.run for store in made.stores), provisioner.run)]
                await asyncio.gather(*(store.synced.wait() for store in made.stores))
                yield made
                for task in tasks:
                    task.cancel()
        finally:
            await cluster.close()
    finally:
        for name in ("operator", "kwok"):
            processes.stop(name, grace=0)
        plane.stop()
        shutil.rmtree(state, ignore_errors=True)


async def _populate(cluster: KubeCluster, nodes: int, processes: Processes) -> None:
    """Nodes that are ready, a namespace that takes pods, and in it a claim that any number of jobs may share."""
    await cluster.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    room = {"cpu": "64", "memory": "256Gi", "pods": "110", GPU: str(GPUS_PER_NODE)}
    for number in range(nodes):
        metadata = {"name": f"simulated-{number}", "labels": {SIMULATED_LABEL: "yes"}}
        status = {"allocatable": room, "capacity": room}
        await cluster.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status})
    spec = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    reference = {"apiVersion": "v1", "kind": CLAIMS.kind, "name": SHARED_CLAIM, "namespace": NAMESPACE}
    volume = {"capacity": {"storage": "1Gi"}, "hostPath": {"path": "/nonexistent"}, "claimRef": reference, **spec}
    await cluster.create(VOLUMES, {"apiVersion": "v1", "kind": VOLUMES.kind, "metadata": {"name": SHARED_CLAIM}, "spec": volume})
    claim = {"resources": {"requests": {"storage": "1Gi"}}, "volumeName": SHARED_CLAIM, **spec}
    metadata = {"name": SHARED_CLAIM, "namespace": NAMESPACE}
    await cluster.create(CLAIMS, {"apiVersion": "v1", "kind": CLAIMS.kind, "metadata": metadata, "spec": claim})

    async def settled() -> bool:
        if not processes.alive("kwok"):
            raise RuntimeError(f"kwok ended; its last lines:\n{processes.tail('kwok')}")
        listed = (await cluster.list(NODES)).items
        accounts = (await cluster.list(ACCOUNTS, NAMESPACE)).items
        bound = (await cluster.get(CLAIMS, SHARED_CLAIM, NAMESPACE))["status"].get("phase") == "Bound"
        return bound and bool(accounts) and all(_ready(node) for node in listed)

    await until(settled, within=120, every=0.3, what="simulated nodes that are ready")


def _ready(node: Object) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return not node["spec"].get("taints") and any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


async def _healthy(made: World, port: int) -> None:
    async def healthy() -> bool:
        made.operator.is_running()
        with contextlib.suppress(aiohttp.ClientError):
            async with aiohttp.ClientSession() as session, session.get(f"http://{LOOPBACK}:{port}/healthz") as answer:
                return answer.status == 200
        return False

    await until(healthy, within=30, every=0.1, what="a healthy operator")


def difference(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """CPU seconds between two readings; what the machine did for others is `others`."""
    used = {name: round(after[name] - before.get(name, 0.0), 2) for name in after}
    machine = used.pop("machine")
    return used | {"others": round(max(0.0, machine - sum(used.values())), 2)}
