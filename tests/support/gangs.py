"""Clusters and gangs in few words, for tests of the queue: GPUs are whole numbers, nodes and gangs go by their names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from trainwright.cluster.port import NODES, PRIORITY_CLASSES, RESOURCE_QUOTAS, AlreadyExists, Cluster
from trainwright.schedulers.capacity.amounts import Amounts
from trainwright.schedulers.capacity.nodes import Node, Shape, Taint
from trainwright.schedulers.capacity.queue import Decision, Gang, decide
from trainwright.schedulers.capacity.quotas import Charge, Quota

GPU = "nvidia.com/gpu"


def gpus(count: int) -> dict[str, int]:
    return {GPU: count * 1000}


def node(name: str, count: int, *, taints: tuple[Taint, ...] = (), away: str = "", pods: int = 110, **labels: str) -> Node:
    room = {"pods": pods * 1000, **gpus(count)}
    return Node(name=name, allocatable=room, labels=labels, taints=taints, away=away)


def gang(name: str, workers: int, each: int, *, topology_key: str | None = None, at: int = 0, **fields: Any) -> Gang:
    """A gang of workers with so many GPUs each; the part of its name before a / is its namespace. `at`: when it was created."""
    selector = tuple(fields.pop("selector", {}).items())
    request = (*((GPU, each * 1000) for _ in range(bool(each))), ("pods", 1000))
    shape = Shape(workers=workers, request=request, selector=selector, topology_key=topology_key)
    amounts = {"pods": 1000, **({f"requests.{GPU}": each * 1000} if each else {})}
    charge = Charge(amounts=amounts, priority_class=fields.pop("priority_class", ""))
    return Gang(uid=name, name=name, shape=shape, created=f"{at:06d}", charge=charge, **fields)


def quota(namespace: str, hard: int, used: int = 0, *, name: str = "gpus", key: str = f"requests.{GPU}", **fields: Any) -> Quota:
    """A quota of so many GPUs, or of what `key` is about."""
    return Quota(namespace=namespace, name=name, hard={key: hard * 1000}, used={key: used * 1000}, **fields)


def holding(one: Gang, *nodes: str, since: int = 0) -> Gang:
    """The gang with a pod of each worker on one of these nodes."""
    held: dict[str, dict[str, int]] = {}
    for name in nodes:
        takes = held.setdefault(name, {})
        for resource, amount in one.shape.request:
            takes[resource] = takes.get(resource, 0) + amount
    return replace(one, holding=True, there=dict(enumerate(nodes)), held=held, since=f"{since:06d}")


def used_by(gangs: list[Gang]) -> dict[str, dict[str, int]]:
    used: dict[str, dict[str, int]] = {}
    for one in gangs:
        for name, takes in one.held.items():
            room = used.setdefault(name, {})
            for resource, amount in takes.items():
                room[resource] = room.get(resource, 0) + amount
    return used


def decided(
    nodes: list[Node],
    gangs: list[Gang],
    *,
    foreign: Mapping[str, Amounts] | None = None,
    going: Mapping[str, Amounts] | None = None,
    quotas: Iterable[Quota] = (),
) -> Decision:
    used = used_by(gangs)
    for extra in (foreign or {}, going or {}):
        for name, takes in extra.items():
            for resource, amount in takes.items():
                room = used.setdefault(name, {})
                room[resource] = room.get(resource, 0) + amount
    return decide(nodes, used, going or {}, gangs, quotas)


def admitted(decision: Decision) -> set[str]:
    return {uid for uid, answer in decision.answers.items() if answer.admitted}


async def put_node(cluster: Cluster, name: str, count: int, *, ready: bool = True, **labels: str) -> None:
    """A node of the API with so many GPUs; one that is there is changed."""
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    room = {"cpu": "64", "memory": "256Gi", "pods": "110", GPU: str(count)}
    with contextlib.suppress(AlreadyExists):
        await cluster.create(NODES, {"metadata": {"name": name, "labels": labels}, "spec": {}})
    status = {"conditions": [condition], "allocatable": room, "capacity": room}
    await cluster.patch(NODES, name, None, {"status": status}, subresource="status")


async def put_quota(
    cluster: Cluster, namespace: str, hard: Mapping[str, str], used: Mapping[str, str], name: str = "gpus"
) -> None:
    """A ResourceQuota with the status that a controller gives it; one that is there is changed."""
    with contextlib.suppress(AlreadyExists):
        await cluster.create(RESOURCE_QUOTAS, {"metadata": {"name": name, "namespace": namespace}, "spec": {"hard": dict(hard)}})
    status = {"hard": dict(hard), "used": dict(used)}
    await cluster.patch(RESOURCE_QUOTAS, name, namespace, {"status": status}, subresource="status")


async def put_class(cluster: Cluster, name: str, value: int, policy: str = "PreemptLowerPriority") -> None:
    await cluster.create(PRIORITY_CLASSES, {"metadata": {"name": name}, "value": value, "preemptionPolicy": policy})
