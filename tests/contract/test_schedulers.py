"""The operator and schedulers that are told by objects: on the kinds as these projects publish them, and in memory.

The scheduler's part is played by the test, the kubelet's by a script. Whatever happens, no pod is made that nobody has let in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support.played import Played, playing
from support.pods import ended
from support.schedulers import kinds
from support.waiting import eventually
from trainwright.api.scheduling import ProviderName
from trainwright.cluster.memory import MemoryCluster
from trainwright.cluster.port import PODS, TRAINING_JOBS, Cluster, Forbidden, NotFound, Object, ObjectList, Resource

TOLD = (ProviderName.NATIVE, ProviderName.VOLCANO, ProviderName.COSCHEDULING, ProviderName.KAI)


@pytest.fixture(params=TOLD, ids=str)
async def played(request: pytest.FixtureRequest, cluster: Cluster, namespace: str) -> Played:
    return await playing(request.param, cluster, namespace)


async def test_a_gang_is_let_in_runs_and_leaves_nothing(played: Played) -> None:
    async with played.operating():
        await played.submit()
        group = await played.scheduler.group("digits-a1")
        (owner,) = group["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("TrainingJob", "digits", True)
        if played.provider is ProviderName.VOLCANO:
            await played.scheduler.refuse("digits-a1", "queue team-a\nhas no room")
            waits = await played.until(lambda status: "no room" in str(status.get("reason")), "the scheduler's words")
            assert waits["reason"] == "queue team-a has no room"
            assert waits["phase"] == "Queued"
            assert not await played.kubelet.pods("digits")
        await played.scheduler.admit("digits-a1")
        for pod in await played.pods(2):
            assert_told(played.provider, pod)
        await played.run()
        await played.kubelet.end_all("digits")
        await played.phase("Succeeded")
        await eventually(played.no_groups, within=20, what="the group of an ended job to go")


def assert_told(provider: ProviderName, pod: Object) -> None:
    """That a pod names its group in the way of its scheduler."""
    metadata, spec = pod["metadata"], pod["spec"]
    match provider:
        case ProviderName.NATIVE:
            assert spec["schedulingGroup"] == {"podGroupName": "digits-a1"}
        case ProviderName.VOLCANO:
            assert metadata["annotations"]["scheduling.k8s.io/group-name"] == "digits-a1"
            assert spec["schedulerName"] == "volcano"
        case ProviderName.COSCHEDULING:
            assert metadata["labels"]["scheduling.x-k8s.io/pod-group"] == "digits-a1"
        case ProviderName.KAI:
            assert metadata["annotations"]["pod-group-name"] == "digits-a1"
            assert (metadata["labels"]["kai.scheduler/queue"], spec["schedulerName"]) == ("team-a", "kai-scheduler")


async def test_a_group_deleted_by_hand_is_made_again_and_costs_the_job_nothing(played: Played) -> None:
    async with played.operating():
        await played.submit()
        # The API server's own stays, marked, until its pods have ended; and they follow it at once.
        stays = played.provider is ProviderName.NATIVE and not isinstance(played.cluster, MemoryCluster)
        first = await played.scheduler.group("digits-a1")
        if not stays:
            await played.scheduler.delete("digits-a1")
            await another(played, first)
        await played.scheduler.admit("digits-a1")
        pods = await played.pods(2)
        await played.run()
        second = await played.scheduler.group("digits-a1")
        await played.scheduler.delete("digits-a1")
        if not stays:
            await another(played, second)
        await played.kubelet.end_all("digits")
        status = await played.phase("Succeeded")
        assert status["attempt"] == 1
        assert [pod["metadata"]["uid"] for pod in await played.pods(2)] == [pod["metadata"]["uid"] for pod in pods]


async def another(played: Played, before: Object) -> None:
    async def made() -> bool:
        try:
            found = await played.cluster.get(played.scheduler.groups, before["metadata"]["name"], played.namespace)
        except NotFound:
            return False
        return bool(found["metadata"]["uid"] != before["metadata"]["uid"])

    await eventually(made, within=20, what="another group")


@pytest.mark.parametrize("made", [0, 1])
async def test_an_operator_that_dies_amid_a_gang_is_followed_by_one_that_makes_the_rest(played: Played, made: int) -> None:
    stalling = Stalling(played.cluster, made)
    async with played.operating(stalling):
        await played.submit()
        await played.scheduler.admit("digits-a1")
        await eventually(lambda: stalling.asked > made, within=20, what="the operator to make pods")
        left = await played.pods(made)
    async with played.operating():
        pods = await played.pods(2)
        await played.run()
    assert {pod["metadata"]["uid"] for pod in left} <= {pod["metadata"]["uid"] for pod in pods}
    assert (await played.status())["attempt"] == 1


async def test_a_gang_half_made_that_is_let_in_no_more_is_taken_back_whole(namespace: str, cluster: Cluster) -> None:
    played = await playing(ProviderName.VOLCANO, cluster, namespace)
    stalling = Stalling(cluster, 1)
    async with played.operating(stalling):
        await played.submit()
        await played.scheduler.admit("digits-a1")
        await eventually(lambda: stalling.asked > 1, within=20, what="the operator to make pods")
        await played.pods(1)
    await played.scheduler.refuse("digits-a1", "queue team-a is closed")
    async with played.operating():
        await played.confirm(no_pods(played), "the pods of a gang that can't be whole to go")
        await played.scheduler.refuse("digits-a2", "queue team-a is closed")
        status = await played.until(lambda status: "is closed" in str(status.get("reason")), "the queue's words")
        assert status["phase"] == "Queued"
        assert status["restarts"]["failure"] == 0
        await played.scheduler.admit(f"digits-a{status['attempt']}")
        await played.pods(2, status["attempt"])
        await played.run()


def no_pods(played: Played) -> Callable[[], Awaitable[bool]]:
    async def none() -> bool:
        return not await played.kubelet.pods("digits")

    return none


class Stalling:
    """A cluster that makes so many pods, and never answers who asks for more."""

    def __init__(self, cluster: Cluster, pods: int) -> None:
        self._cluster = cluster
        self._pods = pods
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)

    async def create(self, resource: Resource, obj: Object) -> Object:
        if resource == PODS:
            self.asked += 1
            if self.asked > self._pods:
                await asyncio.Event().wait()
        return await self._cluster.create(resource, obj)


async def test_another_attempt_has_a_group_of_its_own_once_the_pods_of_the_first_have_ended(played: Played) -> None:
    async with played.operating():
        await played.submit()
        await played.scheduler.admit("digits-a1")
        await played.pods(2)
        await played.run()
        victim, _ = await played.pods(2)
        await played.kubelet.become(ended(victim, 137))
        await played.until(lambda status: status.get("attempt") == 2, "another attempt")

        async def only_the_second() -> bool:
            return await played.scheduler.names() == ["digits-a2"]

        await played.confirm(only_the_second, "the group of the second attempt alone")
        await played.scheduler.admit("digits-a2")
        await played.pods(2, 2)
        await played.run()


async def test_a_suspended_job_holds_no_place_and_takes_one_when_it_is_resumed(played: Played) -> None:
    async with played.operating():
        await played.submit()
        await played.scheduler.admit("digits-a1")
        await played.pods(2)
        await played.run()
        await played.change(suspend=True)
        await played.confirm(played.no_groups, "the suspended job's group to go")
        assert (await played.phase("Suspended"))["attempt"] == 1
        await played.change(suspend=False)
        await played.scheduler.admit("digits-a2")
        await played.pods(2, 2)


async def test_a_job_whose_scheduler_is_not_there_says_so_and_goes_on_when_it_is(namespace: str, cluster: Cluster) -> None:
    if not isinstance(cluster, MemoryCluster):
        pytest.skip("a real API server would have to lose its kinds, which other tests share")
    played = Played(cluster, ProviderName.VOLCANO, namespace)
    cluster._served = (*cluster._served, *kinds(ProviderName.NATIVE))
    async with played.operating():
        await played.submit()
        status = await played.until(lambda status: status.get("reason"), "a reason")
        assert status["reason"] == (
            "provider volcano needs PodGroup of scheduling.volcano.sh/v1beta1, which this cluster doesn't serve; "
            "of the providers there are here: native"
        )
        cluster._served = (*cluster._served, *kinds(ProviderName.VOLCANO))
        await played.scheduler.admit("digits-a1")
        await played.pods(2)


async def test_objects_that_may_not_be_read_are_the_jobs_reason_and_it_goes_on_when_they_may(
    namespace: str, cluster: Cluster
) -> None:
    if not isinstance(cluster, MemoryCluster):
        pytest.skip("whether a real API server lets the operator read is the chart's test")
    played = await playing(ProviderName.VOLCANO, cluster, namespace)
    refusing = Refusing(cluster)
    async with played.operating(refusing):
        await played.submit()
        status = await played.until(lambda status: status.get("reason"), "a reason")
        assert status["reason"] == "PodGroup of scheduling.volcano.sh/v1beta1 can't be read: podgroups is forbidden: RBAC says no"
        refusing.refuses = False
        await played.scheduler.admit("digits-a1")
        await played.pods(2)


class Refusing:
    """A cluster that doesn't let the operator read PodGroups."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.refuses = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)

    async def list(self, resource: Resource, *args: Any, **kwargs: Any) -> ObjectList:
        if self.refuses and resource.kind == "PodGroup":
            raise Forbidden("podgroups is forbidden: RBAC says no")
        return await self._cluster.list(resource, *args, **kwargs)


