"""Schedulers that are told of a gang by objects of their own kinds, and answer in these: what they have in common.

Such a provider says which API it needs, which objects a gang should have, and what the objects' status means for its pods.
Who calls it puts owner and labels on what it wants made, and does what it asks for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from trainwright.api.job import TrainingJob
from trainwright.api.names import ATTEMPT_LABEL
from trainwright.observe.workers import Worker, one_line
from trainwright.schedulers.base import Admission, Object, State

MAX_REASON = 300
"""Of another scheduler's words in a wait line."""


class Stage(StrEnum):
    """What has been decided for a job: its gang is wanted; or rests (suspended, preempted, between attempts); or has ended; or
    all of it is being deleted.
    """

    WANTED = "Wanted"
    RESTING = "Resting"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    GONE = "Gone"

    @property
    def ended(self) -> bool:
        return self in (Stage.SUCCEEDED, Stage.FAILED)


@dataclass(frozen=True)
class Read:
    """A kind of the whole cluster's that a provider reads, and that nobody here writes."""

    kind: str
    plural: str
    group: str
    version: str


@dataclass(frozen=True, kw_only=True)
class Api:
    """Kinds that a provider needs, with their plurals. `versions`: those that it knows, the best first; `reads`: of others."""

    group: str
    versions: tuple[str, ...]
    kinds: Mapping[str, str]
    reads: tuple[Read, ...] = ()

    def served(self, found: Mapping[str, Iterable[str]]) -> str | None:
        """The best version that has all kinds, of those that discovery has found."""
        return next((one for one in self.versions if set(self.kinds) <= set(found.get(one, ()))), None)

    def __str__(self) -> str:
        return f"{' and '.join(self.kinds)} of {' or '.join(f'{self.group}/{version}' for version in self.versions)}"


