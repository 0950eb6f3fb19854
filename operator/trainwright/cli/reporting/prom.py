"""What Prometheus kept of a job: lines over its life, its phases and attempts, and sums of its steps.

Data comes from `/api/v1/query_range` and `/api/v1/query`, and goes as plain lists to the page.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from yarl import URL

from trainwright.api.status import Phase
from trainwright.cli.reporting.facts import Facts, Steps, Straggler
from trainwright.cli.reporting.pictures import WANTED, Point
from trainwright.cli.reporting.timeline import Change

TIMEOUT_SECONDS = 15.0
POINTS = 240
"""Of a line: more is not seen."""
USUAL_INTERVAL = 30.0
"""Taken for the time between two scrapes where it can't be seen."""
LONG = 8
"""Checkpoints are averaged over such a part of the job's life."""
AT_ONCE = 8


class PrometheusError(Exception):
    """It doesn't answer, or refuses the question; the message says which, and names no credentials."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """`lines`: by title of the picture. `knows`: whether it has anything of the job at all, and of its workers."""

    lines: Mapping[str, Mapping[str, Sequence[Point]]] = field(default_factory=dict)
    changes: Sequence[Change] = ()
    attempts: Sequence[tuple[float, int]] = ()
    steps: Steps = field(default_factory=Steps)
    knows_job: bool = False
    knows_workers: bool = False


def plain(url: str) -> str:
    """An address as it may be shown: host and port, without scheme and password."""
    try:
        parsed = URL(url)
    except ValueError:
        return url
    return f"{parsed.host}:{parsed.port}" if parsed.host else url


async def kept(url: str, facts: Facts) -> Kept:
    """All that a report needs. Raises `PrometheusError`."""
    try:
        base = URL(url)
    except ValueError:
        base = URL()
    if base.scheme not in ("http", "https") or not base.host:
        raise PrometheusError(f"{url} is no address of a Prometheus; one looks like http://localhost:9090")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)) as session:
        return await _Asking(session, base, facts).all()


class _Asking:
    def __init__(self, session: aiohttp.ClientSession, base: URL, facts: Facts) -> None:
        self._session, self._base = session, base
        self._of = f'namespace="{facts.namespace}", job="{facts.name}"'
        self._begin, self._end = facts.created, facts.end
        self._now = facts.now
        self._attempt = facts.status.attempt or 1
        self._room = asyncio.Semaphore(AT_ONCE)
        self._step = self._window = 1.0

    async def all(self) -> Kept:
        often = await self._interval()
        # The last figures of a job that has ended are scraped after its end.
        self._end = min(self._now, self._end + 2 * often)
        self._step = max(1.0, often / 2, (self._end - self._begin) / POINTS)
        # Two scrapes make a rate, and one may be missed; a longer time would smear what happened.
        self._window = max(3 * often, 2 * self._step)
        lines, changes, attempts, steps, known = await asyncio.gather(
            self._lines(),
            self._changes(),
            self._attempts(),
            self._steps(),
            self._known(),
        )
        return Kept(
            lines=lines, changes=changes, attempts=attempts, steps=steps, knows_job=known[0] or known[1], knows_workers=known[1]
        )

    async def _interval(self) -> float:
        """Time between two scrapes of the operator, by the times of what they brought."""
        for moment in (self._end, self._end + 60):
            found = await self._instant("trainwright_job_created_timestamp_seconds{$of}[5m]", moment)
            times = [float(at) for at, _ in found[0]["values"]] if found else []
            if len(times) >= 3:
                return max(1.0, statistics.median(after - before for before, after in itertools.pairwise(times)))
        return USUAL_INTERVAL

    async def _lines(self) -> dict[str, dict[str, list[Point]]]:
        asked = [(wanted.title, expression, legend) for wanted in WANTED for expression, legend in wanted.queries]
        answers = await asyncio.gather(*(self._range(expression) for _, expression, _ in asked))
        lines: dict[str, dict[str, list[Point]]] = {}
        for (title, _, legend), series in zip(asked, answers, strict=True):
            for one in sorted(series, key=lambda one: _natural(one["metric"])):
                points = _points(one["values"])
                if points:
                    lines.setdefault(title, {})[_named(legend, one["metric"])] = points
        return lines

    async def _changes(self) -> list[Change]:
        """When the job came into each phase: the gauge says so itself, to the second."""
        start, phase = "max(trainwright_job_phase_start_timestamp_seconds{$of})", "max by (phase) (trainwright_job_phase{$of})"
        series = await self._range(f"{start} * on () group_right () {phase}")
        found = {
            (since, Phase(one["metric"]["phase"]))
            for one in series
            if one["metric"].get("phase") in list(Phase)
            for _, since in _points(one["values"])
        }
        return sorted(found)

    async def _attempts(self) -> list[tuple[float, int]]:
        series = await self._range("max(trainwright_job_attempt{$of})")
        seen: dict[int, float] = {}
        for at, value in _points(series[0]["values"]) if series else []:
            seen.setdefault(int(value), at)
        return [(at, attempt) for attempt, at in sorted(seen.items()) if attempt > 1]

    async def _steps(self) -> Steps:
        total, count, data, saved = await asyncio.gather(
            self._sum("step_seconds_sum"),
            self._sum("step_seconds_count"),
            self._sum("data_wait_seconds_total"),
            self._sum("checkpoint_blocked_seconds_total"),
        )
        own, ranks, startup, startups = await asyncio.gather(
            self._life("max by (rank) (avg_over_time(trainwright_own_step_seconds{$of}[$life]))"),
            self._life("count(count by (rank) (last_over_time(trainwright_step_seconds_sum{$of}[$life])))"),
            self._life("max by (part) (last_over_time(trainwright_startup_seconds{$of}[$life]))"),
            self._life("max by (attempt) (sum by (attempt, rank) (last_over_time(trainwright_startup_seconds{$of}[$life])))"),
        )
        saving = await self._life("max by (attempt) (last_over_time(trainwright_checkpoints_total{$of}[$life])) > 0")
        # An attempt that failed before its first checkpoint is trained again as a whole: its start is a part of what was lost.
        productive = {str(self._attempt), *(one["metric"].get("attempt") for one in saving)}
        broken, price = await asyncio.gather(
            self._life("max(max_over_time(trainwright_losses_not_finite_total{$of}[$life]))"),
            self._life("max by (currency) (last_over_time(trainwright_job_cost_total{$of}[$life]))"),
        )
        return Steps(
            seconds=total / _value(ranks[0]) if total and ranks else None,
            mean=total / count if total and count else None,
            data_share=data / total if total and data is not None else None,
            checkpoint_share=saved / total if total and saved is not None else None,
            straggler=straggler({one["metric"].get("rank", "?"): _value(one) for one in own}),
            startup={one["metric"].get("part", "?"): _value(one) for one in startup},
            startups=[_value(one) for one in startups if one["metric"].get("attempt") in productive],
            losses_not_finite=int(_value(broken[0])) if broken else 0,
            currency=price[0]["metric"].get("currency", "") if price else "",
        )

    async def _known(self) -> tuple[bool, bool]:
        job, workers = await asyncio.gather(
            self._life("last_over_time(trainwright_job_created_timestamp_seconds{$of}[$life])"),
            self._life("last_over_time(trainwright_heartbeat_timestamp_seconds{$of}[$life])"),
        )
        return bool(job), bool(workers)

    async def _sum(self, name: str) -> float | None:
        """A counter's sum over all ranks and attempts: each process has series of its own, which begin at 0."""
        found = await self._life(f"sum(last_over_time(trainwright_{name}{{$of}}[$life]))")
        return _value(found[0]) if found else None

    async def _life(self, expression: str) -> list[Any]:
        """An instant query over the job's life."""
        return await self._instant(expression.replace("$life", _seconds(self._end - self._begin)), self._end)

    async def _instant(self, expression: str, moment: float) -> list[Any]:
        return await self._ask("query", expression, {"time": f"{moment:.3f}"})

    async def _range(self, expression: str) -> list[Any]:
        times = {"start": f"{self._begin:.3f}", "end": f"{self._end:.3f}", "step": f"{self._step:.3f}"}
        return await self._ask("query_range", expression, times)

    async def _ask(self, what: str, expression: str, times: Mapping[str, str]) -> list[Any]:
        query = expression.replace("$of", self._of).replace("$window", _seconds(self._window))
        query = query.replace("$long", _seconds(max(self._window, (self._end - self._begin) / LONG)))
        url = self._base / "api/v1" / what
        status = 0
        try:
            async with self._room, self._session.post(url, data={"query": query, **times}) as answer:
                status = answer.status
                content: Any = await answer.json(content_type=None)
        except TimeoutError:
            raise PrometheusError(f"it did not answer within {TIMEOUT_SECONDS:.0f} s") from None
        except aiohttp.ClientError as error:
            raise PrometheusError(f"it can't be reached ({_reason(error)})") from None
        except ValueError:
            raise PrometheusError(f"what answers there is no Prometheus (HTTP {status})") from None
        if not isinstance(content, dict) or content.get("status") != "success":
            said = content.get("error") if isinstance(content, dict) else None
            raise PrometheusError(f"it refuses the question: {said or f'HTTP {status}'}")
        result: list[Any] = content["data"]["result"]
        return result


