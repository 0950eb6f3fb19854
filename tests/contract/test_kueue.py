"""The operator and Kueue, whose part the test plays: on its own kinds as it publishes them, and in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from support.played import Played, playing
from support.pods import ended
from support.schedulers import ScriptedKueue
from support.waiting import eventually
from trainwright.api.scheduling import ProviderName
from trainwright.cluster.port import TRAINING_JOBS, Cluster, NotFound, Object

KUEUE = "trainingjob-digits"


class Queued(Played):
    """A job in a queue of Kueue's."""

    def __init__(self, played: Played) -> None:
        super().__init__(played.cluster, ProviderName.KUEUE, played.namespace)
        self.kueue = ScriptedKueue(played.cluster, played.namespace)

    async def running(self) -> None:
        """Submit a job, admit it and let it run."""
        await self.submit()
        await self.kueue.flavor("fast")
        await self.kueue.admit()
        await self.pods(2)
        await self.run()

    async def confirm_freed(self) -> Object:
        """The Workload, once its quota was given back, which is when the last pod has ended."""

        async def freed() -> bool:
            found = await self.kueue.workload()
            said = {c["type"]: (c["status"], c["reason"]) for c in found["status"]["conditions"]}
            return said.get("QuotaReserved") == ("False", "Pending") and await self.alive() == 0

        await self.confirm(freed, "the quota to be given back")
        return await self.kueue.workload()

    async def alive(self) -> int:
        return sum(pod["status"]["phase"] in ("Pending", "Running") for pod in await self.kubelet.pods("digits"))

    def pods_gone(self, attempt: int = 1) -> Callable[[], Awaitable[bool]]:
        async def gone() -> bool:
            return not [pod for pod in await self.kubelet.pods("digits") if f"-a{attempt}-" in pod["metadata"]["name"]]

        return gone


@pytest.fixture
async def queued(cluster: Cluster, namespace: str) -> Queued:
    return Queued(await playing(ProviderName.KUEUE, cluster, namespace))


