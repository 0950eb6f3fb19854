"""Which phase a job was in when, put together from all that tells of it: its status, its events, and Prometheus if there is one.

None of them is whole: status knows the first start and the last change, events are gone after an hour, and Prometheus doesn't see
a phase that is shorter than the time between two scrapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainwright.api.reasons import Reason
from trainwright.api.status import ConditionType, Phase
from trainwright.cli.reporting.facts import Facts, failures, who_failed
from trainwright.observe.times import seconds

Change = tuple[float, Phase]
"""When the job came into a phase."""
SAME_SECONDS = 3.0
"""Two sources that tell of one thing differ by less."""
_EVENTS = {
    Reason.SUSPENDED: Phase.SUSPENDED,
    Reason.RESUMED: Phase.QUEUED,
    Reason.WORKER_FAILED: Phase.RESTARTING,
    Reason.INFRASTRUCTURE: Phase.RESTARTING,
    Reason.IGNORED: Phase.RESTARTING,
}


@dataclass(frozen=True, kw_only=True)
class Span:
    """The job was in `phase` from `begin` to `end`, in seconds since the epoch."""

    phase: Phase
    begin: float
    end: float


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Something that happened: `label` in two words, `text` in one sentence."""

    at: float
    label: str
    text: str


def spans(facts: Facts, events: Iterable[Mapping[str, Any]], measured: Iterable[Change] = ()) -> list[Span]:
    """The phases one after the other, from the job's creation to its end or to now. `measured`: what Prometheus saw."""
    if facts.phase is None:
        return []
    known = _of_status(facts, events)
    seen = [change for change in measured if change[0] >= facts.created - SAME_SECONDS]
    changes = sorted([*known, *seen]) if seen else _with_ends_of_restarts(sorted(known))
    changes = [(at, phase) for at, phase in changes if not phase.finished and at <= facts.end]
    found: list[Span] = []
    for at, phase in ((max(at, facts.created), phase) for at, phase in changes):
        if found and found[-1].phase is phase:
            continue
        if found:
            found[-1] = Span(phase=found[-1].phase, begin=found[-1].begin, end=at)
        found.append(Span(phase=phase, begin=at, end=facts.end))
    return [span for span in found if span.end > span.begin]


def _of_status(facts: Facts, events: Iterable[Mapping[str, Any]]) -> list[Change]:
    status, spent = facts.status, facts.spent
    changes = [(facts.created, Phase.SUSPENDED if status.phase is Phase.SUSPENDED and not facts.ran else Phase.QUEUED)]
    started = seconds(status.start_time)
    if started is not None:
        changes.append((started, Phase.RUNNING))
        if spent.starting_seconds and not (spent.suspended_seconds or status.restarts.total):
            changes.append((max(facts.created, started - spent.starting_seconds), Phase.STARTING))
    for event in events:
        at = seconds(event.get("lastTimestamp") or event.get("firstTimestamp"))
        reason = event.get("reason")
        if at is not None and reason in _EVENTS:
            changes.append((at, _EVENTS[Reason(reason)]))
    last = status.restarts.last
    if status.restarts.total and last and (at := seconds(last.time)) is not None and status.phase is not Phase.FAILED:
        changes.append((at, Phase.RESTARTING))
    restarting = status.condition(ConditionType.RESTARTING)
    if restarting and restarting.status == "False":
        changes += [(at, Phase.RUNNING)] if (at := seconds(restarting.last_transition_time)) is not None else []
    if status.phase and (at := seconds(status.phase_since)) is not None:
        changes.append((at, status.phase))
    return changes


def _with_ends_of_restarts(changes: list[Change]) -> list[Change]:
    """Status knows when a restart was over only while its attempt runs; of others it is taken that they took a second."""
    found: list[Change] = []
    for at, phase in changes:
        if found and found[-1][1] is Phase.RESTARTING and (phase is Phase.RESTARTING or phase.finished):
            before = found[-1][0]
            if at - before > SAME_SECONDS:
                found.append((before + 1, Phase.RUNNING))
        found.append((at, phase))
    return found


def marks(facts: Facts, events: Iterable[Mapping[str, Any]], attempts: Iterable[tuple[float, int]] = ()) -> list[Mark]:
    """The failures, in order. `attempts`: when Prometheus first saw an attempt after the first."""
    found = [Mark(at=at, label=_label(text), text=text) for at, text in failures(events)]
    last = facts.status.restarts.last
    if last and (at := seconds(last.time)) is not None and not _near(at, found, SAME_SECONDS):
        found.append(Mark(at=at, label=f"attempt {last.attempt} failed", text=who_failed(last)))
    known = {mark.label for mark in found}
    for at, attempt in attempts:
        if f"attempt {attempt - 1} failed" not in known and not _near(at, found, 2 * SAME_SECONDS):
            found.append(
                Mark(at=at, label=f"attempt {attempt}", text="the gang was started anew; the event that said why is gone")
            )
    return sorted(found, key=lambda mark: mark.at)


def _label(message: str) -> str:
    attempt, colon, _ = message.partition(":")
    return f"{attempt} failed" if colon and attempt.startswith("attempt ") else "failed"


def _near(at: float, found: list[Mark], within: float) -> bool:
    return any(abs(mark.at - at) <= within for mark in found)
