"""All that is seen of one job at one moment, as plain data: the planner's only view of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainwright.api.names import HASH_ANNOTATION
from trainwright.observe.progress import TrainingProgress
from trainwright.observe.workers import Worker, observe_worker


@dataclass(frozen=True)
class Child:
    """An object made for a job, other than a pod. `hash` is of what was asked for; `phase` is its status, where it has one."""

    kind: str
    name: str
    hash: str
    phase: str = ""


@dataclass(frozen=True)
class Observed:
    """Pods of every attempt, children by kind and name, and what rank 0 last said.

    `departed`: pods that are gone, as they were last seen; what is known of them may explain their end and decides nothing else.
    """

    workers: tuple[Worker, ...] = ()
    departed: tuple[Worker, ...] = ()
    children: Mapping[tuple[str, str], Child] = field(default_factory=dict)
    progress: TrainingProgress | None = None

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
    read: Callable[[dict[str, Any]], Worker | None] = observe_worker,
) -> Observed:
    """The view of the job with this uid: what an earlier job of the same name left behind is not ours to count.

    A claim is kept by name: it belongs to nobody, so that results outlive the job. `read` may remember what it has read.
    """
    workers = [worker for pod in pods if _owned(pod, uid) and (worker := read(pod)) is not None]
    kept = [child for child in children if _owned(child, uid) or child["kind"] == "PersistentVolumeClaim"]
    return Observed(
        workers=tuple(sorted(workers, key=lambda worker: (worker.attempt, worker.index))),
        departed=tuple(worker for pod in departed if _owned(pod, uid) and (worker := read(pod)) is not None),
        children={(child.kind, child.name): child for child in map(_child, kept)},
        progress=progress,
    )


def _owned(obj: dict[str, Any], uid: str) -> bool:
    return any(owner.get("uid") == uid for owner in obj["metadata"].get("ownerReferences", []))


def _child(obj: dict[str, Any]) -> Child:
    metadata = obj["metadata"]
    return Child(
        kind=obj["kind"],
        name=metadata["name"],
        hash=metadata.get("annotations", {}).get(HASH_ANNOTATION, ""),
        phase=str(obj.get("status", {}).get("phase", "")),
    )
