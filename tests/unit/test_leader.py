"""Who leads when replicas come, go, stop and lose the API server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support.waiting import eventually
from trainwright.cluster.memory import MemoryCluster
from trainwright.cluster.port import LEASES, ClusterError, Object, Resource
from trainwright.controller.leader import Leader, LeadershipLost


class Away(MemoryCluster):
    away = False

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        if self.away:
            raise ClusterError("no answer")
        return await super().get(resource, name, namespace)


def replica(cluster: MemoryCluster, identity: str, **options: Any) -> Leader:
    quick = {"lease_seconds": 1, "renew_within": 0.5, "retry": 0.05, **options}
    return Leader(cluster, name="operator", namespace="default", identity=identity, **quick)


async def holder(cluster: MemoryCluster) -> str:
    return str((await cluster.get(LEASES, "operator", "default"))["spec"]["holderIdentity"])


async def test_one_of_many_leads() -> None:
    cluster = MemoryCluster()
    replicas = [replica(cluster, name) for name in "abcde"]
    tasks = [asyncio.create_task(one.acquire()) for one in replicas]
    await eventually(lambda: any(one.leads for one in replicas))
    (leader,) = [one for one in replicas if one.leads]
    holding = asyncio.create_task(leader.hold())
    await asyncio.sleep(1.5)
    assert [one.leads for one in replicas].count(True) == 1, "a lease that is renewed is nobody else's"
    holding.cancel()
    await eventually(lambda: [one.leads for one in replicas].count(True) == 2, what="one that is not renewed is free in time")
    for task in tasks:
        task.cancel()


async def test_a_lease_that_is_given_back_is_taken_at_once() -> None:
    cluster = MemoryCluster()
    first, second = replica(cluster, "a", lease_seconds=3600), replica(cluster, "b")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0.2)
    assert not second.leads
    await first.release()
    await asyncio.wait_for(waiting, 5)
    assert await holder(cluster) == "b"
    lease = await cluster.get(LEASES, "operator", "default")
    assert lease["spec"]["leaseTransitions"] == 1


async def test_who_can_t_renew_stops_before_anybody_else_begins() -> None:
    cluster = Away()
    leader = replica(cluster, "a")
    await leader.acquire()
    cluster.away = True
    with pytest.raises(LeadershipLost, match="was not renewed"):
        await asyncio.wait_for(leader.hold(), 5)
    assert not leader.leads


async def test_who_finds_another_s_name_on_the_lease_stops() -> None:
    cluster = MemoryCluster()
    leader = replica(cluster, "a")
    await leader.acquire()
    taken = {"holderIdentity": "b", "leaseDurationSeconds": 60, "renewTime": "2026-11-21T09:00:00.000000Z"}
    await cluster.patch(LEASES, "operator", "default", {"spec": taken})
    with pytest.raises(LeadershipLost, match="belongs to b"):
        await asyncio.wait_for(leader.hold(), 5)
