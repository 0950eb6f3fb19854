"""The seam between the planner and whoever decides when a gang's pods are made: a job goes in, an admission comes out.

A provider answers from what it has seen: nodes and a queue of its own, or what another scheduler wrote into objects of its own.
The planner asks nothing else of it: no pods before they are admitted, and what is added to each goes into it here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from trainwright.api.job import TrainingJob

Object = dict[str, Any]


class State(StrEnum):
    """What is to become of a gang.

    Undecided: nobody knows yet, nothing is done. Waiting: no pods are made, and what there is of a gang that is not whole goes.
    Admitted: its pods may be made. Preempted: its pods save and end, and it waits.
    """

    UNDECIDED = "Undecided"
    WAITING = "Waiting"
    ADMITTED = "Admitted"
    PREEMPTED = "Preempted"


@dataclass(frozen=True, kw_only=True)
class Admission:
    """A provider's answer for one job.

    `reason`: one line why it waits, or who takes its room; it changes only when something that matters does.
    `pods`: what is added to the pod of each worker that is still to be made, by index; None: nothing to any.
    `timeout`: how many seconds after they were made all pods must have a node; None: for ever.
    `asked`: whether anybody has been asked yet: nobody is while pods of another attempt end, or the pause before this one lasts.
    `preempting`: jobs (namespace/name) that are told to make room for this one.
    """

    state: State
    reason: str = ""
    pods: Mapping[int, Object] | None = None
    timeout: float | None = None
    asked: bool = True
    preempting: tuple[str, ...] = ()

    def covers(self, indices: Iterable[int]) -> bool:
        """Whether it says what these workers' pods are to be like."""
        return self.pods is None or all(index in self.pods for index in indices)

    def added_to(self, pod: Object, index: int) -> Object:
        """A worker's pod with what the provider adds to it."""
        return pod if self.pods is None else merged(pod, self.pods[index])


UNGATED = Admission(state=State.ADMITTED)
"""Of a job whose pods are made at once and left to the cluster's scheduler."""
UNDECIDED = Admission(state=State.UNDECIDED)


class Provider(Protocol):
    """Decides for some jobs. When it has another answer for one, it sees to it that the job is looked at again."""

    def answer(self, job: TrainingJob) -> Admission:
        """What is to become of the job, as far as is known now."""
        ...

    def refused(self, job: TrainingJob, why: str) -> None:
        """The API server would not take the pods of a job that was admitted."""
        ...


def merged(pod: Object, addition: Mapping[str, Any]) -> Object:
    """A pod with more in it: objects are merged, lists made longer, all else is replaced."""
    result = dict(pod)
    for key, value in addition.items():
        there = result.get(key)
        if isinstance(there, dict) and isinstance(value, Mapping):
            result[key] = merged(there, value)
        elif isinstance(there, list) and isinstance(value, list):
            result[key] = [*there, *value]
        else:
            result[key] = value
    return result
