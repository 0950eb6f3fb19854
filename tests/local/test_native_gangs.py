"""Gangs of Kubernetes' own: the real scheduler and API server of a twin, with their gates on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from support.jobs import apply, get, succeeded, until
from support.twin import RunningTwin
from support.waiting import eventually
from trainwright.api.names import ATTEMPT_LABEL, JOB_LABEL
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import PODS, ClusterError


def gang(name: str, *, workers: int = 3, command: str = "sleep 3", **spec: Any) -> dict[str, Any]:
    """A job that is only of use whole."""
    return {
        "apiVersion": "trainwright.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {
            "framework": "none",
            "command": ["sh", "-c", command],
            "workers": workers,
            "resources": {"gpus": 1},
            "runPolicy": {"schedulingPolicy": {"provider": "native"}},
            **spec,
        },
    }


class Holders:
    """Who holds GPUs, seen at each change of a pod: how many pods with a node each job has that have not ended."""

    def __init__(self) -> None:
        self.seen: list[dict[str, int]] = []
        self._pods: dict[str, dict[str, Any]] = {}

    def take(self, pod: dict[str, Any], *, gone: bool = False) -> None:
        if gone:
            self._pods.pop(pod["metadata"]["name"], None)
        else:
            self._pods[pod["metadata"]["name"]] = pod
        held: dict[str, int] = {}
        for one in self._pods.values():
            if one["spec"].get("nodeName") and one["status"].get("phase") in ("Pending", "Running"):
                job = one["metadata"]["labels"][JOB_LABEL]
                held[job] = held.get(job, 0) + 1
        self.seen.append(held)


@contextlib.asynccontextmanager
async def watching(twin: RunningTwin, space: str) -> AsyncIterator[Holders]:
    cluster = await KubeCluster.connect(kubeconfig=twin.kubectl.kubeconfig)
    holders = Holders()
    listed = await cluster.list(PODS, space)
    for pod in listed.items:
        holders.take(pod)

    async def watch() -> None:
        version = listed.resource_version
        while True:
            with contextlib.suppress(ClusterError):
                async for event in cluster.watch(PODS, space, resource_version=version):
                    version = event.object["metadata"]["resourceVersion"]
                    if event.type in ("ADDED", "MODIFIED", "DELETED"):
                        holders.take(event.object, gone=event.type == "DELETED")

    task = asyncio.create_task(watch())
    try:
        yield holders
    finally:
        task.cancel()
        await cluster.close()


def groups(twin: RunningTwin, space: str) -> list[str]:
    found = twin.kubectl("get", "workloads.scheduling.k8s.io,podgroups.scheduling.k8s.io", "-n", space, "-o", "name")
    return sorted(found.split())


async def test_two_gangs_that_only_fit_one_at_a_time_run_one_after_the_other(twin: RunningTwin, space: str) -> None:
    async with watching(twin, space) as holders:
        for name in ("one", "two"):
            apply(twin, space, gang(name, workers=4))
        for name in ("one", "two"):
            await succeeded(twin, space, name, within=120)
    assert not [held for held in holders.seen if len(held) == 2], "each needs all four GPUs"
    whole = [held for held in holders.seen if 4 in held.values()]
    assert {"one": 4} in whole
    assert {"two": 4} in whole
    await eventually(lambda: not groups(twin, space), within=20, what="the groups of ended gangs to go")


async def test_a_gang_that_does_not_fit_holds_nothing_and_says_why_in_the_schedulers_words(twin: RunningTwin, space: str) -> None:
    apply(twin, space, gang("large", workers=5))
    status = await until(twin, space, lambda status: "Insufficient" in str(status.get("reason")), name="large")
    assert status["phase"] == "Queued"
    assert "pod group is unschedulable" not in status["reason"], "which says nothing"
    async with watching(twin, space) as holders:
        apply(twin, space, gang("small", workers=4))
        await succeeded(twin, space, "small", within=60)
    assert not [held for held in holders.seen if "large" in held]
    assert get(twin, space, "large")["status"]["phase"] == "Queued"


async def test_each_attempt_is_a_group_of_its_own_and_leaves_none(twin: RunningTwin, space: str) -> None:
    once = 'if [ "$TRAINWRIGHT_ATTEMPT" = 1 ] && [ "$TRAINWRIGHT_WORKER_INDEX" = 0 ]; then sleep 1; exit 3; fi; sleep 3'
    apply(twin, space, gang("again", workers=2, command=once))
    await until(twin, space, lambda status: status.get("attempt") == 2 and status.get("phase") == "Running", name="again")
    await eventually(
        lambda: groups(twin, space) == ["podgroup.scheduling.k8s.io/again-a2", "workload.scheduling.k8s.io/again-a2"], within=20
    )
    named = {
        (pod["metadata"]["labels"][ATTEMPT_LABEL], pod["spec"]["schedulingGroup"]["podGroupName"])
        for pod in twin.kubectl.json("get", "pods", "-n", space)["items"]
    }
    assert named <= {("1", "again-a1"), ("2", "again-a2")}
    await succeeded(twin, space, "again", within=60)
    await eventually(lambda: not groups(twin, space), within=20)


async def test_a_group_that_is_deleted_by_hand_is_made_again_and_the_gang_gets_its_nodes(twin: RunningTwin, space: str) -> None:
    apply(twin, space, gang("first", workers=4, command="sleep 8"))
    await until(twin, space, lambda status: status.get("phase") == "Running", name="first")
    apply(twin, space, gang("second", workers=4))
    await until(twin, space, lambda status: status.get("reason"), name="second")
    await eventually(lambda: "podgroup.scheduling.k8s.io/second-a1" in groups(twin, space), within=20)
    twin.kubectl("delete", "podgroups.scheduling.k8s.io", "first-a1", "second-a1", "-n", space, "--wait=false")
    for name in ("first", "second"):
        status = await succeeded(twin, space, name, within=90)
        assert status["attempt"] == 1, status
    await eventually(lambda: not groups(twin, space), within=20)
