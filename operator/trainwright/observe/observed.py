"""All that is seen of one job at one moment, as plain data: the planner's only view of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainwright.api.deployment_status import Version
from trainwright.api.names import HASH_ANNOTATION, JOB_LABEL, pod_name
from trainwright.observe.progress import TrainingProgress
from trainwright.observe.workers import Worker, observe_worker


@dataclass(frozen=True)
class Child:
    """An object made for one of ours, other than a pod. `hash` is of what was asked for; `phase` its status, where it has one."""

    kind: str
    name: str
    hash: str
    phase: str = ""
    uid: str = ""


@dataclass(frozen=True)
class Observed:
    """Pods of every attempt, children by kind and name, and what rank 0 last said.

    `offered`: what became of the job's artifact at the deployment that it publishes to, if that has taken it.
    `departed`: pods that are gone, as they were last seen; what is known of them may explain their end and decides nothing else.
    """

    workers: tuple[Worker, ...] = ()
    departed: tuple[Worker, ...] = ()
    children: Mapping[tuple[str, str], Child] = field(default_factory=dict)
    progress: TrainingProgress | None = None
    offered: Version | None = None

    def of(self, attempt: int) -> list[Worker]:
        return sorted((worker for worker in self.workers if worker.attempt == attempt), key=lambda worker: worker.index)

    def other_than(self, attempt: int) -> list[Worker]:
        return [worker for worker in self.workers if worker.attempt != attempt]


def observe(
    *,
    uid: str,
    pods: Iterable[dict[str, Any]],
    children: Iterable[dict[str, Any]],
    departed: Iterable[dict[str, Any]] = (),
    progress: TrainingProgress | None = None,
    offered: Version | None = None,
    read: Callable[[dict[str, Any]], Worker | None] = observe_worker,
) -> Observed:
    """The view of the job with this uid: what an earlier job of the same name left behind is not ours to count.

    A claim is kept by name: it belongs to nobody, so that results outlive the job. `read` may remember what it has read.
    """
    workers = [worker for pod in pods if owned(pod, uid) and (worker := read(pod)) is not None and _named_by_us(pod, worker)]
    kept = [child for child in children if owned(child, uid) or child["kind"] == "PersistentVolumeClaim"]
    return Observed(
        workers=tuple(sorted(workers, key=lambda worker: (worker.attempt, worker.index))),
        departed=tuple(worker for pod in departed if owned(pod, uid) and (worker := read(pod)) is not None),
        children={(child.kind, child.name): child for child in map(child_of, kept)},
        progress=progress,
        offered=offered,
    )


def _named_by_us(pod: dict[str, Any], worker: Worker) -> bool:
    """Whether the pod has the name that goes with its labels: a pod of somebody's own that wears them has another."""
    job = pod["metadata"].get("labels", {}).get(JOB_LABEL, "")
    return bool(pod["metadata"]["name"] == pod_name(job, worker.attempt, worker.index))


def owned(obj: dict[str, Any], uid: str) -> bool:
    """Whether the object with this uid owns it."""
    return any(owner.get("uid") == uid for owner in obj["metadata"].get("ownerReferences", []))


def child_of(obj: dict[str, Any]) -> Child:
    """What is seen of an object that was made for one of ours."""
    metadata = obj["metadata"]
    return Child(
        kind=obj["kind"],
        name=metadata["name"],
        hash=metadata.get("annotations", {}).get(HASH_ANNOTATION, ""),
        phase=str(obj.get("status", {}).get("phase", "")),
        uid=metadata.get("uid", ""),
    )
