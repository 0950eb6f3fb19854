"""How long a gang waits before it is started anew: at once after the first failure, then ever longer."""

from __future__ import annotations

from trainwright.api.causes import Cause
from trainwright.api.job import TrainingJob
from trainwright.observe.times import seconds
from trainwright.plan.types import Settings


def delay(number: int, settings: Settings) -> float:
    """Seconds between the failure with this number, from 1, and the next attempt."""
    if number <= 1:
        return 0.0
    return min(settings.max_backoff, settings.backoff * 2.0 ** min(number - 2, 32))


def failures(job: TrainingJob) -> int:
    """Failures of the job's own so far, those included that a rule doesn't count: nothing restarts in a tight loop."""
    return job.status.restarts.total - job.status.restarts.infrastructure


def left(job: TrainingJob, now: float, settings: Settings) -> float:
    """Seconds until the job's next attempt may start; never more than the delay itself, however the clock jumps.

    What the job had no part in costs it no time.
    """
    last = job.status.restarts.last
    if last is None or Cause(last.cause).infrastructure:
        return 0.0
    pause = delay(failures(job), settings)
    return min(pause, max(0.0, (seconds(last.time) or 0.0) + pause - now))
