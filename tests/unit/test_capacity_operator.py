"""`capacity` in the operator's loop, over the in-memory cluster: real queue, stores and watches; pods are moved on by a scripted kubelet."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from test_operator import Counting, idle, phase

from support.builders import JobBuilder, job
from support.gangs import GPU, put_class, put_node, put_quota
from support.operating import operating
from support.pods import ScriptedKubelet, ended, running
from support.waiting import eventually
from trainwright.api.names import JOB_LABEL
from trainwright.api.scheduling import ProviderName
from trainwright.cluster.port import EVENTS, NODES, PODS, RESOURCE_QUOTAS, TRAINING_JOBS, Forbidden, ObjectList, Resource
from trainwright.controller import capacity, quotas
from trainwright.plan.types import Settings
from trainwright.schedulers.capacity.pins import pinned_to

CAPACITY = Settings(scheduler=ProviderName.CAPACITY)


@pytest.fixture
async def cluster() -> Counting:
    """Two nodes of four GPUs."""
    made = Counting()
    for name in ("n1", "n2"):
        await put_node(made, name, 4)
    return made


def gang(name: str, workers: int, gpus: int, **policy: Any) -> JobBuilder:
    return job(name).workers(workers).gpus(gpus).run_policy(schedulingPolicy={"provider": "capacity", **policy})


async def pods_of(cluster: Counting, name: str) -> list[dict[str, Any]]:
    return (await cluster.list(PODS, "default", labels={JOB_LABEL: name})).items


async def waits(cluster: Counting, name: str, words: str = "") -> str:
    async def said() -> str | None:
        reason = (await cluster.status(name)).get("reason") or ""
        return reason if words in reason and reason else None

    found: str = await eventually(said, what=f"{name} says {words!r}")
    return found


async def test_a_gang_with_room_costs_no_write_more_than_without_a_queue(cluster: Counting) -> None:
    kubelet = ScriptedKubelet(cluster)
    async with operating(cluster, settings=CAPACITY) as operator:
        cluster.writes.clear()
        cluster.test = asyncio.current_task()
        await cluster.create(TRAINING_JOBS, job().workers(2).gpus(4).build())
        await phase(cluster, "Queued")
        assert sorted(pinned_to(pod) for pod in await pods_of(cluster, "digits")) == ["n1", "n2"]
        await kubelet.run_all("digits")
        await phase(cluster, "Running")
        await kubelet.end_all("digits")
        status = await phase(cluster, "Succeeded")
        await idle(operator, cluster)
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "Created": "True",
        "Queued": "False",
        "Running": "False",
        "Restarting": "False",
        "Succeeded": "True",
    }
    own = [write for write in cluster.writes if write not in (("patch", "Pod"), ("create", "TrainingJob"))]
    assert len(own) <= 6 + 2, own
    assert cluster.looks == [], "nothing was given up, so nothing had to be looked at twice"


async def test_who_waits_gets_the_room_when_it_is_free_and_the_numbers_until_then(cluster: Counting) -> None:
    kubelet = ScriptedKubelet(cluster)
    async with operating(cluster) as operator:
        await cluster.create(TRAINING_JOBS, gang("first", 2, 3).build())
        await eventually(lambda: pods_of(cluster, "first"))
        await kubelet.run_all("first")
        await cluster.create(TRAINING_JOBS, gang("second", 2, 2).build())
        reason = await waits(cluster, "second")
        assert reason == "needs 2 × 2 nvidia.com/gpu; 2 of 8 free, most on one node 1 (n2)"
        assert await pods_of(cluster, "second") == []
        await idle(operator, cluster)
        before = len(cluster.writes)
        operator.queue.add("default/second")
        operator.capacity.touch()
        await idle(operator, cluster)
        assert cluster.writes[before:] == [], "waiting writes nothing"
        await kubelet.end_all("first")
        await eventually(lambda: pods_of(cluster, "second"), within=2, what="a freed GPU starts the next")


async def test_pods_of_others_are_in_the_way_until_they_are_gone(cluster: Counting) -> None:
    foreign = {
        "metadata": {"name": "notebook", "namespace": "default"},
        "spec": {"nodeName": "n1", "containers": [{"name": "a", "resources": {"limits": {GPU: "1"}}}]},
    }
    await cluster.create(PODS, foreign)
    async with operating(cluster):
        await cluster.create(TRAINING_JOBS, gang("whole", 2, 4).build())
        assert "7 of 8 free" in await waits(cluster, "whole")
        await cluster.delete(PODS, "notebook", "default")
        assert "7 of 8 free" in (await cluster.status("whole"))["reason"], "it has its grace"
        await cluster.delete(PODS, "notebook", "default", grace_seconds=0)
        await eventually(lambda: pods_of(cluster, "whole"))


async def test_a_node_that_comes_and_one_that_goes_are_seen(cluster: Counting) -> None:
    async with operating(cluster):
        await cluster.create(TRAINING_JOBS, gang("big", 3, 4).build())
        await waits(cluster, "big", "8 of 8 free")
        await put_node(cluster, "n2", 4, ready=False)
        assert "1 node not ready" in await waits(cluster, "big", "4 of 4 free")
        for name in ("n2", "n3"):
            await put_node(cluster, name, 4)
        await eventually(lambda: pods_of(cluster, "big"))


async def test_a_job_of_higher_priority_gets_room_and_both_say_so(cluster: Counting) -> None:
    await put_class(cluster, "urgent", 100)
    kubelet = ScriptedKubelet(cluster)
    async with operating(cluster) as operator:
        await cluster.create(TRAINING_JOBS, gang("low", 2, 4).build())
        await eventually(lambda: pods_of(cluster, "low"))
        await kubelet.run_all("low")
        await phase(cluster, "Running", "low")
        await cluster.create(TRAINING_JOBS, gang("high", 1, 4, priorityClass="urgent").build())
        status = await phase(cluster, "Queued", "low")
        assert status["reason"].startswith("attempt 1 preempted by default/high (priority 100, this job's 0)")
        await waits(cluster, "high", "waits for pods that are ending")
        assert all(pod["metadata"]["deletionGracePeriodSeconds"] == 30 for pod in await pods_of(cluster, "low"))
        assert await pods_of(cluster, "high") == [], "not before the room is free"
        await kubelet.confirm_deletions("low")
        (pod,) = await eventually(lambda: pods_of(cluster, "high"))
        assert pod["spec"]["priorityClassName"] == "urgent"
        await kubelet.run_all("high")
        await phase(cluster, "Running", "high")
        assert operator.metrics.preemptions._value.get() == 1
        events = {(one["involvedObject"]["name"], one["reason"]) for one in (await cluster.list(EVENTS)).items}
        assert events == {("low", "Preempted"), ("high", "Preempting")}
        await kubelet.end_all("high")
        await eventually(lambda: pods_of(cluster, "low"))
        await kubelet.run_all("low")
        status = await phase(cluster, "Running", "low")
        assert (status["attempt"], status["restarts"]["infrastructure"]) == (2, 1)


async def test_a_restart_keeps_its_room_from_those_who_wait(cluster: Counting) -> None:
    kubelet = ScriptedKubelet(cluster)
    async with operating(cluster):
        await cluster.create(TRAINING_JOBS, gang("first", 2, 4).build())
        before = await eventually(lambda: pods_of(cluster, "first"))
        await kubelet.run_all("first")
        await phase(cluster, "Running", "first")
        await cluster.create(TRAINING_JOBS, gang("second", 1, 1).build())
        await waits(cluster, "second")
        await kubelet.become(ended((await pods_of(cluster, "first"))[0], 137))

        async def again() -> list[dict[str, Any]]:
            await kubelet.confirm_deletions("first")
            found = [pod for pod in await pods_of(cluster, "first") if "-a2-" in pod["metadata"]["name"]]
            return found if len(found) == 2 else []

        after = await eventually(again)
        assert [pinned_to(pod) for pod in after] == [pinned_to(pod) for pod in before]
        assert await pods_of(cluster, "second") == []


async def test_no_gang_is_ever_there_in_part_and_no_node_is_overcommitted(cluster: Counting) -> None:
    """Forty jobs of mixed sizes that end and fail at random; looked at after every change of a pod."""
    chance = random.Random(7)
    seen: list[str] = []

    async def watch() -> None:
        version = (await cluster.list(PODS)).resource_version
        async for _ in cluster.watch(PODS, resource_version=version):
            held: Counter[str] = Counter()
            for pod in (await cluster.list(PODS)).items:
                if pod["status"]["phase"] in ("Pending", "Running"):
                    held[pinned_to(pod)] += int(pod["spec"]["containers"][0]["resources"]["limits"][GPU])
            if any(count > 4 for count in held.values()):
                seen.append(f"overcommitted: {held}")

    watching = asyncio.create_task(watch())
    names = [f"j{number:02d}" for number in range(40)]
    async with operating(cluster):
        for name in names:
            await cluster.create(TRAINING_JOBS, gang(name, chance.randint(1, 3), chance.randint(1, 2)).build())

        async def move_on() -> bool:
            over = True
            for raw in (await cluster.list(TRAINING_JOBS)).items:
                name, status = raw["metadata"]["name"], raw.get("status") or {}
                over &= status.get("phase") == "Succeeded"
                pods = [pod for pod in await pods_of(cluster, name) if pod["status"]["phase"] in ("Pending", "Running")]
                kubelet = ScriptedKubelet(cluster)
                await kubelet.confirm_deletions(name)
                whole = len(pods) == raw["spec"]["workers"] and not any("deletionTimestamp" in p["metadata"] for p in pods)
                if whole and status.get("phase") == "Running":
                    fails = chance.random() < 0.1
                    for pod in pods[: 1 if fails else None]:
                        await kubelet.become(ended(pod, 137 if fails else 0))
                elif whole:
                    for pod in pods:
                        await kubelet.become(running(pod, node=pinned_to(pod)))
            return over

        await eventually(move_on, within=60)
    watching.cancel()
    assert seen == []


async def test_what_one_namespace_s_operator_can_not_see_it_does_not_admit(cluster: Counting) -> None:
    async with operating(cluster, namespace="default"):
        await cluster.create(TRAINING_JOBS, gang("one", 1, 1).build())
        assert "this operator looks after namespace default alone" in await waits(cluster, "one")
        assert await pods_of(cluster, "one") == []
        await cluster.create(TRAINING_JOBS, job("plain").build())
        await eventually(lambda: pods_of(cluster, "plain"))


async def test_without_the_right_to_look_a_job_says_so_and_others_run() -> None:
    class Guarded(Counting):
        async def list(self, resource: Resource, *args: Any, **kwargs: Any) -> ObjectList:
            if resource is NODES:
                raise Forbidden('nodes is forbidden: User "trainwright" cannot list resource "nodes"')
            return await super().list(resource, *args, **kwargs)

    cluster = Guarded()
    async with operating(cluster):
        await cluster.create(TRAINING_JOBS, gang("one", 1, 1).build())
        assert 'cannot list resource "nodes"' in await waits(cluster, "one")
        await cluster.create(TRAINING_JOBS, job("plain").build())
        await eventually(lambda: pods_of(cluster, "plain"))


async def test_who_is_beyond_a_quota_waits_without_a_pod_and_goes_when_it_is_free(cluster: Counting) -> None:
    key = f"requests.{GPU}"
    await put_quota(cluster, "default", {key: "4"}, {key: "2"})
    async with operating(cluster) as operator:
        await cluster.create(TRAINING_JOBS, gang("large", 2, 2).build())
        assert await waits(cluster, "large") == f"quota gpus of namespace default: needs 2 × 2 {key}; 2 of 4 left"
        assert await pods_of(cluster, "large") == []
        await cluster.create(TRAINING_JOBS, gang("small", 1, 2).build())
        await eventually(lambda: pods_of(cluster, "small"), what="one behind it that is within the quota")
        await put_quota(cluster, "default", {key: "4"}, {key: "4"})
        await waits(cluster, "large", "0 of 4 left")
        await idle(operator, cluster)
        decisions = operator.capacity._answers
        await cluster.patch(RESOURCE_QUOTAS, "gpus", "default", {"metadata": {"labels": {"a": "b"}}})
        await idle(operator, cluster)
        assert operator.capacity._answers is decisions, "what is no news decides nothing"
        await put_quota(cluster, "default", {key: "8"}, {key: "4"})
        await eventually(lambda: pods_of(cluster, "large"), within=2, what="quota that is raised")


async def test_a_quota_that_goes_is_in_nobody_s_way(cluster: Counting) -> None:
    await put_quota(cluster, "default", {"pods": "1"}, {"pods": "0"})
    async with operating(cluster):
        await cluster.create(TRAINING_JOBS, gang("one", 2, 1).build())
        await waits(cluster, "one", "quota gpus of namespace default: needs 2 × 1 pods; 1 of 1 left")
        await cluster.delete(RESOURCE_QUOTAS, "gpus", "default")
        await eventually(lambda: pods_of(cluster, "one"), within=2)


class Closed(Counting):
    """A cluster that lets nobody list quotas while it is closed."""

    closed = True
    asked = 0

    async def list(self, resource: Resource, *args: Any, **kwargs: Any) -> ObjectList:
        if resource is RESOURCE_QUOTAS:
            self.asked += 1
            if self.closed:
                raise Forbidden('resourcequotas is forbidden: User "trainwright" cannot list resource "resourcequotas"')
        return await super().list(resource, *args, **kwargs)


async def test_without_the_right_to_quotas_they_are_the_api_server_s(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(quotas, "FORBIDDEN_RETRY_SECONDS", 0.05)
    cluster = Closed()
    await put_node(cluster, "n1", 8)
    await put_quota(cluster, "default", {"pods": "1"}, {"pods": "1"})
    async with operating(cluster) as operator:
        await cluster.create(TRAINING_JOBS, gang("one", 1, 1).build())
        await eventually(lambda: pods_of(cluster, "one"))
        await eventually(lambda: cluster.asked > 3)
        said = [one for one in caplog.records if "quotas are left to the API server" in one.message]
        assert len(said) == 1, "once"
        cluster.closed = False
        await eventually(operator.capacity.quotas.store.synced.is_set)
        await cluster.create(TRAINING_JOBS, gang("two", 1, 1).build())
        await waits(cluster, "two", "quota gpus of namespace default: needs 1 pods; 0 of 1 left")
        cluster.closed = True
        await operator.capacity.relist()
        await eventually(lambda: pods_of(cluster, "two"), what="what may be looked at no more is forgotten")


async def test_nothing_is_watched_before_a_job_asks_for_it(cluster: Counting) -> None:
    async with operating(cluster) as operator:
        await cluster.create(TRAINING_JOBS, job("plain").build())
        await eventually(lambda: pods_of(cluster, "plain"))
        assert not operator.capacity.nodes.synced.is_set()


async def test_the_queue_is_told_in_metrics(cluster: Counting) -> None:
    async with operating(cluster) as operator:
        for name, workers in (("a", 2), ("b", 1), ("c", 1)):
            await cluster.create(TRAINING_JOBS, gang(name, workers, 4, **({"queue": "team"} if name == "c" else {})).build())
            await eventually(lambda name=name: waits(cluster, name) if name != "a" else pods_of(cluster, name))
        value = operator.metrics.registry.get_sample_value
        assert value("trainwright_queued_jobs", {"provider": "capacity", "queue": ""}) == 1
        assert value("trainwright_queued_jobs", {"provider": "capacity", "queue": "team"}) == 1
        assert value("trainwright_job_admitted_seconds_count") == 1


async def test_an_operator_that_starts_knows_all_jobs_before_it_lets_anybody_in(cluster: Counting) -> None:
    """Jobs come to it one by one, as kopf tells of them: here the younger one first."""
    for number, name in enumerate(("older", "younger")):
        made = gang(name, 2, 3).build()
        await cluster.create(TRAINING_JOBS, made)
        stamp = {"metadata": {"creationTimestamp": f"2026-11-21T09:00:0{number}Z"}}
        key = next(key for key in cluster._objects if key[2] == name)
        cluster._objects[key]["metadata"] |= stamp["metadata"]
    async with operating(cluster, watch_jobs=False) as operator:
        operator.job_changed(await cluster.get(TRAINING_JOBS, "younger", "default"))
        await waits(cluster, "younger", "2 of 8 free")
        await eventually(lambda: pods_of(cluster, "older"))
        assert await pods_of(cluster, "younger") == []


async def test_a_decision_that_fails_stops_nobody_else(cluster: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "FAILED_RETRY_SECONDS", 0.05)
    async with operating(cluster) as operator:
        broken = cluster._objects[next(key for key in cluster._objects if key[2] == "n1")]
        broken["spec"]["taints"] = [{"no": "taint at all"}]
        await cluster.create(TRAINING_JOBS, gang("one", 1, 1).build())
        await eventually(operator.capacity.nodes.synced.is_set)
        await cluster.create(TRAINING_JOBS, job("plain").build())
        await eventually(lambda: pods_of(cluster, "plain"))
        assert await pods_of(cluster, "one") == []
        await cluster.patch(NODES, "n1", None, {"spec": {"taints": None}})
        await eventually(lambda: pods_of(cluster, "one"))
