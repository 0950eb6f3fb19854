"""Who holds the cluster's GPUs, who waits for them, and when the room is expected: what `top --gpus` shows. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainwright.api.errors import InvalidSpec
from trainwright.api.job import TrainingJob, parse
from trainwright.api.names import INDEX_LABEL, JOB_LABEL, is_gpu
from trainwright.api.status import ConditionType, Phase
from trainwright.cli.overview import Gpus, Row, node_ready, pod_gpus, row_of
from trainwright.cluster.port import Object
from trainwright.plan.pods import worker_pod
from trainwright.plan.types import Settings
from trainwright.schedulers.capacity.facts import read_pod, read_priorities, read_wish
from trainwright.schedulers.capacity.fit import fits, places
from trainwright.schedulers.capacity.nodes import Node, Shape, read_node, refusal


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Pods of one job on a node, or a pod of somebody else's. `ends_in`: seconds, where the job has said so."""

    namespace: str
    job: str | None
    pod: str | None
    workers: tuple[int, ...]
    gpus: int
    phase: Phase | None
    ends_in: float | None

    def wire(self) -> dict[str, Any]:
        return {
            "namespace": self.namespace,
            "job": self.job,
            "pod": self.pod,
            "workers": list(self.workers),
            "gpus": self.gpus,
            "phase": self.phase.value if self.phase else None,
            "endsInSeconds": self.ends_in,
        }


@dataclass(frozen=True, kw_only=True)
class GpuNode:
    """A node with GPUs. `away`: why nobody may come; empty when pods may."""

    name: str
    gpus: int
    away: str
    holders: tuple[Holder, ...]

    @property
    def free(self) -> int:
        return max(0, self.gpus - sum(holder.gpus for holder in self.holders))

    def wire(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "gpus": self.gpus,
            "free": self.free,
            "away": self.away or None,
            "holders": [holder.wire() for holder in self.holders],
        }


@dataclass(frozen=True, kw_only=True)
class Queued:
    """A job that waits. `starts_in`: seconds until it is expected to have room; None where nobody can tell."""

    row: Row
    queue: str
    priority: int
    workers: int
    gpus: int
    starts_in: float | None

    def wire(self) -> dict[str, Any]:
        return {
            "namespace": self.row.namespace,
            "name": self.row.name,
            "queue": self.queue or None,
            "priority": self.priority,
            "needs": {"workers": self.workers, "gpus": self.gpus},
            "reason": self.row.reason or None,
            "startsInSeconds": self.starts_in,
        }


@dataclass(frozen=True, kw_only=True)
class GpuView:
    """`nodes` and `total`: None where nodes or pods of the cluster may not be listed. `queue`: the first the first."""

    total: Gpus | None
    nodes: tuple[GpuNode, ...] | None
    queue: tuple[Queued, ...]

    def wire(self) -> dict[str, Any]:
        return {
            "gpus": self.total.wire() if self.total else None,
            "nodes": None if self.nodes is None else [node.wire() for node in self.nodes],
            "queue": [{"position": number, **one.wire()} for number, one in enumerate(self.queue, 1)],
        }


def gpu_view(
    jobs: Iterable[Object], nodes: list[Object] | None, pods: list[Object] | None, classes: Iterable[Object], now: float
) -> GpuView:
    """The facts at `now`, in seconds since the epoch."""
    jobs = list(jobs)
    typed = [one for raw in jobs if (one := _typed(raw)) is not None]
    known = nodes is not None and pods is not None
    expected = _Expected(typed, nodes or [], pods or []) if known else None
    priorities = read_priorities(classes)
    waiting = []
    for raw in jobs:
        row, policy = row_of(raw, {}, now), (raw["spec"].get("runPolicy") or {}).get("schedulingPolicy") or {}
        name = policy.get("priorityClass") or (raw["spec"].get("placement") or {}).get("priorityClassName")
        if row.waits:
            value = (priorities.get(name) or priorities[None]).value
            waiting.append((-value, raw["metadata"].get("creationTimestamp", ""), raw["metadata"]["uid"], row, policy, raw))
    queue = []
    for minus, _, uid, row, policy, raw in sorted(waiting, key=lambda one: one[:3]):
        gpus = int((raw["spec"].get("resources") or {}).get("gpus") or 0)
        starts_in = expected.start_of(uid) if expected else None
        queue.append(
            Queued(row=row, queue=policy.get("queue") or "", priority=-minus, workers=row.desired, gpus=gpus, starts_in=starts_in)
        )
    return GpuView(
        total=Gpus.count(nodes, pods) if nodes is not None and pods is not None else None,
        nodes=tuple(_gpu_nodes(typed, nodes, pods)) if nodes is not None and pods is not None else None,
        queue=tuple(queue),
    )


def _typed(raw: Object) -> TrainingJob | None:
    try:
        return parse(raw)
    except InvalidSpec:
        return None


