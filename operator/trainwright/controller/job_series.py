"""What the operator says of each job, made at each scrape from what the jobs' status says: nothing is kept beside it.

So the series of a job outlive its pods and the operator's restarts, are there for a job that was shorter than the time between
two scrapes, and vanish with the job.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from trainwright.api.errors import InvalidSpec
from trainwright.api.job import TrainingJob, parse
from trainwright.api.spec import FrameworkName, TrainingJobSpec
from trainwright.api.status import Phase
from trainwright.cluster.port import Object
from trainwright.controller.metrics import Declared
from trainwright.controller.status_series import Table, Values, families
from trainwright.observe.times import seconds
from trainwright.plan.accounting import cost, goodput, gpu_hours, held_so_far, so_far
from trainwright.plan.prices import Prices

MAX_JOBS = 2000
"""Jobs with series of their own; of more, those that ended longest ago have none."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One job at the time of a scrape (`now`: seconds since the epoch)."""

    job: TrainingJob
    now: float
    prices: Prices | None


_TABLE: Table[Seen] = Table("job")
_metric, _plain = _TABLE.metric, _TABLE.plain


def _workers(seen: Seen) -> Values:
    counts = seen.job.status.workers
    if counts is None:
        return []
    states = {"pending": counts.pending, "running": counts.running, "succeeded": counts.succeeded, "failed": counts.failed}
    return [((state,), count) for state, count in states.items()]


def _spent(seen: Seen) -> Values:
    spent = so_far(seen.job.status, seen.now)
    return [
        (("queued",), spent.queued_seconds),
        (("starting",), spent.starting_seconds),
        (("productive",), spent.productive_seconds),
        (("lost",), spent.lost_seconds),
        (("suspended",), spent.suspended_seconds),
    ]


def _restarts(seen: Seen) -> Values:
    return [((cause,), count) for cause, count in seen.job.status.restarts.by_cause.items()]


def _cost(seen: Seen) -> Values:
    if seen.prices is None:
        return []
    return [((seen.prices.currency,), cost(seen.job.spec, held_so_far(seen.job.status, seen.now), seen.prices))]


def _goodput(seen: Seen) -> float | None:
    percent = goodput(so_far(seen.job.status, seen.now))
    return None if percent is None else percent / 100


def _progress(field: str, scale: float = 1.0) -> Callable[[Seen], float | None]:
    def value(seen: Seen) -> float | None:
        found = getattr(seen.job.status.progress, field, None)
        return None if found is None else found * scale

    return value


JOB_METRICS = (
    _metric(
        "phase",
        "1 for the phase that a job is in: Queued, Starting, Running, Restarting, Suspended, Succeeded or Failed.",
        lambda seen: [((phase.value,), 1.0)] if (phase := seen.job.status.phase) else [],
        "phase",
    ),
    _plain(
        "phase_start_timestamp_seconds", "When the job came into its phase.", lambda seen: seconds(seen.job.status.phase_since)
    ),
    _plain("created_timestamp_seconds", "When the job was created.", lambda seen: seconds(seen.job.created)),
    _plain("gpus", "GPUs that the whole gang asks for.", lambda seen: seen.job.spec.workers * seen.job.spec.resources.gpus),
    _metric("workers", "Workers of the current attempt: pending, running, succeeded or failed.", _workers, "state"),
    _plain("wanted_workers", "Workers that the gang needs.", lambda seen: seen.job.spec.workers),
    _plain("step", "Optimizer steps done.", _progress("step")),
    _plain("target_steps", "Optimizer steps in all, when known.", _progress("total_steps")),
    _plain("progress_ratio", "Steps done of all.", _progress("percent", 0.01)),
    _plain("remaining_seconds", "Estimated time to the end.", _progress("eta_seconds")),
    _plain("samples_per_second", "Samples of all workers in a second.", _progress("samples_per_second")),
    _metric(
        "metric",
        "Latest value of each metric that the trainer reports, by its name: at most 32.",
        lambda seen: [((name,), value) for name, value in (seen.job.status.metrics or {}).items()],
        "name",
    ),
    _plain(
        "checkpoint_step",
        "Step of the newest complete checkpoint.",
        lambda seen: saved.step if (saved := seen.job.status.checkpoint) else None,
    ),
    _plain(
        "checkpoint_timestamp_seconds",
        "When the newest checkpoint was complete.",
        lambda seen: seconds(saved.time) if (saved := seen.job.status.checkpoint) else None,
    ),
    _plain("attempt", "The gang's current attempt, from 1.", lambda seen: seen.job.status.attempt),
    _metric("restarts_total", "Times that the gang was started anew, by what failed first.", _restarts, "cause", kind="counter"),
    _metric("spent_seconds", "Where the job's time went: queued, starting, productive, lost or suspended.", _spent, "state"),
    _plain("goodput_ratio", "Productive share of the job's time, suspension left out.", _goodput),
    _plain(
        "gpu_seconds_total",
        "Seconds of GPUs that the gang has held.",
        lambda seen: gpu_hours(seen.job.spec, held_so_far(seen.job.status, seen.now)) * 3600,
        kind="counter",
    ),
    _metric("cost_total", "What the job has cost, if the operator has a price table.", _cost, "currency", kind="counter"),
)
JOBS = Declared(name="trainwright_jobs", kind="gauge", help="Training jobs, by phase.", labels=("phase",))
LEFT_OUT = Declared(
    name="trainwright_jobs_without_series", kind="gauge", help=f"Jobs without series of their own, which {MAX_JOBS} at most have."
)


class JobSeries(Collector):
    """Reads `jobs` at each scrape."""

    def __init__(
        self,
        jobs: Callable[[], list[Object]],
        *,
        prices: Prices | None = None,
        max_jobs: int = MAX_JOBS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._jobs = jobs
        self._prices = prices
        self._max_jobs = max_jobs
        self._clock = clock
        self._read: dict[str, tuple[str, TrainingJob]] = {}

    def collect(self) -> Iterator[Metric]:
        now = self._clock()
        jobs = self._parsed()
        phases = Counter(job.status.phase for job in jobs)
        by_phase = GaugeMetricFamily(JOBS.name, JOBS.help, labels=JOBS.labels)
        for phase in Phase:
            by_phase.add_metric([phase.value], phases[phase])
        yield by_phase
        shown = sorted(jobs, key=lambda job: (job.status.finished, _before(job.status.completion_time)))[: self._max_jobs]
        yield GaugeMetricFamily(LEFT_OUT.name, LEFT_OUT.help, value=len(jobs) - len(shown))
        seen = [(job.namespace, job.name, Seen(job=job, now=now, prices=self._prices)) for job in shown]
        yield from families(JOB_METRICS, seen)

    def _parsed(self) -> list[TrainingJob]:
        """The jobs, each parsed once for each of its versions."""
        fresh: dict[str, tuple[str, TrainingJob]] = {}
        for raw in self._jobs():
            uid, version = raw["metadata"].get("uid", ""), raw["metadata"].get("resourceVersion", "")
            known = self._read.get(uid)
            fresh[uid] = known if known is not None and known[0] == version else (version, _parse(raw))
        self._read = fresh
        return [job for _, job in fresh.values()]


def _parse(raw: Object) -> TrainingJob:
    try:
        return parse(raw)
    except InvalidSpec:
        # It has a phase all the same, and its status says what is wrong.
        return TrainingJob.of(raw, TrainingJobSpec(framework=FrameworkName.NONE))


def _before(time_text: str | None) -> float:
    """A key that sorts the newest first."""
    return -(seconds(time_text) or 0.0)
