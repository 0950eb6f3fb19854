"""The operator as a process of its own, against a real kube-apiserver; pods are moved on by a scripted kubelet."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.builders import job
from support.pods import ScriptedKubelet, ended
from support.twin import Kubectl, accounts_ready
from support.waiting import eventually
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import CLAIMS, EVENTS, LEASES, NAMESPACES, PODS, SERVICES, TRAINING_JOBS, NotFound
from trainwright.local.controlplane import ControlPlane


class OperatorProcess:
    """Start, kill and ask one operator."""

    def __init__(self, kubeconfig: Path, namespace: str, log: Path, *options: str) -> None:
        with socket.socket() as chosen:
            chosen.bind(("127.0.0.1", 0))
            self.port = chosen.getsockname()[1]
        self._kubeconfig = kubeconfig
        self._namespace = namespace
        self.log = log
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "trainwright.controller",
                    "--listen",
                    f"127.0.0.1:{self.port}",
                    "--namespace",
                    self._namespace,
                    *self._options,
                ],
                env={**os.environ, "KUBECONFIG": str(self._kubeconfig)},
                stdout=log,
                stderr=log,
            )

    def kill(self, number: int = signal.SIGKILL, *, within: float = 10) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=within)

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}{path}") as answer:
            return answer.status, await answer.text()

    async def healthy(self) -> bool:
        try:
            return (await self.get("/healthz"))[0] == 200
        except aiohttp.ClientError:
            return False


@pytest.fixture
async def cluster(plane: tuple[ControlPlane, Kubectl]) -> AsyncIterator[KubeCluster]:
    connected = await KubeCluster.connect(kubeconfig=plane[0].kubeconfig)
    yield connected
    await connected.close()


@pytest.fixture
async def namespace(cluster: KubeCluster) -> str:
    name = f"t-{uuid.uuid4().hex[:8]}"
    await cluster.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    await accounts_ready(cluster, name)
    return name


@pytest.fixture
def operator(plane: tuple[ControlPlane, Kubectl], namespace: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    """An operator that watches the test's namespace only."""
    process = OperatorProcess(plane[0].kubeconfig, namespace, tmp_path / "operator.log")
    process.start()
    yield process
    if process.process is not None and process.process.poll() is None:
        process.kill()


async def status_of(cluster: KubeCluster, namespace: str) -> dict[str, Any]:
    status: dict[str, Any] = (await cluster.get(TRAINING_JOBS, "digits", namespace)).get("status") or {}
    return status


async def reach(cluster: KubeCluster, namespace: str, phase: str) -> dict[str, Any]:
    async def reached() -> dict[str, Any] | None:
        status = await status_of(cluster, namespace)
        return status if status.get("phase") == phase else None

    found: dict[str, Any] = await eventually(reached, within=30, what=f"phase {phase}")
    return found


async def test_a_whole_life_and_what_it_costs_the_api_server(
    cluster: KubeCluster, namespace: str, operator: OperatorProcess
) -> None:
    kubelet = ScriptedKubelet(cluster, namespace, bind=False)
    await eventually(operator.healthy, within=20)
    await cluster.create(TRAINING_JOBS, job().namespace(namespace).workers(2).build())
    await reach(cluster, namespace, "Queued")
    await kubelet.run_all("digits")
    assert (await reach(cluster, namespace, "Running"))["workers"]["ready"] == "2/2"
    await kubelet.end_all("digits")
    await reach(cluster, namespace, "Succeeded")
    _, metrics = await operator.get("/metrics")
    assert 'trainwright_jobs{phase="Succeeded"} 1.0' in metrics
    assert 'trainwright_reconcile_total{result="ok"}' in metrics
    assert 'trainwright_api_requests_total{code="201",resource="pods",verb="create"} 2.0' in metrics
    assert f'trainwright_job_workers{{job="digits",namespace="{namespace}",state="succeeded"}} 2.0' in metrics
    assert "trainwright_queue_wait_seconds_count" in metrics
    await cluster.delete(TRAINING_JOBS, "digits", namespace)

    async def forgotten() -> bool:
        return 'job="digits"' not in (await operator.get("/metrics"))[1]

    await eventually(forgotten, within=20)


async def test_sigterm_ends_it_in_order_and_soon(operator: OperatorProcess) -> None:
    await eventually(operator.healthy, within=20)
    assert await asyncio.to_thread(operator.kill, signal.SIGTERM, within=5) == 0, operator.log.read_text()
    assert "Traceback" not in operator.log.read_text()


async def test_the_api_server_away_for_a_while_costs_nothing_but_time(
    plane: tuple[ControlPlane, Kubectl], cluster: KubeCluster, namespace: str, operator: OperatorProcess
) -> None:
    kubelet = ScriptedKubelet(cluster, namespace, bind=False)
    await eventually(operator.healthy, within=20)
    await cluster.create(TRAINING_JOBS, job().namespace(namespace).workers(2).build())
    await reach(cluster, namespace, "Queued")
    plane[0].processes.stop("apiserver", grace=0)
    await plane[0].start()

    async def run_all() -> bool:
        with contextlib.suppress(Exception):
            await kubelet.run_all("digits")
            return True
        return False

    def revived() -> bool:
        # kopf ends the process when its watch breaks in certain ways; a restart, which a Deployment does, is cheap.
        if operator.process is not None and operator.process.poll() is not None:
            operator.start()
        return True

    await eventually(run_all, within=30)

    async def running() -> bool:
        revived()
        with contextlib.suppress(Exception):
            return (await status_of(cluster, namespace)).get("phase") == "Running"
        return False

    await eventually(running, within=60)
    assert len(await kubelet.pods("digits")) == 2


