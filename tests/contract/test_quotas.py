"""`capacity` and ResourceQuotas: what the API server would refuse is said before any pod is made.

A node is written by the test. On a real API server its controller counts what a quota's status says, and its admission refuses what
is beyond: the test asks it, so that the two are held against each other. In memory nobody counts, and the test says what would be.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.builders import JobBuilder, job
from support.gangs import GPU, put_class, put_node, put_quota
from support.operating import operating
from support.twin import Kubectl, accounts_ready
from support.waiting import eventually
from trainwright.api.names import JOB_LABEL
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.memory import MemoryCluster
from trainwright.cluster.port import (
    NAMESPACES,
    NODES,
    PODS,
    PRIORITY_CLASSES,
    RESOURCE_QUOTAS,
    TRAINING_JOBS,
    Cluster,
    Forbidden,
    NotFound,
    Object,
)
from trainwright.local.controlplane import ControlPlane
from trainwright.plan.pods import worker_pod
from trainwright.plan.types import Settings
from trainwright.schedulers.capacity.quotas import Allowance, Demand, charge_of, read_quota

KEY = f"requests.{GPU}"
TAINT = {"key": "quotas", "value": "tested", "effect": "NoSchedule"}
TOLERATED = {**TAINT, "operator": "Equal"}


@pytest.fixture
async def node(cluster: Cluster) -> AsyncIterator[str]:
    """A node of eight GPUs for the test's pods alone."""
    name = f"n-{uuid.uuid4().hex[:8]}"
    await cluster.create(NODES, {"metadata": {"name": name}, "spec": {"taints": [TAINT]}})
    await put_node(cluster, name, 8)
    yield name
    await cluster.delete(NODES, name)


def asking(namespace: str, workers: int, gpus: int) -> JobBuilder:
    wanted = job().namespace(namespace).workers(workers).gpus(gpus).spec(placement={"tolerations": [TOLERATED]})
    return wanted.run_policy(schedulingPolicy={"provider": "capacity"})


def plain(namespace: str, name: str, gpus: int) -> Object:
    """A pod of somebody else's, that no node will have."""
    container = {"name": "a", "image": "a", "resources": {"limits": {GPU: str(gpus)}}}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"containers": [container]}}


async def used(cluster: Cluster, namespace: str, amount: str) -> None:
    """Wait until the quota says so; in memory, say it."""
    if isinstance(cluster, MemoryCluster):
        await put_quota(cluster, namespace, {KEY: "4"}, {KEY: amount})

    async def said() -> bool:
        found = await cluster.get(RESOURCE_QUOTAS, "gpus", namespace)
        return bool(((found.get("status") or {}).get("used") or {}).get(KEY) == amount)

    await eventually(said, within=30, what=f"{amount} used of the quota")


async def test_a_gang_beyond_its_quota_waits_without_a_pod_and_has_them_when_it_is_free(
    cluster: Cluster, namespace: str, node: str
) -> None:
    quota = {"metadata": {"name": "gpus", "namespace": namespace}, "spec": {"hard": {KEY: "4"}}}
    await cluster.create(RESOURCE_QUOTAS, quota)
    await used(cluster, namespace, "0")
    await cluster.create(PODS, plain(namespace, "other", 2))
    await used(cluster, namespace, "2")

    async def pods() -> list[Object]:
        return (await cluster.list(PODS, namespace, labels={JOB_LABEL: "digits"})).items

    async def reason() -> str:
        found = await cluster.get(TRAINING_JOBS, "digits", namespace)
        return str((found.get("status") or {}).get("reason") or "")

    async with operating(cluster, serving=False):
        await cluster.create(TRAINING_JOBS, asking(namespace, 2, 2).build())
        said = f"quota gpus of namespace {namespace}: needs 2 × 2 {KEY}; 2 of 4 left"

        async def told() -> bool:
            return await reason() == said

        await eventually(told, within=30, what=said)
        assert await pods() == []
        if isinstance(cluster, KubeCluster):
            with pytest.raises(Forbidden, match=f"exceeded quota: gpus, requested: {KEY}=4, used: {KEY}=2, limited: {KEY}=4"):
                await cluster.create(PODS, plain(namespace, "whole", 4))
        await cluster.delete(PODS, "other", namespace, grace_seconds=0)
        if isinstance(cluster, MemoryCluster):
            await used(cluster, namespace, "0")

        async def both() -> bool:
            return len(await pods()) == 2

        await eventually(both, within=30, what="its pods once the quota is free")
        await used(cluster, namespace, "4")
        await cluster.delete(TRAINING_JOBS, "digits", namespace)
        for pod in await pods():
            with contextlib.suppress(NotFound):
                await cluster.delete(PODS, pod["metadata"]["name"], namespace, grace_seconds=0)


def selecting(operator: str, *values: str) -> dict[str, Any]:
    expression = {"scopeName": "PriorityClass", "operator": operator, **({"values": list(values)} if values else {})}
    return {"scopeSelector": {"matchExpressions": [expression]}}


