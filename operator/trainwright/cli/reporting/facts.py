"""What a report says of a job, as plain facts: of its object, its events, and what was measured. No clock, no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from trainwright.api.job import read_status
from trainwright.api.reasons import Reason
from trainwright.api.spec import TrainingJobSpec
from trainwright.api.status import LastRestart, Phase, TimeSpent, TrainingJobStatus
from trainwright.cluster.port import Object
from trainwright.observe.times import seconds
from trainwright.plan.accounting import goodput, gpu_hours, held_so_far, so_far

FAILURES = (
    Reason.WORKER_FAILED,
    Reason.INFRASTRUCTURE,
    Reason.IGNORED,
    Reason.BACKOFF_LIMIT_EXCEEDED,
    Reason.NOT_RETRYABLE,
    Reason.DEADLINE_EXCEEDED,
)
"""Reasons of events that tell of the end of an attempt."""
_WORKER = re.compile(r"-worker-(\d+)$")


@dataclass(frozen=True, kw_only=True)
class Straggler:
    """The slowest rank. `ratio`: its own time of a step as a multiple of the others' median; `extra`: what it needs more, in
    seconds a step.
    """

    rank: str
    ratio: float
    extra: float


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What was measured of the steps of all ranks and attempts; None for what was not.

    `seconds`: in steps, a rank on average; `mean`: of one step. Shares are of the steps' time, 0 to 1. `startup`: seconds from
    the start of the process to its first step, by part, of the slowest rank in the latest attempt; `startups`: the whole of it,
    for each attempt that isn't lost as a whole.
    """

    seconds: float | None = None
    mean: float | None = None
    data_share: float | None = None
    checkpoint_share: float | None = None
    straggler: Straggler | None = None
    startup: Mapping[str, float] = field(default_factory=dict)
    startups: Sequence[float] = ()
    losses_not_finite: int = 0
    currency: str = ""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One job at `now`. Times: seconds since the epoch; durations in seconds; `goodput` in percent."""

    namespace: str
    name: str
    framework: str
    workers: int
    gpus: int
    now: float
    created: float
    status: TrainingJobStatus
    spent: TimeSpent
    goodput: float | None
    gpu_hours: float | None
    cost: float | None
    steps: Steps = field(default_factory=Steps)

    @property
    def phase(self) -> Phase | None:
        return self.status.phase

    @property
    def end(self) -> float:
        """When the job ended, or now."""
        return (seconds(self.status.completion_time) or self.now) if self.status.finished else self.now

    @property
    def length(self) -> float:
        return max(0.0, self.end - self.created)

    @property
    def ran(self) -> bool:
        """Whether all workers have run at some time."""
        return self.status.start_time is not None or bool(self.spent.productive_seconds or self.spent.lost_seconds)

    @property
    def main_metric(self) -> str | None:
        """Name of the metric that matters most."""
        return (self.status.main_metric or "").partition("=")[0] or None


def facts_of(raw: Object, *, now: float, steps: Steps | None = None) -> Facts:
    """The facts of a job as the API has it."""
    status, metadata, spec = read_status(raw), raw["metadata"], _spec(raw)
    spent, held = so_far(status, now), held_so_far(status, now)
    gpus = spec.workers * spec.resources.gpus if spec else 0
    cost = status.cost
    if cost is not None and status.held_seconds:
        # What status says of cost ends with the phase before; the price of an hour hasn't changed since.
        cost *= held / status.held_seconds
    return Facts(
        namespace=metadata.get("namespace", "default"),
        name=metadata["name"],
        framework=str(raw["spec"].get("framework", "")),
        workers=int(raw["spec"].get("workers", 1)),
        gpus=gpus,
        now=now,
        created=seconds(metadata.get("creationTimestamp")) or now,
        status=status,
        spent=spent,
        goodput=goodput(spent) if status.phase else None,
        gpu_hours=gpu_hours(spec, held) if spec and gpus else None,
        cost=cost,
        steps=steps or Steps(),
    )


def _spec(raw: Object) -> TrainingJobSpec | None:
    """The typed spec; None for one of a newer version."""
    try:
        return TrainingJobSpec.model_validate(raw["spec"])
    except ValidationError:
        return None


def who_failed(last: LastRestart) -> str:
    """`attempt 1, worker 1, killed by signal 9`: the rank where the launcher could tell, else the worker."""
    worker = _WORKER.search(last.pod)
    who = f"rank {last.rank}" if last.rank is not None else f"worker {worker[1]}" if worker else last.pod
    return f"attempt {last.attempt}, {who}, {how_failed(last)}"


def how_failed(last: LastRestart) -> str:
    """`killed by signal 9`, `exit code 3`, `NodeLost`."""
    if last.cause in ("Error", "Killed"):
        if last.signal:
            return f"killed by signal {last.signal}"
        if last.exit_code is not None:
            return f"exit code {last.exit_code}"
    return last.cause


def failures(events: Iterable[Mapping[str, Any]]) -> list[tuple[float, str]]:
    """Time and first line of the events that tell of failures, in order."""
    found = []
    for event in events:
        at = seconds(event.get("lastTimestamp") or event.get("firstTimestamp"))
        if at is not None and event.get("reason") in FAILURES:
            found.append((at, "".join((event.get("message") or "").splitlines()[:1])))
    return sorted(found)
