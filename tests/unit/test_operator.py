"""The operator's loop over the in-memory cluster: real queue, stores and reconciler; pods are moved on by a scripted kubelet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.builders import job
from support.operating import operating
from support.pods import ScriptedKubelet, ended, running
from support.serving import deployment
from support.waiting import eventually
from trainwright.api.names import JOB_LABEL
from trainwright.cluster.memory import MemoryCluster
from trainwright.cluster.port import (
    CLAIMS,
    EVENTS,
    MODEL_DEPLOYMENTS,
    PODS,
    SERVICES,
    TRAINING_JOBS,
    ClusterError,
    Forbidden,
    Gone,
    ObjectList,
    Resource,
    WatchEvent,
)
from trainwright.controller.operator import Operator
from trainwright.controller.store import Store


class Counting(MemoryCluster):
    """Counts writes, and refuses what a test wants refused."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[tuple[str, str]] = []
        self.refuse: dict[str, str] = {}
        self.looks: list[str] = []
        self.test: asyncio.Task[Any] | None = None

    async def list(self, resource: Resource, *args: Any, **kwargs: Any) -> ObjectList:
        # The operator's at one job, and not a test's own; those of its copies are of all jobs.
        if (name := (kwargs.get("labels") or {}).get(JOB_LABEL)) is not None and asyncio.current_task() is not self.test:
            self.looks.append(name)
        return await super().list(resource, *args, **kwargs)

    async def create(self, resource: Resource, obj: dict[str, Any]) -> dict[str, Any]:
        if resource.kind in self.refuse:
            raise Forbidden(self.refuse[resource.kind])
        self.writes.append(("create", resource.kind))
        return await super().create(resource, obj)

    async def patch(self, resource: Resource, *args: Any, **kwargs: Any) -> dict[str, Any]:
        self.writes.append(("patch", resource.kind))
        return await super().patch(resource, *args, **kwargs)

    async def status(self, name: str = "digits") -> dict[str, Any]:
        got: dict[str, Any] = (await self.get(TRAINING_JOBS, name, "default")).get("status", {})
        return got


async def phase(cluster: Counting, wanted: str, name: str = "digits") -> dict[str, Any]:
    async def reached() -> dict[str, Any] | None:
        status = await cluster.status(name)
        return status if status.get("phase") == wanted else None

    status: dict[str, Any] = await eventually(reached, within=60, what=f"phase {wanted}")
    return status


async def idle(operator: Operator, cluster: Counting) -> None:
    """No write for a while longer than any wait of the operator's."""
    seen = -1
    while seen != len(cluster.writes):
        seen = len(cluster.writes)
        await asyncio.sleep(1.2)
    assert len(operator.queue) == 0


async def test_from_apply_to_success() -> None:
    cluster = Counting()
    kubelet = ScriptedKubelet(cluster)
    async with operating(cluster):
        await cluster.create(TRAINING_JOBS, job().workers(2).build())
        assert (await phase(cluster, "Queued"))["workers"]["ready"] == "0/2"
        await kubelet.run_all("digits")
        assert (await phase(cluster, "Running"))["workers"]["ready"] == "2/2"
        await kubelet.end_all("digits")
        status = await phase(cluster, "Succeeded")
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "Created": "True",
        "Running": "False",
        "Restarting": "False",
        "Succeeded": "True",
    }
    events = (await cluster.list(EVENTS, "default")).items
    assert {event["reason"] for event in events} == {"WorkersSucceeded"}
    own = [write for write in cluster.writes if write not in (("patch", "Pod"), ("create", "TrainingJob"))]
    assert len(own) <= 6 + 2, "a life without failures costs at most 6 writes a job and 1 a pod"


async def test_a_pass_with_nothing_to_do_writes_nothing() -> None:
    cluster = Counting()
    kubelet = ScriptedKubelet(cluster)
    async with operating(cluster) as operator:
        await cluster.create(TRAINING_JOBS, job().workers(2).build())
        await phase(cluster, "Queued")
        await kubelet.run_all("digits")
        await phase(cluster, "Running")
        await idle(operator, cluster)
        before = len(cluster.writes)
        passes = operator.metrics.reconciles.labels("ok")._value.get()
        for _ in range(20):
            operator.queue.add("default/digits")
            await asyncio.sleep(0)
        await eventually(lambda: operator.metrics.reconciles.labels("ok")._value.get() > passes)
        assert cluster.writes[before:] == []


