"""From raw objects to what the queue decides on. Raw, since thousands of them are read at each decision: no more of an object is
looked at than is needed, and what a version of one says is read once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trainwright.api.job import TrainingJob
from trainwright.api.names import ATTEMPT_LABEL, INDEX_LABEL, JOB_LABEL, OPERATOR_NAME, is_gpu, pod_name
from trainwright.api.status import Phase
from trainwright.observe.times import seconds
from trainwright.schedulers.capacity.amounts import Amounts, request_of, total
from trainwright.schedulers.capacity.nodes import Shape, read_shape
from trainwright.schedulers.capacity.pins import pinned_to
from trainwright.schedulers.capacity.queue import JUST_NOW, Gang
from trainwright.schedulers.capacity.quotas import Charge, charge_of

Object = dict[str, Any]
_HOLDING = (Phase.STARTING, Phase.RUNNING)


@dataclass(frozen=True, kw_only=True)
class PodFacts:
    """A pod's part in the room there is. `node`: where it is, or is made for; empty when neither. `owners`: uids.

    `alive`: it has not ended, so the scheduler counts what it asks for.
    """

    node: str
    alive: bool
    going: bool
    failed: bool
    request: Amounts
    owners: tuple[str, ...] = ()
    attempt: int = 0
    index: int = -1


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What of a job's spec the queue goes by; it can't change."""

    shape: Shape
    queue: str
    priority_class: str | None
    charge: Charge


@dataclass(frozen=True)
class Priority:
    """`name`: of the class; empty without one."""

    value: int = 0
    preempts: bool = True
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a process knows beyond what can be seen. With none of it the same jobs run, now and then on other nodes.

    `places`: nodes of a gang's workers, as last seen or decided. `granted`: whether it was admitted and its pods are still to be
    seen. `evicted`: why it was told to make room, until its status says so.
    """

    places: Mapping[int, str] = field(default_factory=dict)
    granted: bool = False
    evicted: str = ""


def read_pod(raw: Object) -> PodFacts:
    """Of any pod. What doesn't have our labels and name belongs to no gang."""
    metadata, labels = raw["metadata"], raw["metadata"].get("labels") or {}
    phase = (raw.get("status") or {}).get("phase")
    alive = phase not in ("Succeeded", "Failed")
    node = raw["spec"].get("nodeName") or pinned_to(raw)
    try:
        attempt, index = int(labels[ATTEMPT_LABEL]), int(labels[INDEX_LABEL])
    except (KeyError, ValueError):
        attempt, index = 0, -1
    ours = index >= 0 and metadata["name"] == pod_name(labels.get(JOB_LABEL, ""), attempt, index)
    return PodFacts(
        node=node,
        alive=alive,
        going="deletionTimestamp" in metadata,
        failed=phase == "Failed",
        request=request_of(raw) if node and alive else {},
        owners=tuple(one.get("uid", "") for one in metadata.get("ownerReferences") or ()) if ours else (),
        attempt=attempt,
        index=index,
    )


def read_wish(job: TrainingJob, pod: Object) -> Wish:
    """`pod`: a worker's, as it would be made."""
    policy, placement = job.spec.run_policy.scheduling, job.spec.placement
    return Wish(
        shape=read_shape(pod, job.spec.workers, placement.topology_key),
        queue=policy.queue or "",
        priority_class=policy.priority_class or placement.priority_class_name,
        charge=charge_of(pod),
    )


def read_priorities(classes: Iterable[Object]) -> dict[str | None, Priority]:
    """By name of the class; under None what goes for who names none."""
    found: dict[str | None, Priority] = {None: Priority()}
    for one in classes:
        name = one["metadata"]["name"]
        priority = found[name] = Priority(int(one.get("value") or 0), one.get("preemptionPolicy") != "Never", name)
        if one.get("globalDefault"):
            found[None] = priority
    return found


def wants_room(raw: Object) -> bool:
    """Whether a job holds room or wants it: it is ours to run, and neither over nor set aside."""
    policy = raw["spec"].get("runPolicy") or {}
    phase = (raw.get("status") or {}).get("phase")
    return (
        "deletionTimestamp" not in raw["metadata"]
        and policy.get("managedBy") in (None, OPERATOR_NAME)
        and not policy.get("suspend")
        and phase not in (Phase.SUCCEEDED, Phase.FAILED, Phase.SUSPENDED)
    )


def read_gang(raw: Object, wish: Wish, priority: Priority, pods: Iterable[PodFacts], memory: Memory, now: float) -> Gang:
    """A job that holds room or wants it. `pods`: all of its own, of every attempt; `now`: for what it would lose."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    attempt, phase = status.get("attempt") or 1, status.get("phase")
    queued = _condition(status, "Queued")
    pods = list(pods)
    current = {pod.index: pod for pod in pods if pod.attempt == attempt}
    # The gang will be started anew, and its room is not for others meanwhile.
    failed = {index: pod.node for index, pod in current.items() if pod.failed}
    between = phase == Phase.RESTARTING and queued.get("status") != "True"
    holding = memory.granted or between or phase in _HOLDING or bool(current)
    older = {pod.index: pod.node for pod in pods if pod.attempt != attempt and pod.alive and pod.node}
    since = queued.get("lastTransitionTime", "") if queued.get("status") == "False" else JUST_NOW if memory.granted else ""
    return Gang(
        uid=metadata["uid"],
        name=f"{metadata['namespace']}/{metadata['name']}",
        shape=wish.shape,
        created=metadata.get("creationTimestamp", ""),
        attempt=attempt,
        queue=wish.queue,
        priority=priority.value,
        preempts=priority.preempts,
        holding=holding,
        since=since if holding else "",
        there={index: pod.node if pod.alive else "" for index, pod in sorted(current.items()) if index not in failed},
        held=_by_node(pod for pod in pods if pod.alive and pod.node) if holding else {},
        kept={index: node for index, node in sorted(older.items()) if index not in current} if holding else {},
        hints={**memory.places, **failed},
        unsaved=_unsaved(wish.shape, status, now) if holding else 0.0,
        evicted=memory.evicted,
        # Pods that name no class get the cluster's default, and quotas go by that.
        charge=wish.charge if wish.charge.priority_class else replace(wish.charge, priority_class=priority.name),
    )


def places_of(pods: Iterable[PodFacts], attempt: int) -> dict[int, str]:
    """The nodes of the workers of an attempt that have one."""
    return {pod.index: pod.node for pod in pods if pod.attempt == attempt and pod.node}


def _by_node(pods: Iterable[PodFacts]) -> dict[str, Amounts]:
    found: dict[str, Amounts] = {}
    for pod in pods:
        found[pod.node] = total((found.get(pod.node, {}), pod.request))
    return found


def _unsaved(shape: Shape, status: Object, now: float) -> float:
    """GPU seconds since the last checkpoint, or since it began to run."""
    if status.get("phase") != Phase.RUNNING:
        return 0.0
    gpus = sum(amount for name, amount in shape.request if is_gpu(name)) / 1000 * shape.workers
    began = seconds(_condition(status, "Running").get("lastTransitionTime")) or now
    saved = seconds((status.get("checkpoint") or {}).get("time")) or 0.0
    return gpus * max(0.0, now - max(began, saved))


def _condition(status: Object, kind: str) -> Object:
    return next((one for one in status.get("conditions") or () if one.get("type") == kind), {})
