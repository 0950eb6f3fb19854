"""Where a job's time goes: each phase, as it ends, is added to a bucket of status.

Nothing is written while a phase lasts; whoever wants the time so far adds what has passed since `phaseSince`. Of the time
that ran before a failure, what came after the last checkpoint was lost, because it is trained again.
"""

from __future__ import annotations

from trainwright.api.job import TrainingJob
from trainwright.api.spec import TrainingJobSpec
from trainwright.api.status import Phase, TimeSpent, TrainingJobStatus
from trainwright.observe.times import rfc3339, seconds
from trainwright.plan.prices import Prices

_BUCKETS = {
    Phase.QUEUED: "queued_seconds",
    Phase.STARTING: "starting_seconds",
    Phase.RUNNING: "productive_seconds",
    Phase.RESTARTING: "lost_seconds",
    Phase.SUSPENDED: "suspended_seconds",
}
_HOLDING = (Phase.STARTING, Phase.RUNNING)


def accounted(job: TrainingJob, new: TrainingJobStatus, now: float, prices: Prices | None = None) -> TrainingJobStatus:
    """The job's new status with the old phase's time in its bucket, if the phase has changed."""
    old = job.status
    if new.phase is old.phase:
        return new
    spent = old.time or TimeSpent()
    if old.phase in _BUCKETS:
        # What was saved on the way out is in the new status.
        seen = old.model_copy(update={"checkpoint": new.checkpoint})
        spent = _with(spent, seen, failed=new.restarts.last != old.restarts.last, now=now)
    held = held_so_far(old, now)
    update = {"phase_since": rfc3339(now), "time": spent, "goodput": goodput(spent), "held_seconds": held}
    if job.spec.resources.gpus:
        update["gpu_hours"] = round(gpu_hours(job.spec, held), 4)
    if prices is not None:
        update["cost"] = round(cost(job.spec, held, prices), 4)
    return new.model_copy(update=update)


def so_far(status: TrainingJobStatus, now: float) -> TimeSpent:
    """The time spent up to now, the current phase included."""
    spent = status.time or TimeSpent()
    return _with(spent, status, failed=False, now=now) if status.phase in _BUCKETS else spent


def goodput(spent: TimeSpent) -> float | None:
    """Productive time of all time but suspension, in percent; None before any has passed."""
    total = spent.queued_seconds + spent.starting_seconds + spent.productive_seconds + spent.lost_seconds
    return round(100.0 * spent.productive_seconds / total, 1) if total else None


def held_so_far(status: TrainingJobStatus, now: float) -> int:
    """Seconds up to now in which the gang held its resources."""
    held = status.held_seconds or 0
    return held + _passed(status, now) if status.phase in _HOLDING else held


def gpu_hours(spec: TrainingJobSpec, held_seconds: int) -> float:
    """Hours of GPUs that the job's workers have held."""
    return held_seconds * spec.workers * spec.resources.gpus / 3600


def cost(spec: TrainingJobSpec, held_seconds: int, prices: Prices) -> float:
    """What the job has cost, in the table's currency."""
    return held_seconds * prices.hourly(spec) / 3600


def _with(spent: TimeSpent, status: TrainingJobStatus, *, failed: bool, now: float) -> TimeSpent:
    assert status.phase is not None  # noqa: S101 - both callers have looked it up
    passed = _passed(status, now)
    lost = 0
    if failed and status.phase is Phase.RUNNING:
        saved = seconds(status.checkpoint.time) if status.checkpoint else None
        lost = min(passed, max(0, int(now) - int(saved))) if saved is not None else passed
    bucket = _BUCKETS[status.phase]
    update = {bucket: getattr(spent, bucket) + passed - lost}
    if lost:
        update["lost_seconds"] = spent.lost_seconds + lost
    return spent.model_copy(update=update)


def _passed(status: TrainingJobStatus, now: float) -> int:
    since = seconds(status.phase_since)
    # A clock that jumped back, or a status that an older operator wrote, costs a wrong number and nothing else.
    return max(0, int(now) - int(since)) if since is not None else 0