async def test_a_native_gang_whose_room_is_taken_saves_waits_and_runs_again_uncounted(cluster: Cluster, namespace: str) -> None:
    played = await playing(ProviderName.NATIVE, cluster, namespace)
    async with played.operating():
        await played.submit(backoffLimit=0)
        await played.scheduler.group("digits-a1")
        await played.pods(2)
        await played.run()
        await played.scheduler.preempt("digits-a1", "made room for default/urgent")
        status = await played.until(lambda status: status.get("attempt") == 2, "another attempt")
        assert status["restarts"]["failure"] == 0
        assert status["restarts"]["infrastructure"] == 1

        async def gone() -> bool:
            return await played.scheduler.names() == ["digits-a2"]

        await played.confirm(gone, "the group that was taken to go")
        await played.pods(2, 2)
        await played.run()


async def test_a_gang_at_rest_costs_no_write(played: Played) -> None:
    async with played.operating() as operator:
        await played.submit()
        await played.scheduler.admit("digits-a1")
        await played.pods(2)
        await played.run()
        await asyncio.sleep(2.5)
        before = await everything(played)
        for _ in range(5):
            operator.queue.add(f"{played.namespace}/digits")
            await asyncio.sleep(0.05)
        assert await everything(played) == before


async def everything(played: Played) -> list[str]:
    """Versions of the job and of all that was made for it."""
    found = [await played.cluster.get(TRAINING_JOBS, "digits", played.namespace), *await played.kubelet.pods("digits")]
    for resource in kinds(played.provider):
        found += (await played.cluster.list(resource, played.namespace)).items
    return [one["metadata"]["resourceVersion"] for one in found]
