"""`capacity` on a whole twin of its own: two nodes with two pretended GPUs each, the real scheduler, real processes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from test_story import digits, step

from support.jobs import apply, get, succeeded, until
from support.twin import RunningTwin, running_twin
from support.waiting import eventually
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import PODS, Object, WatchType

GPU = "nvidia.com/gpu"
SIZES = [(1, 1), (1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (4, 1)]


@pytest.fixture(scope="module")
def four() -> Iterator[RunningTwin]:
    with running_twin(nodes=2, gpus_per_node=2) as started:
        yield started


@pytest.fixture
def room(four: RunningTwin, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"q-{abs(hash(request.node.name)) % 10**6}"
    four.kubectl("create", "namespace", name)
    yield name
    # The next test has all GPUs to itself.
    four.kubectl("delete", "namespace", name)


@pytest.fixture
async def cluster(four: RunningTwin) -> AsyncIterator[KubeCluster]:
    connected = await KubeCluster.connect(kubeconfig=four.kubectl.kubeconfig)
    yield connected
    await connected.close()


def queued(job: dict[str, Any], **policy: Any) -> dict[str, Any]:
    job["spec"]["runPolicy"] = {**job["spec"].get("runPolicy", {}), "schedulingPolicy": {"provider": "capacity", **policy}}
    return job


def command(name: str, workers: int, gpus: int, script: str, **policy: Any) -> dict[str, Any]:
    return queued(
        {
            "apiVersion": "trainwright.dev/v1alpha1",
            "kind": "TrainingJob",
            "metadata": {"name": name},
            "spec": {
                "framework": "none",
                "command": ["sh", "-c", script],
                "workers": workers,
                "resources": {"gpus": gpus},
                "workspace": {"size": "1Mi"},
            },
        },
        **policy,
    )


class Watch:
    """What all pods of a namespace hold, looked at after each event. `wrong`: moments at which a gang had only a part of what it needs
    while others had the rest, or a node more than it has.
    """

    def __init__(self, cluster: KubeCluster, space: str, sizes: dict[str, tuple[int, int]]) -> None:
        self._cluster, self._space, self._sizes = cluster, space, sizes
        self._pods: dict[str, Object] = {}
        self.events = 0
        self.most = 0
        self.wrong: list[str] = []

    async def run(self) -> None:
        listed = await self._cluster.list(PODS, self._space)
        async for event in self._cluster.watch(PODS, self._space, resource_version=listed.resource_version):
            if event.type is WatchType.BOOKMARK:
                continue
            name = event.object["metadata"]["name"]
            if event.type is WatchType.DELETED:
                self._pods.pop(name, None)
            else:
                self._pods[name] = event.object
            self.events += 1
            self._look(name)

    def _look(self, name: str) -> None:
        nodes: dict[str, int] = {}
        gangs: dict[tuple[str, str], list[Object]] = {}
        for pod in self._pods.values():
            labels = pod["metadata"]["labels"]
            gangs.setdefault((labels["trainwright.dev/job"], labels["trainwright.dev/attempt"]), []).append(pod)
            if _alive(pod) and pod["spec"].get("nodeName"):
                gpus = self._sizes[labels["trainwright.dev/job"]][1]
                nodes[pod["spec"]["nodeName"]] = nodes.get(pod["spec"]["nodeName"], 0) + gpus
        # What gangs that hold anything will need in whole, the pods still to be made included.
        needed = 0
        for (job, _), pods in gangs.items():
            workers, gpus = self._sizes[job]
            if any(map(_alive, pods)):
                needed += (workers - sum(not _alive(pod) for pod in pods)) * gpus
        self.most = max(self.most, needed)
        if needed > 4 or any(count > 2 for count in nodes.values()):
            self.wrong.append(f"after {name}: gangs need {needed} of 4, nodes hold {nodes}")


def _alive(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")


@pytest.mark.timeout(300)
async def test_fifty_jobs_on_four_gpus_and_no_gang_in_part(four: RunningTwin, room: str, cluster: KubeCluster) -> None:
    """The operator is killed in the middle."""
    chance = random.Random(9)
    sizes = {f"j{number:02d}": chance.choice(SIZES) for number in range(50)}
    watch = Watch(cluster, room, sizes)
    watching = asyncio.create_task(watch.run())
    for name, (workers, gpus) in sizes.items():
        apply(four, room, command(name, workers, gpus, f"sleep {chance.choice(['0.1', '0.5', '1'])}"))

    def phases() -> list[str]:
        return [one.get("status", {}).get("phase", "") for one in four.kubectl.json("get", "tj", "-n", room)["items"]]

    await eventually(lambda: phases().count("Succeeded") >= 15, within=120, every=0.5)
    assert "Queued" in phases()
    operator = four.twin.process("operator")
    assert operator is not None
    operator.kill()
    assert four.cli("up", "--name", "t").returncode == 0
    await eventually(lambda: phases().count("Succeeded") == 50, within=200, every=0.5, what="all have run")
    watching.cancel()
    assert watch.wrong == []
    assert watch.most == 4, "the GPUs were used"
    attempts = {one["status"]["attempt"] for one in four.kubectl.json("get", "tj", "-n", room)["items"]}
    assert attempts == {1}, "nobody was started twice"


@pytest.mark.timeout(300)
async def test_an_urgent_job_takes_the_room_of_another_which_saves_and_goes_on(four: RunningTwin, room: str) -> None:
    urgent = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": f"{room}-urgent"},
        "value": 1000,
    }
    four.kubectl("apply", "-f", "-", stdin=str(urgent).replace("'", '"'))
    low = digits(step_delay_seconds=0.05, epochs=20)
    low["spec"] |= {"workers": 2, "resources": {"gpus": 2}, "checkpoint": {"everySteps": 100_000}}
    apply(four, room, queued(low))
    await until(four, room, lambda status: step(status) >= 10)
    apply(four, room, command("urgent", 1, 2, "sleep 2", priorityClass=f"{room}-urgent"))
    status = await until(four, room, lambda status: status.get("phase") == "Queued")
    assert f"preempted by {room}/urgent (priority 1000, this job's 0)" in status["reason"]
    status = await until(four, room, lambda status: status.get("checkpoint"))
    saved = status["checkpoint"]["step"]
    assert saved >= 10, "no periodic checkpoint was due: it is known what its grace has saved"
    await succeeded(four, room, "urgent", within=90)
    status = await until(four, room, lambda status: (status.get("progress") or {}).get("resumedFrom"), within=90)
    assert status["progress"]["resumedFrom"] == saved
    assert (status["attempt"], status["restarts"]["failure"], status["restarts"]["byCause"]) == (2, 0, {"Preempted": 1})
    events = {(one["involvedObject"]["name"], one["reason"]) for one in four.kubectl.json("get", "events", "-n", room)["items"]}
    assert {("digits", "Preempted"), ("urgent", "Preempting")} <= events


@pytest.mark.timeout(360)
@pytest.mark.long
async def test_a_node_that_dies_while_a_gang_is_placed_costs_an_attempt_and_no_room(four: RunningTwin, room: str) -> None:
    """20 s until the node counts as away, 10 until its pods are given up, 30 of grace, 15 of patience with the silent node."""
    agent = four.twin.process("node-2")
    assert agent is not None
    agent.kill()
    apply(four, room, command("pair", 2, 2, "sleep 1"))
    waits = await until(
        four,
        room,
        lambda status: "not ready" in (status.get("reason") or "") and status.get("phase") == "Queued",
        name="pair",
        within=150,
    )
    assert "needs 2 × 2 nvidia.com/gpu; 2 of 2 free" in waits["reason"]
    assert (
        four.kubectl("get", "pods", "-n", room, "--field-selector", "spec.nodeName=node-1,status.phase!=Failed", "-o", "name")
        == ""
    )
    apply(four, room, command("small", 1, 2, "sleep 1"))
    await succeeded(four, room, "small", within=60)
    assert four.cli("up", "--name", "t").returncode == 0
    status = await succeeded(four, room, "pair", within=120)
    assert status["restarts"]["failure"] == 0
    assert get(four, room, "pair")["status"]["attempt"] >= 2
