"""One worker's pod as the planner sees it: who, which attempt, what state, why it waits, how it failed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from trainwright.api.causes import Cause
from trainwright.api.names import ATTEMPT_LABEL, CONTAINER, FETCH_CONTAINER, INDEX_LABEL
from trainwright.observe.failure import Failure, container_failure, disruption, pod_failure
from trainwright.observe.times import seconds

# Words of a container that has not started for a harmless reason: it is just being made.
_HARMLESS = ("ContainerCreating", "PodInitializing")
# What the scheduler adds once it has said why no node will do: that it looked for somebody to evict in vain.
# Of a pod that would fit while others of its gang don't: what these say is worth reading.
_FOR_OTHERS = re.compile(r"pod group is unschedulable|waiting for minCount pods from a gang", re.IGNORECASE)
_WITHOUT_PREEMPTION = re.compile(r"\s*(no new claims to deallocate,\s*)?preemption: .*$", re.DOTALL)


class WorkerState(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, kw_only=True)
class Worker:
    """`scheduled`: a node has been chosen. `waiting`: one line why the pod does not run, empty when there is nothing to say.

    `disruption`: what the control plane says it does to the pod. `created` and `delete_by`: when the pod was made, and when the
    grace of one that is being deleted ends, in seconds since the epoch. `final_words`: its termination message.
    """

    name: str
    uid: str
    index: int
    attempt: int
    state: WorkerState
    scheduled: bool
    deleting: bool
    created: float = 0.0
    delete_by: float | None = None
    disruption: Cause | None = None
    node: str = ""
    address: str = ""
    waiting: str = ""
    failure: Failure | None = None
    final_words: str = ""

    @property
    def ended(self) -> bool:
        return self.state in (WorkerState.SUCCEEDED, WorkerState.FAILED)

    def stuck(self, now: float, patience: float) -> bool:
        """Whether it should have ended `patience` seconds ago: its node doesn't confirm the deletion."""
        return not self.ended and self.delete_by is not None and now > self.delete_by + patience


def observe_worker(pod: dict[str, Any]) -> Worker | None:
    """The worker behind a pod; None when the pod carries no usable labels of ours."""
    metadata, status = pod["metadata"], pod.get("status", {})
    labels = metadata.get("labels", {})
    try:
        index, attempt = int(labels[INDEX_LABEL]), int(labels[ATTEMPT_LABEL])
    except (KeyError, ValueError):
        return None
    container = _telling_container(status)
    terminated = container.get("state", {}).get("terminated")
    state = _state(status, container)
    failure = None
    if state is WorkerState.FAILED:
        finished = seconds((terminated or {}).get("finishedAt")) or seconds(metadata.get("deletionTimestamp")) or 0.0
        failure = (
            container_failure(pod=pod, index=index, terminated=terminated, finished_at=finished)
            if terminated
            else pod_failure(pod=pod, index=index, time=finished)
        )
    return Worker(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        index=index,
        attempt=attempt,
        state=state,
        scheduled=bool(pod.get("spec", {}).get("nodeName")),
        deleting="deletionTimestamp" in metadata,
        created=seconds(metadata.get("creationTimestamp")) or 0.0,
        delete_by=seconds(metadata.get("deletionTimestamp")),
        disruption=disruption(pod),
        node=pod.get("spec", {}).get("nodeName", ""),
        address=status.get("podIP", ""),
        waiting=_waiting(status, container) if state is WorkerState.PENDING else "",
        failure=failure,
        final_words=str((terminated or {}).get("message") or ""),
    )


def _telling_container(status: dict[str, Any]) -> dict[str, Any]:
    """The worker's own container; the step before it as long as that one is at work, or when it failed."""
    for one in status.get("initContainerStatuses", []):
        if one.get("state", {}).get("terminated", {"exitCode": 1}).get("exitCode") != 0:
            return dict(one)
    return next((dict(one) for one in status.get("containerStatuses", []) if one.get("name") == CONTAINER), {})


def _state(status: dict[str, Any], container: dict[str, Any]) -> WorkerState:
    """The container speaks before the pod does: its end is known before the pod's phase follows."""
    state = container.get("state", {})
    if "terminated" in state:
        return WorkerState.SUCCEEDED if state["terminated"].get("exitCode") == 0 else WorkerState.FAILED
    match status.get("phase"):
        case "Succeeded":
            return WorkerState.SUCCEEDED
        case "Failed":
            return WorkerState.FAILED
        case _:
            return WorkerState.RUNNING if "running" in state and container["name"] == CONTAINER else WorkerState.PENDING


def _waiting(status: dict[str, Any], container: dict[str, Any]) -> str:
    if container.get("name") == FETCH_CONTAINER and "running" in container.get("state", {}):
        return "fetching data and checkpoints into the workspace"
    waiting = container.get("state", {}).get("waiting") or {}
    if waiting.get("message"):
        return one_line(f"{waiting.get('reason', 'Waiting')}: {waiting['message']}")
    for condition in status.get("conditions", []):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            said = condition.get("message") or condition.get("reason") or ""
            return "" if _FOR_OTHERS.match(said) else one_line(_WITHOUT_PREEMPTION.sub("", said))
    reason = waiting.get("reason", "")
    return "" if reason in _HARMLESS else reason


def one_line(text: str, limit: int = 400) -> str:
    """White space folded, at most `limit` characters."""
    folded = re.sub(r"\s+", " ", text).strip()
    return folded if len(folded) <= limit else f"{folded[: limit - 1]}…"