def straggler(own: Mapping[str, float]) -> Straggler | None:
    """The slowest of some ranks, by each one's own time of a step; None where there are no two to compare."""
    if len(own) < 2:
        return None
    slowest = max(own, key=lambda rank: own[rank])
    others = statistics.median(value for rank, value in own.items() if rank != slowest)
    if others <= 0:
        return None
    return Straggler(rank=slowest, ratio=own[slowest] / others, extra=own[slowest] - others)


def _points(values: Sequence[Any]) -> list[Point]:
    """Times and values; what is no number is a gap."""
    return [(float(at), number) for at, value in values if math.isfinite(number := float(value))]


def _seconds(amount: float) -> str:
    return f"{max(1, math.ceil(amount))}s"


def _value(series: Any) -> float:
    return float(series["value"][1])


def _named(legend: str, labels: Mapping[str, str]) -> str:
    for name, value in labels.items():
        legend = legend.replace(f"{{{name}}}", value)
    return legend


def _natural(labels: Mapping[str, str]) -> list[tuple[int, str]]:
    """Rank 10 comes after rank 2."""
    return [(len(value), value) if value.isdigit() else (0, value) for _, value in sorted(labels.items())]


def _reason(error: aiohttp.ClientError) -> str:
    number = getattr(getattr(error, "os_error", None), "errno", None)
    return os.strerror(number).lower() if number and number > 0 else type(error).__name__