NONE = {"hard": {"pods": "0"}}
# Of a worker with two GPUs, one core and 1Gi; where it says so, of one without any of them, or of a class.
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "pods": (NONE, ""),
    "count": ({"hard": {"count/pods": "0"}}, ""),
    "enough-pods": ({"hard": {"pods": "1", "count/pods": "1"}}, ""),
    "services": ({"hard": {"services": "0", "count/jobs.batch": "0", "requests.storage": "0"}}, ""),
    "gpus": ({"hard": {KEY: "1"}}, ""),
    "enough-gpus": ({"hard": {KEY: "2"}}, ""),
    "gpus-of-others": ({"hard": {"requests.amd.com/gpu": "0"}}, ""),
    "cpu": ({"hard": {"cpu": "999m"}}, ""),
    "enough-cpu": ({"hard": {"cpu": "1", "requests.cpu": "1", "limits.cpu": "1"}}, ""),
    "requests": ({"hard": {"requests.memory": "1023Mi"}}, ""),
    "limits": ({"hard": {"limits.memory": "1Mi"}}, ""),
    "storage": ({"hard": {"requests.ephemeral-storage": "0", "limits.ephemeral-storage": "0"}}, ""),
    "terminating": ({**NONE, "scopes": ["Terminating"]}, ""),
    "not-terminating": ({**NONE, "scopes": ["NotTerminating"]}, ""),
    "best-effort": ({**NONE, "scopes": ["BestEffort"]}, ""),
    "not-best-effort": ({**NONE, "scopes": ["NotBestEffort"]}, ""),
    "bare-best-effort": ({**NONE, "scopes": ["BestEffort"]}, "bare"),
    "bare-not-best-effort": ({**NONE, "scopes": ["NotBestEffort"]}, "bare"),
    "two-scopes": ({**NONE, "scopes": ["NotTerminating", "NotBestEffort"]}, ""),
    "not-in-both-scopes": ({**NONE, "scopes": ["Terminating", "NotBestEffort"]}, ""),
    "affinity": ({**NONE, "scopes": ["CrossNamespacePodAffinity"]}, ""),
    "any-class": ({**NONE, "scopes": ["PriorityClass"]}, "class"),
    "class-of-none": ({**NONE, "scopes": ["PriorityClass"]}, ""),
    "no-class": ({**NONE, **selecting("DoesNotExist")}, "class"),
    "no-class-of-none": ({**NONE, **selecting("DoesNotExist")}, ""),
    "in": ({**NONE, **selecting("In", "quota-tests", "high")}, "class"),
    "in-others": ({**NONE, **selecting("In", "high")}, "class"),
    "not-in": ({**NONE, **selecting("NotIn", "quota-tests")}, "class"),
    "not-in-of-none": ({**NONE, **selecting("NotIn", "quota-tests")}, ""),
}


def worker(namespace: str, kind: str) -> Object:
    wanted = job().namespace(namespace)
    if kind != "bare":
        wanted = wanted.gpus(2).spec(resources={"gpus": 2, "cpu": "1", "memory": "1Gi"})
    if kind == "class":
        wanted = wanted.run_policy(schedulingPolicy={"priorityClass": "quota-tests"})
    return worker_pod(wanted.typed(), 0, Settings())


async def refusals(cluster: KubeCluster, name: str) -> tuple[bool, bool]:
    """Whether we would keep a worker waiting under this quota, and whether the API server refuses it."""
    spec, kind = CASES[name]
    namespace = f"t-{name}-{uuid.uuid4().hex[:6]}"
    await cluster.create(NAMESPACES, {"metadata": {"name": namespace}})
    await cluster.create(RESOURCE_QUOTAS, {"metadata": {"name": "tested", "namespace": namespace}, "spec": spec})
    await accounts_ready(cluster, namespace)

    async def counted() -> Object | None:
        found = await cluster.get(RESOURCE_QUOTAS, "tested", namespace)
        return found if (found.get("status") or {}).get("used") else None

    quota = await eventually(counted, within=30, what=f"a status of quota {name}")
    pod = worker(namespace, kind)
    ours = Allowance([read_quota(quota)]).short(Demand(namespace=namespace, charge=charge_of(pod), count=1), {})
    # What the admission sees is a copy, that is a moment behind.
    await asyncio.sleep(1)
    try:
        await cluster.create(PODS, pod)
    except Forbidden as error:
        if "exceeded quota: tested" not in str(error):
            raise
        return bool(ours), True
    finally:
        await cluster.delete(NAMESPACES, namespace)
    return bool(ours), False


async def test_quotas_are_read_as_the_api_server_reads_them(plane: tuple[ControlPlane, Kubectl]) -> None:
    cluster = await KubeCluster.connect(kubeconfig=plane[0].kubeconfig)
    try:
        await put_class(cluster, "quota-tests", 1)
        found = dict(zip(CASES, await asyncio.gather(*(refusals(cluster, name) for name in CASES)), strict=True))
    finally:
        with contextlib.suppress(Exception):
            await cluster.delete(PRIORITY_CLASSES, "quota-tests")
        await cluster.close()
    assert {name: ours for name, (ours, _) in found.items()} == {name: theirs for name, (_, theirs) in found.items()}
    assert sum(theirs for _, theirs in found.values()) > len(found) / 3