async def test_a_failed_worker_restarts_the_whole_gang_with_evidence() -> None:
    cluster = Counting()
    kubelet = ScriptedKubelet(cluster)
    async with operating(cluster):
        await cluster.create(TRAINING_JOBS, job().workers(2).build())
        await phase(cluster, "Queued")
        await kubelet.run_all("digits")
        await phase(cluster, "Running")
        victim, _ = await kubelet.pods("digits")
        await kubelet.become(ended(victim, 137, message="last line"))
        await phase(cluster, "Restarting")

        async def replaced() -> bool:
            await kubelet.confirm_deletions("digits")
            return {pod["metadata"]["name"] for pod in await kubelet.pods("digits")} >= {
                "digits-a2-worker-0",
                "digits-a2-worker-1",
            }

        await eventually(replaced)
        await kubelet.run_all("digits")
        status = await phase(cluster, "Running")
    assert status["attempt"] == 2
    last = status["restarts"]["last"]
    assert (last["pod"], last["signal"], last["evidence"]) == ("digits-a1-worker-0", 9, "last line")
    failed = [event for event in (await cluster.list(EVENTS, "default")).items if event["reason"] == "WorkerFailed"]
    assert len(failed) == 1
    assert "last line" in failed[0]["message"]


async def test_deleting_the_job_takes_its_pods_and_leaves_the_claim() -> None:
    cluster = Counting()
    async with operating(cluster) as operator:
        await cluster.create(TRAINING_JOBS, job().workers(2).build())
        await phase(cluster, "Queued")
        await cluster.delete(TRAINING_JOBS, "digits", "default")
        await idle(operator, cluster)
        assert (await cluster.list(PODS, "default")).items == []
        assert (await cluster.list(SERVICES, "default")).items == []
        assert len((await cluster.list(CLAIMS, "default")).items) == 1
        assert b'job="digits"' not in _exposed(operator)


async def test_a_refusal_of_the_api_is_the_reason_and_the_job_goes_on_when_it_is_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainwright.controller.reconcile.REFUSED_RETRY_SECONDS", 0.05)
    cluster = Counting()
    cluster.refuse["Pod"] = (
        'pods "digits-a1-worker-0" is forbidden: exceeded quota: team, requested: pods=1, used: pods=5, limited: pods=5'
    )
    async with operating(cluster):
        await cluster.create(TRAINING_JOBS, job().workers(2).build())
        assert "exceeded quota: team" in (await phase(cluster, "Queued"))["reason"]
        cluster.refuse.clear()
        await eventually(lambda: cluster.writes.count(("create", "Pod")) == 2)


async def test_a_service_of_somebody_else_is_not_touched() -> None:
    cluster = Counting()
    async with operating(cluster):
        await cluster.create(SERVICES, {"metadata": {"name": "digits", "namespace": "default"}, "spec": {"type": "ClusterIP"}})
        await cluster.create(TRAINING_JOBS, job().workers(1).build())
        status = await phase(cluster, "Queued")
        assert status["reason"] == "Service digits exists and belongs to something else; rename it or the job"
        assert (await cluster.get(SERVICES, "digits", "default"))["spec"] == {"type": "ClusterIP"}


async def test_a_job_that_somebody_else_manages_is_not_touched_at_all() -> None:
    cluster = Counting()
    async with operating(cluster) as operator:
        await cluster.create(TRAINING_JOBS, job().run_policy(managedBy="example.com/other").build())
        await idle(operator, cluster)
    assert cluster.writes == [("create", "TrainingJob")], "only the test has written"


async def test_suspended_and_resumed_and_gone_after_its_time_to_live() -> None:
    cluster = Counting()
    kubelet = ScriptedKubelet(cluster)

    async def policy(**fields: Any) -> None:
        await cluster.patch(TRAINING_JOBS, "digits", "default", {"spec": {"runPolicy": fields}})

    async with operating(cluster):
        await cluster.create(TRAINING_JOBS, job().workers(2).build())
        await phase(cluster, "Queued")
        await kubelet.run_all("digits")
        await phase(cluster, "Running")
        await policy(suspend=True)
        await phase(cluster, "Suspended")
        for pod in await kubelet.pods("digits"):
            await eventually(lambda name=pod["metadata"]["name"]: _deleting(kubelet, name))
            await kubelet.become(ended(pod, 143))
        await kubelet.confirm_deletions("digits")
        await eventually(lambda: _reason(cluster, "suspended"))
        await policy(suspend=False)
        await eventually(lambda: _names(kubelet, {"digits-a2-worker-0", "digits-a2-worker-1"}))
        await kubelet.run_all("digits")
        status = await phase(cluster, "Running")
        assert (status["attempt"], status["restarts"]["total"]) == (2, 0)
        await policy(ttlSecondsAfterFinished=0)
        await kubelet.end_all("digits")

        async def gone() -> bool:
            return (await cluster.list(TRAINING_JOBS, "default")).items == []

        await eventually(gone)
    assert len((await cluster.list(CLAIMS, "default")).items) == 1