async def test_pods_are_made_when_the_workload_is_admitted_and_for_nodes_of_its_flavor(queued: Queued) -> None:
    async with queued.operating():
        await queued.submit()
        workload = await queued.kueue.workload()
        assert workload["spec"]["queueName"] == "team-a"
        assert [(one["name"], one["count"]) for one in workload["spec"]["podSets"]] == [("workers", 2)]
        await queued.kueue.refuse("couldn't assign flavors\nto pod set workers")
        status = await queued.until(lambda status: "assign flavors" in str(status.get("reason")), "Kueue's words")
        assert status["reason"] == "couldn't assign flavors to pod set workers"
        assert not await queued.kubelet.pods("digits")
        await queued.kueue.flavor("fast")
        await queued.kueue.admit(checks=True)
        for pod in await queued.pods(2):
            assert pod["spec"]["nodeSelector"] == {"gpu-type": "fast", "checked": "yes"}
            assert {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["spec"]["tolerations"]
            assert pod["metadata"]["labels"]["kueue.x-k8s.io/podset"] == "workers"
            assert pod["metadata"]["labels"]["checked"] == "yes"
            assert pod["metadata"]["annotations"]["kueue.x-k8s.io/workload"] == KUEUE
        await queued.run()
        await queued.kueue.says("PodsReady", True)
        await queued.kubelet.end_all("digits")
        await queued.phase("Succeeded")
        await queued.kueue.says("Finished", True, "Succeeded")

        async def free() -> bool:
            return not (await queued.kueue.workload())["metadata"].get("finalizers")

        await eventually(free, within=20, what="the finalizer of a finished Workload to go")


async def test_an_evicted_gang_saves_and_gives_its_quota_back_only_when_its_last_pod_has_ended(queued: Queued) -> None:
    async with queued.operating():
        await queued.running()
        await queued.kueue.evict("Preempted", "to accommodate a workload of higher priority")
        status = await queued.until(lambda status: status.get("attempt") == 2, "another attempt")
        assert "higher priority" in status["reason"]
        assert status["restarts"]["failure"] == 0
        held = {c["type"]: c["status"] for c in (await queued.kueue.workload())["status"]["conditions"]}
        if not await queued.pods_gone()():
            assert held["QuotaReserved"] == "True", "its pods are still there"
        await queued.confirm(queued.pods_gone(), "the evicted pods to end")
        workload = await queued.kueue.says("QuotaReserved", False, "Pending")
        said = {c["type"]: c["status"] for c in workload["status"]["conditions"]}
        assert said["Requeued"] == "True"
        assert said["Admitted"] == "False"
        assert "admission" not in workload["status"]
        assert not await queued.kubelet.pods("digits")
        await queued.kueue.admit()
        await queued.pods(2, 2)
        await queued.run()


async def test_one_that_is_admitted_and_evicted_at_once_makes_no_pod_that_stays(queued: Queued) -> None:
    await queued.submit()
    async with queued.operating():
        await queued.kueue.flavor("fast")
        await queued.kueue.workload()
        await queued.kueue.admit()
        await queued.kueue.evict("ClusterQueueStopped", "the ClusterQueue is stopped")
        workload = await queued.confirm_freed()
        assert {c["type"]: c["status"] for c in workload["status"]["conditions"]}["Requeued"] == "False"
        assert not await queued.kubelet.pods("digits")
        await queued.kueue.admit()
        attempt = (await queued.status())["attempt"]
        await queued.pods(2, attempt)


async def test_a_workload_that_is_set_inactive_stays_so_until_somebody_says_otherwise(queued: Queued) -> None:
    async with queued.operating():
        await queued.running()
        workloads, name = queued.kueue.workloads, queued.kueue.name
        await queued.cluster.patch(workloads, name, queued.namespace, {"spec": {"active": False}})
        await queued.kueue.evict("Deactivated", "the workload is deactivated")
        await queued.until(lambda status: status.get("attempt") == 2, "another attempt")
        await queued.confirm_freed()
        status = await queued.until(lambda status: "deactivated" in str(status.get("reason")), "why it waits")
        assert status["phase"] == "Queued"
        assert (await queued.kueue.workload())["spec"]["active"] is False


async def test_a_suspended_job_gives_its_quota_to_others_and_queues_again_when_it_is_resumed(queued: Queued) -> None:
    async with queued.operating():
        await queued.running()
        await queued.change(suspend=True)

        async def active(wanted: bool) -> bool:
            return bool((await queued.kueue.workload())["spec"]["active"] is wanted)

        await eventually(lambda: active(False), within=20, what="an inactive Workload")
        await queued.kueue.evict("Deactivated", "the workload is deactivated")
        await queued.confirm_freed()
        await queued.change(suspend=False)
        await eventually(lambda: active(True), within=20, what="an active Workload")
        await queued.kueue.admit()
        await queued.pods(2, 2)


async def test_a_restart_keeps_the_quota(queued: Queued) -> None:
    async with queued.operating():
        await queued.running()
        before = await queued.kueue.workload()
        victim, _ = await queued.pods(2)
        await queued.kubelet.become(ended(victim, 137))
        await queued.until(lambda status: status.get("attempt") == 2, "another attempt")

        async def begun() -> bool:
            return len([pod for pod in await queued.kubelet.pods("digits") if "-a2-" in pod["metadata"]["name"]]) == 2

        await queued.confirm(begun, "the second attempt")
        after = await queued.kueue.says("QuotaReserved", True)
        assert after["metadata"]["uid"] == before["metadata"]["uid"]


async def test_a_workload_deleted_by_hand_stops_the_gang_and_another_follows_it(queued: Queued) -> None:
    async with queued.operating():
        await queued.running()
        before = await queued.kueue.workload()
        await queued.cluster.delete(queued.kueue.workloads, queued.kueue.name, queued.namespace)
        assert await queued.kueue.there(), "while its pods are there its quota is"

        async def another() -> bool:
            found = await queued.kueue.there()
            return found is not None and found["metadata"]["uid"] != before["metadata"]["uid"]

        await queued.confirm(another, "another Workload")
        assert await queued.pods_gone()()
        await queued.kueue.admit()
        await queued.pods(2, 2)


async def test_a_deleted_job_leaves_no_workload(queued: Queued) -> None:
    async with queued.operating():
        await queued.running()
        await queued.cluster.delete(TRAINING_JOBS, "digits", queued.namespace)

        async def nothing() -> bool:
            try:
                await queued.cluster.get(queued.kueue.workloads, queued.kueue.name, queued.namespace)
            except NotFound:
                return True
            return False

        await queued.confirm(nothing, "the Workload to go")


async def test_quota_of_workers_that_have_ended_is_given_back_and_asked_for_anew_by_another_attempt(queued: Queued) -> None:
    async with queued.operating():
        await queued.running()
        first, second = await queued.pods(2)
        await queued.kubelet.become(ended(first, 0))

        async def given() -> bool:
            return (await queued.kueue.workload())["status"].get("reclaimablePods") == [{"name": "workers", "count": 1}]

        await eventually(given, within=20, what="reclaimable pods")
        await queued.kubelet.become(ended(second, 137))
        await queued.until(lambda status: status.get("attempt") == 2, "another attempt")
        workload = await queued.kueue.says("QuotaReserved", False)
        assert "reclaimablePods" not in workload["status"]
        assert not [pod for pod in await queued.kubelet.pods("digits") if "-a2-" in pod["metadata"]["name"]]
        await queued.kueue.admit()
        await queued.pods(2, 2)
