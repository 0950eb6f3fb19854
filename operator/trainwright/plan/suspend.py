"""Suspending and resuming: a suspend is a checkpoint, then pods gone; a resume is another attempt that counts for nothing."""

from __future__ import annotations

from trainwright.api.job import TrainingJob
from trainwright.api.reasons import Reason
from trainwright.api.status import ConditionType, Phase, TrainingJobStatus
from trainwright.observe.observed import Observed
from trainwright.observe.times import rfc3339
from trainwright.plan.status import not_queued, with_conditions
from trainwright.plan.types import Deletion, Event, Plan


def suspend(job: TrainingJob, status: TrainingJobStatus, observed: Observed, now: float) -> Plan:
    """Stop every worker with its own grace, in which it saves; keep nothing running."""
    alive = [worker for worker in observed.workers if not worker.ended]
    reason = f"suspended; {len(alive)} workers save and end" if alive else "suspended"
    begins = job.status.phase is not Phase.SUSPENDED
    status = status.model_copy(update={"phase": Phase.SUSPENDED, "reason": reason, "active_since": None})
    status = with_conditions(
        status,
        job,
        now,
        *not_queued(status, Reason.SUSPENDED, "suspended"),
        (ConditionType.RUNNING, False, Reason.SUSPENDED, "suspended"),
        (ConditionType.RESTARTING, False, Reason.SUSPENDED, "suspended"),
        (ConditionType.SUSPENDED, True, Reason.SUSPENDED, "runPolicy.suspend is true"),
    )
    if begins:
        # Written down before the first pod is stopped: what then ends with 143 is no failure.
        event = Event(reason=Reason.SUSPENDED, message="workers save a checkpoint and end", key=f"suspended-{job.attempt}")
        return Plan(status=status, events=(event,))
    going = tuple(Deletion(name=worker.name, uid=worker.uid) for worker in observed.workers if not worker.deleting)
    return Plan(status=status, delete=going)


def resume(job: TrainingJob, status: TrainingJobStatus, now: float) -> Plan:
    """Go on: as the next attempt if there were pods before, so that none of them is taken for a new one."""
    had_pods = job.status.condition(ConditionType.CREATED) is not None
    attempt = job.attempt + 1 if had_pods else job.attempt
    status = status.model_copy(
        update={"phase": Phase.QUEUED, "reason": "resumed", "attempt": attempt, "active_since": rfc3339(now)}
    )
    sayings = [(ConditionType.SUSPENDED, False, Reason.RESUMED, "runPolicy.suspend is false")]
    if had_pods:
        sayings.append((ConditionType.CREATED, False, Reason.GANG_INCOMPLETE, f"attempt {attempt} is still to be created"))
    return Plan(
        status=with_conditions(status, job, now, *sayings),
        events=(Event(reason=Reason.RESUMED, message=f"goes on as attempt {attempt}", key=f"resumed-{attempt}"),),
    )