KILLS = 20


@pytest.mark.timeout(300)
async def test_kill_9_at_random_moments_changes_nothing_in_the_outcome(
    cluster: KubeCluster, namespace: str, operator: OperatorProcess
) -> None:
    """One worker fails once and the operator is killed twenty times on the way; the end is as if nothing had happened."""
    chance = random.Random(7)
    kubelet = ScriptedKubelet(cluster, namespace, bind=False)
    await cluster.create(TRAINING_JOBS, job().namespace(namespace).workers(4).build())
    failed = False
    kills = 0

    async def moved() -> bool:
        nonlocal failed, kills
        if kills < KILLS:
            await asyncio.sleep(chance.uniform(0.1, 1.6))
            operator.kill()
            operator.start()
            kills += 1
        await kubelet.confirm_deletions("digits")
        await kubelet.run_all("digits")
        status = await status_of(cluster, namespace)
        if status.get("phase") == "Running" and not failed:
            victim = next(pod for pod in await kubelet.pods("digits") if pod["metadata"]["name"] == "digits-a1-worker-2")
            await kubelet.become(ended(victim, 137, message="the end"))
            failed = True
        elif status.get("phase") == "Running" and status.get("attempt") == 2 and kills == KILLS:
            await kubelet.end_all("digits")
        return status.get("phase") == "Succeeded"

    await eventually(moved, within=220)
    status = await status_of(cluster, namespace)
    assert (status["attempt"], status["restarts"]["failure"], status["restarts"]["infrastructure"]) == (2, 1, 0)
    assert status["restarts"]["last"]["evidence"] == "the end"
    pods = {pod["metadata"]["name"] for pod in (await cluster.list(PODS, namespace)).items}
    assert pods == {"digits-a1-worker-2", *(f"digits-a2-worker-{index}" for index in range(4))}
    assert len((await cluster.list(SERVICES, namespace)).items) == 1
    assert len((await cluster.list(CLAIMS, namespace)).items) == 1
    failures = [event for event in (await cluster.list(EVENTS, namespace)).items if event["reason"] == "WorkerFailed"]
    assert len(failures) <= 1


async def test_of_two_replicas_one_works_and_the_other_takes_over_when_it_is_killed(
    plane: tuple[ControlPlane, Kubectl], cluster: KubeCluster, namespace: str, tmp_path: Path
) -> None:
    options = ("--leader-elect", "--lease-namespace", namespace, "--log-format", "json")
    replicas = [OperatorProcess(plane[0].kubeconfig, namespace, tmp_path / f"{name}.log", *options) for name in ("a", "b")]
    try:
        for replica in replicas:
            replica.start()
        for replica in replicas:
            await eventually(replica.healthy, within=20, what="a replica that stands by is healthy too")

        async def holder() -> str:
            try:
                lease = await cluster.get(LEASES, f"trainwright-operator-{namespace}", namespace)
            except NotFound:
                return ""
            return str(lease["spec"]["holderIdentity"])

        kubelet = ScriptedKubelet(cluster, namespace, bind=False)
        first = await eventually(holder, within=20)
        await cluster.create(TRAINING_JOBS, job().namespace(namespace).workers(2).build())
        await reach(cluster, namespace, "Queued")
        (leader,) = [one for one in replicas if one.process is not None and first.endswith(f"-{one.process.pid}")]
        (standby,) = [one for one in replicas if one is not leader]
        assert 'trainwright_reconcile_total{result="ok"}' not in (await standby.get("/metrics"))[1]
        assert (await standby.get("/targets"))[0] == 503, "a Prometheus keeps the workers that the leader told it of"

        leader.kill()
        await kubelet.run_all("digits")
        assert (await reach(cluster, namespace, "Running"))["attempt"] == 1
        assert standby.process is not None
        assert (await holder()).endswith(f"-{standby.process.pid}")
        status, told = await standby.get("/targets")
        assert (status, told.count('"job": "digits"')) == (200, 2)
        assert len(await kubelet.pods("digits")) == 2

        leader.start()
        await eventually(leader.healthy, within=20)
        assert await asyncio.to_thread(standby.kill, signal.SIGTERM, within=5) == 0
        assert leader.process is not None
        mine = f"-{leader.process.pid}"

        async def taken_back() -> bool:
            return (await holder()).endswith(mine)

        await eventually(taken_back, within=6, what="who is asked to stop gives the lease back, and nobody waits for its end")
        await kubelet.end_all("digits")
        await reach(cluster, namespace, "Succeeded")
        lines = [json.loads(line) for line in leader.log.read_text().splitlines()]
        assert {"time", "level", "logger", "message", "job"} <= lines[0].keys()
    finally:
        for replica in replicas:
            if replica.process is not None and replica.process.poll() is None:
                replica.kill()