def _gpu_nodes(jobs: Iterable[TrainingJob], nodes: Iterable[Object], pods: Iterable[Object]) -> Iterable[GpuNode]:
    known = {(job.namespace, job.name): job for job in jobs}
    by_node: dict[str, list[Object]] = {}
    for pod in pods:
        if pod_gpus(pod):
            by_node.setdefault(pod["spec"]["nodeName"], []).append(pod)
    for raw in sorted(nodes, key=lambda raw: str(raw["metadata"]["name"])):
        node = read_node(raw)
        gpus = sum(amount for name, amount in node.allocatable.items() if is_gpu(name)) // 1000
        held = by_node.get(node.name, [])
        if gpus or held:
            away = node.away if node_ready(raw) else "not ready"
            yield GpuNode(name=node.name, gpus=gpus, away=away, holders=tuple(_holders(known, held)))


def _holders(known: Mapping[tuple[str, str], TrainingJob], pods: Iterable[Object]) -> Iterable[Holder]:
    """Jobs first, each once; then pods of others."""
    ours: dict[tuple[str, str], list[Object]] = {}
    others: list[Object] = []
    for pod in sorted(pods, key=lambda pod: (pod["metadata"].get("namespace", ""), pod["metadata"]["name"])):
        metadata = pod["metadata"]
        name = (metadata.get("labels") or {}).get(JOB_LABEL)
        if name is None:
            others.append(pod)
        else:
            ours.setdefault((metadata.get("namespace", ""), name), []).append(pod)
    for (space, name), workers in ours.items():
        job = known.get((space, name))
        indices = [str((pod["metadata"].get("labels") or {}).get(INDEX_LABEL, "")) for pod in workers]
        yield Holder(
            namespace=space,
            job=name,
            pod=None,
            workers=tuple(sorted(int(index) for index in indices if index.isdigit())),
            gpus=sum(map(pod_gpus, workers)),
            phase=job.status.phase if job else None,
            ends_in=_ends_in(job) if job else None,
        )
    for pod in others:
        metadata = pod["metadata"]
        yield Holder(
            namespace=metadata.get("namespace", ""),
            job=None,
            pod=metadata["name"],
            workers=(),
            gpus=pod_gpus(pod),
            phase=None,
            ends_in=None,
        )


def _ends_in(job: TrainingJob) -> float | None:
    progress = job.status.progress
    return progress.eta_seconds if progress and job.status.phase is Phase.RUNNING else None


@dataclass
class _Expected:
    """When those that wait for admission will have room, if running jobs end when they say, and all else stays for ever.

    Asked for in the order of the queue: who has been told a start has its places from then on.
    """

    jobs: list[TrainingJob]
    raw_nodes: list[Object]
    pods: list[Object]
    _nodes: list[Node] = field(init=False)
    _free: dict[str, dict[str, int]] = field(init=False)
    _ends: list[tuple[float, dict[str, dict[str, int]]]] = field(init=False)

    def __post_init__(self) -> None:
        self._nodes = [read_node(raw) for raw in self.raw_nodes]
        self._free = {node.name: dict(node.allocatable) for node in self._nodes}
        running = {job.uid: ends for job in self.jobs if (ends := _ends_in(job)) is not None}
        ending: dict[str, dict[str, dict[str, int]]] = {uid: {} for uid in running}
        for raw in self.pods:
            pod = read_pod(raw)
            if not (pod.alive and pod.node in self._free):
                continue
            _add(self._free, pod.node, pod.request, -1)
            for uid in pod.owners:
                if uid in ending:
                    _add(ending[uid], pod.node, pod.request, 1)
        self._ends = sorted(((running[uid], rooms) for uid, rooms in ending.items()), key=lambda one: one[0])

    def start_of(self, uid: str) -> float | None:
        job = next((one for one in self.jobs if one.uid == uid), None)
        queued = job.status.condition(ConditionType.QUEUED) if job else None
        if job is None or queued is None or queued.status != "True":
            return None
        shape = read_wish(job, worker_pod(job, 0, Settings())).shape
        eligible = [node for node in self._nodes if not refusal(shape, node)]
        rooms = {name: dict(room) for name, room in self._free.items()}
        if (found := self._places(shape, eligible, rooms)) is None:
            for ends, freed in self._ends:
                for name, amounts in freed.items():
                    _add(rooms, name, amounts, 1)
                if (found := self._places(shape, eligible, rooms)) is not None:
                    self._take(shape, found)
                    return ends
            return None
        # There is room: what it waits for is no running job's end.
        self._take(shape, found)
        return None

    @staticmethod
    def _places(shape: Shape, nodes: list[Node], rooms: dict[str, dict[str, int]]) -> list[str] | None:
        return places(shape, shape.workers, nodes, rooms) if fits(shape, nodes, rooms) else None

    def _take(self, shape: Shape, names: list[str]) -> None:
        for name in names:
            _add(self._free, name, dict(shape.request), -1)


def _add(rooms: dict[str, dict[str, int]], node: str, amounts: Mapping[str, int], sign: int) -> None:
    room = rooms.setdefault(node, {})
    for name, amount in amounts.items():
        room[name] = room.get(name, 0) + sign * amount