@dataclass(frozen=True, kw_only=True)
class Gang:
    """One job as a provider sees it. `version`: of its API; `objects`: of the provider's kinds, those that belong to the job;
    `others`: of the kinds that it reads, by kind and name.
    """

    job: TrainingJob
    version: str
    objects: tuple[Object, ...] = ()
    others: Mapping[tuple[str, str], Object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the current attempt's objects. Another attempt has other ones: what is left of one never counts for the next."""
        return f"{self.job.name}-a{self.job.attempt}"

    @property
    def size(self) -> int:
        return self.job.spec.workers

    @property
    def queue(self) -> str | None:
        return self.job.spec.run_policy.scheduling.queue

    @property
    def priority_class(self) -> str | None:
        return self.job.spec.run_policy.scheduling.priority_class or self.job.spec.placement.priority_class_name

    def object(self, kind: str, name: str) -> Object | None:
        return next((one for one in self.objects if (one["kind"], one["metadata"]["name"]) == (kind, name)), None)

    def read(self, kind: str, name: str) -> Object | None:
        return self.others.get((kind, name))

    def admitted(self, addition: Object, reason: str = "") -> Admission:
        """Every worker's pod may be made, with this in it."""
        return Admission(state=State.ADMITTED, reason=bounded(reason), pods=dict.fromkeys(range(self.size), addition))


@dataclass(frozen=True, kw_only=True)
class Pods:
    """`like`: a worker's pod as it would be made without a provider; `there`: the workers that there are, of all attempts; `at`:
    when they were looked at, in seconds since the epoch.
    """

    like: Object
    there: tuple[Worker, ...] = ()
    at: float = 0.0

    def live(self, attempt: str | None = None) -> bool:
        """Whether a worker of an attempt (None: of any) has not ended."""
        return any(not worker.ended and attempt in (None, str(worker.attempt)) for worker in self.there)

    def requests(self, count: int = 1) -> dict[str, str]:
        """What so many of them ask for. What is only limited is asked for, too, as the API server has it."""
        (container,) = self.like["spec"]["containers"]
        resources = container.get("resources", {})
        asked = {**resources.get("limits", {}), **resources.get("requests", {})}
        return {name: _times(quantity, count) for name, quantity in sorted(asked.items())}


@dataclass(frozen=True, kw_only=True)
class Patch:
    """A change of an object that is there: a merge patch of it or, with `status`, of its status."""

    object: Object
    body: Object
    status: bool = False


@dataclass(frozen=True, kw_only=True)
class Upkeep:
    """What is to be done with a provider's objects, in this order. Of `make` one follows the other in another pass."""

    make: tuple[Object, ...] = ()
    patch: tuple[Patch, ...] = ()
    remove: tuple[Object, ...] = ()


class Objects(Protocol):
    """A scheduler that is told by objects."""

    api: Api

    def answer(self, gang: Gang) -> Admission:
        """What the objects' status means for the gang's pods."""
        ...

    def upkeep(self, gang: Gang, stage: Stage, pods: Pods) -> Upkeep:
        """What is to be done with the objects. Done once and asked again, it is nothing."""
        ...


def by_attempt(gang: Gang, stage: Stage, pods: Pods, wanted: Iterable[Object]) -> Upkeep:
    """Upkeep of objects that each attempt has of its own. They go when the attempt's pods have ended: never while one may run.
    What is left when the job goes, goes with it.
    """
    if stage is Stage.GONE:
        return Upkeep()
    objects = [_of_attempt(one, gang.job.attempt) for one in wanted] if stage is Stage.WANTED else []
    names = {(one["kind"], one["metadata"]["name"]) for one in objects}
    missing = [one for one in objects if gang.object(one["kind"], one["metadata"]["name"]) is None]
    over = [
        one
        for one in gang.objects
        if (one["kind"], one["metadata"]["name"]) not in names
        and not is_going(one)
        and not pods.live(one["metadata"].get("labels", {}).get(ATTEMPT_LABEL))
    ]
    return Upkeep(make=tuple(missing), remove=tuple(over))


def waiting(gang: Gang, kind: str) -> Admission | None:
    """That the attempt's object of a kind isn't there yet, or is about to go; None when it is there."""
    found = gang.object(kind, gang.name)
    if found is None:
        return Admission(state=State.WAITING, reason=f"{kind} {gang.name} is being made", asked=False)
    if is_going(found):
        return Admission(state=State.WAITING, reason=f"{kind} {gang.name} is being deleted; another follows it")
    return None


def needs_queue(gang: Gang, provider: str) -> Admission | None:
    """That the job names no queue, and the provider can't do without: the operator's default may have chosen it."""
    if gang.queue:
        return None
    reason = f"spec.runPolicy.schedulingPolicy.queue is missing; {provider} takes no job without the name of a queue"
    return Admission(state=State.WAITING, reason=reason)


def condition(obj: Object, kind: str, field: str = "conditions") -> Object:
    """The condition of that type; empty when there is none."""
    found = (one for one in obj.get("status", {}).get(field) or [] if one.get("type") == kind)
    return dict(next(found, {}))


def holds(obj: Object, kind: str) -> bool:
    return bool(condition(obj, kind).get("status") == "True")


def said(found: Object) -> str:
    """A condition's own words, bounded."""
    return bounded(str(found.get("message") or found.get("reason") or ""))


def bounded(text: str) -> str:
    return one_line(text, MAX_REASON)


def is_going(obj: Object) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def unserved(provider: str, api: Api, there: Iterable[str]) -> Admission:
    """Why a job waits whose provider has no API in this cluster."""
    others = ", ".join(sorted(there)) or "none that is told by objects"
    reason = f"provider {provider} needs {api}, which this cluster doesn't serve; of the providers there are here: {others}"
    return Admission(state=State.WAITING, reason=reason)


def _of_attempt(obj: Object, attempt: int) -> Object:
    metadata = obj["metadata"]
    return {**obj, "metadata": {**metadata, "labels": {**metadata.get("labels", {}), ATTEMPT_LABEL: str(attempt)}}}


def _times(quantity: str, count: int) -> str:
    """Exact: `500m` twice is `1000m`."""
    number, unit = re.fullmatch(r"([0-9.]+)(.*)", quantity, re.DOTALL).groups()  # type: ignore[union-attr]
    whole, point, part = number.partition(".")
    scaled = int(whole + part) * count
    if not point:
        return f"{scaled}{unit}"
    digits = str(scaled).rjust(len(part) + 1, "0")
    return f"{digits[: -len(part)]}.{digits[-len(part) :]}{unit}" if part else f"{scaled}{unit}"
