"""Limits of time: how long a job may be active, and how long it stays once it has ended."""

from __future__ import annotations

from trainwright.api.job import TrainingJob
from trainwright.api.reasons import Reason
from trainwright.api.status import Phase, TrainingJobStatus
from trainwright.observe.times import seconds
from trainwright.plan.status import concluded
from trainwright.plan.types import Event, Plan


def deadline_left(job: TrainingJob, now: float) -> float | None:
    """Seconds until activeDeadlineSeconds are over; None without such a limit."""
    limit, since = job.spec.run_policy.active_deadline_seconds, seconds(job.status.active_since)
    return None if limit is None or since is None else since + limit - now


def exceeded(job: TrainingJob, status: TrainingJobStatus, now: float) -> Plan:
    """The job fails; its pods get their own grace, so that what they trained is saved."""
    message = f"active for longer than activeDeadlineSeconds {job.spec.run_policy.active_deadline_seconds}"
    failed = concluded(status, job, now, phase=Phase.FAILED, reason=Reason.DEADLINE_EXCEEDED, message=message)
    return Plan(status=failed, events=(Event(reason=Reason.DEADLINE_EXCEEDED, message=message, key="failed"),))


def ttl_left(job: TrainingJob, now: float) -> float | None:
    """Seconds until a job that has ended is to be deleted; None when it stays."""
    ttl, ended = job.spec.run_policy.ttl_seconds_after_finished, seconds(job.status.completion_time)
    return None if ttl is None or ended is None else ended + ttl - now