async def _deleting(kubelet: ScriptedKubelet, name: str) -> bool:
    return any(pod["metadata"]["name"] == name and "deletionTimestamp" in pod["metadata"] for pod in await kubelet.pods("digits"))


async def _reason(cluster: Counting, reason: str) -> bool:
    return bool((await cluster.status()).get("reason") == reason)


async def _names(kubelet: ScriptedKubelet, names: set[str]) -> bool:
    return {pod["metadata"]["name"] for pod in await kubelet.pods("digits")} == names


async def test_a_job_made_anew_waits_for_what_is_left_of_its_predecessor() -> None:
    cluster = Counting()
    kubelet = ScriptedKubelet(cluster)
    async with operating(cluster):
        await cluster.create(TRAINING_JOBS, job().workers(2).build())
        await phase(cluster, "Queued")
        await kubelet.run_all("digits")
        await phase(cluster, "Running")
        await cluster.delete(TRAINING_JOBS, "digits", "default")
        await cluster.create(TRAINING_JOBS, job().workers(2).build())
        status = await phase(cluster, "Queued")
        assert (
            status["reason"] == "Pod digits-a1-worker-0 of an earlier job of this name is still there; waiting until it is gone"
        )
        before = {pod["metadata"]["uid"] for pod in await kubelet.pods("digits")}
        await kubelet.confirm_deletions("digits")

        async def replaced() -> bool:
            now = {pod["metadata"]["uid"] for pod in await kubelet.pods("digits")}
            return len(now) == 2 and not now & before

        await eventually(replaced, within=4, what="the new gang, without waiting for the retry")


async def test_an_operator_that_starts_in_the_middle_goes_on_from_what_is() -> None:
    cluster = Counting()
    kubelet = ScriptedKubelet(cluster)
    async with operating(cluster):
        await cluster.create(TRAINING_JOBS, job().workers(2).build())
        await phase(cluster, "Queued")
    for pod in await kubelet.pods("digits"):
        await kubelet.become(running(pod))
    cluster.writes.clear()
    async with operating(cluster):
        await phase(cluster, "Running")
    assert ("create", "Pod") not in cluster.writes
    assert ("create", "Service") not in cluster.writes


async def test_a_job_that_the_schema_let_through_is_refused_in_its_status() -> None:
    cluster = Counting()
    async with operating(cluster):
        await cluster.create(TRAINING_JOBS, job().spec(workers=0).build())
        status = await phase(cluster, "Failed")
    assert status["reason"].startswith("spec.workers: 0")
    assert status["conditions"][0]["reason"] == "InvalidSpec"


def _exposed(operator: Operator) -> bytes:
    from prometheus_client import generate_latest

    return generate_latest(operator.metrics.registry)


class Deaf(Counting):
    """Its watches of pods end, fail or say nothing more, as a test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble = ""

    async def watch(self, resource: Resource, *args: Any, **kwargs: Any) -> AsyncIterator[WatchEvent]:
        async for event in super().watch(resource, *args, **kwargs):
            if resource.kind == "Pod" and self.trouble:
                if self.trouble == "silent":
                    await asyncio.Event().wait()
                trouble, self.trouble = self.trouble, ""
                if trouble == "dropped":
                    return
                raise Gone("too old") if trouble == "410" else ClusterError("connection reset by peer")
            yield event


@pytest.mark.parametrize("trouble", ["410", "dropped", "broken", "silent"])
async def test_a_watch_in_trouble_loses_nothing(trouble: str) -> None:
    cluster = Deaf()
    kubelet = ScriptedKubelet(cluster)
    async with operating(cluster, resync_seconds=0.5):
        await cluster.create(TRAINING_JOBS, job().workers(2).build())
        await phase(cluster, "Queued")
        cluster.trouble = trouble
        await kubelet.run_all("digits")
        await phase(cluster, "Running")
        cluster.trouble = trouble
        await kubelet.end_all("digits")
        await phase(cluster, "Succeeded")


async def test_a_thousand_events_a_second_on_one_job_don_t_starve_another() -> None:
    cluster = Counting()
    kubelet = ScriptedKubelet(cluster)
    async with operating(cluster):
        await cluster.create(TRAINING_JOBS, job("noisy").workers(2).build())
        await phase(cluster, "Queued", "noisy")
        (pod, _) = await kubelet.pods("noisy")
        await kubelet.run_all("noisy")

        events = 0

        async def storm() -> None:
            nonlocal events
            while True:
                events += 1
                patch = {"metadata": {"annotations": {"noise": str(events)}}}
                await cluster.patch(PODS, pod["metadata"]["name"], "default", patch)
                await asyncio.sleep(0.001 if events % 10 == 0 else 0)

        storming = asyncio.create_task(storm())
        await eventually(lambda: events > 1000, within=60)
        await cluster.create(TRAINING_JOBS, job("quiet").workers(2).build())
        await phase(cluster, "Queued", "quiet")
        await kubelet.run_all("quiet")
        await phase(cluster, "Running", "quiet")
        assert not storming.done()
        storming.cancel()


async def test_a_recipe_that_there_is_not_fails_the_job_before_any_pod_starts() -> None:
    cluster = Counting()
    async with operating(cluster):
        await cluster.create(TRAINING_JOBS, job().recipe(epoch=3).build())
        status = await phase(cluster, "Failed")
        assert status["conditions"][-1]["reason"] == "InvalidSpec"
        assert "spec.recipe.config.epoch: is not a key of the recipe; did you mean epochs?" in status["reason"]
        assert (await cluster.list(PODS, "default")).items == []


async def test_what_is_gone_is_remembered_as_it_was_last_seen() -> None:
    cluster = MemoryCluster()
    store = Store(cluster, PODS, index="trainwright.dev/job")
    pod = {"metadata": {"name": "p", "namespace": "default", "labels": {"trainwright.dev/job": "digits"}}, "spec": {}}
    task = asyncio.create_task(store.run())
    await store.synced.wait()
    await cluster.create(PODS, pod)
    await cluster.patch(PODS, "p", "default", {"status": {"phase": "Running"}}, subresource="status")
    await cluster.delete(PODS, "p", "default")
    (last,) = await eventually(lambda: store.departed("default", "digits"))
    assert last["status"]["phase"] == "Running"
    assert store.departed("default", "other") == []
    await cluster.create(PODS, pod)
    await eventually(lambda: store.get("default", "p"))
    assert store.departed("default", "digits") == []
    task.cancel()


@pytest.mark.parametrize("trouble", [0, 2], ids=["at once", "after two refused lists"])
async def test_a_deployment_that_is_heard_of_before_its_job_does_not_lose_its_version(trouble: int) -> None:
    """A new operator hears of kinds in any order; a job that it hasn't heard of yet is not one that was deleted."""

    class Late(Counting):
        lists = trouble

        async def list(self, resource: Resource, *args: Any, **kwargs: Any) -> Any:
            if resource is TRAINING_JOBS and self.lists:
                self.lists -= 1
                raise ClusterError("not now")
            return await super().list(resource, *args, **kwargs)

    cluster = Late()
    trained = await cluster.create(TRAINING_JOBS, job("first").spec(publish={"deployment": "digits"}).build())
    await cluster.patch(TRAINING_JOBS, "first", "default", {"status": {"phase": "Succeeded", "attempt": 1}}, subresource="status")
    made = await cluster.create(MODEL_DEPLOYMENTS, deployment())
    key = f"job/{trained['metadata']['uid']}"
    taken = {"version": 1, "state": "Candidate", "offer": key, "job": "first", "since": made["metadata"]["creationTimestamp"]}
    status = {"versions": [taken], "lastVersion": 1, "candidate": {"version": 1, "step": "Verify"}}
    begun = await cluster.patch(MODEL_DEPLOYMENTS, "digits", "default", {"status": status}, subresource="status")

    async with operating(cluster, watch_jobs=False) as operator:
        assert operator.serving is not None
        operator.serving.changed(begun)
        await eventually(lambda: ("create", "Job") in cluster.writes, what="the artifact is being verified")
        now = (await cluster.get(MODEL_DEPLOYMENTS, "digits", "default"))["status"]
    assert [one["state"] for one in now["versions"]] == ["Candidate"]
