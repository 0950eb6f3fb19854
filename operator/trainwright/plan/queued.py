"""Waiting for admission, and going back to it: no pod is made before a gang is admitted, and none of one that isn't stays.

Going back is another attempt. It is written down before the first pod is stopped, as a suspend is: any operator finds it there.
"""

from __future__ import annotations

import zlib

from trainwright.api.causes import Cause
from trainwright.api.job import TrainingJob
from trainwright.api.names import pod_name
from trainwright.api.reasons import Reason
from trainwright.api.status import ConditionType, LastRestart, Phase, TrainingJobStatus
from trainwright.observe.times import rfc3339
from trainwright.observe.workers import Worker
from trainwright.plan.status import Saying, is_true, with_conditions
from trainwright.plan.types import Deletion, Event, Plan
from trainwright.schedulers.base import Admission, State

NAMED = 3
"""How many jobs a message names."""
WENT_BACK = (Reason.PREEMPTED, Reason.SCHEDULE_TIMEOUT, Reason.NO_LONGER_FITS)


def waiting(job: TrainingJob, status: TrainingJobStatus, admission: Admission, stale: tuple[Deletion, ...], now: float) -> Plan:
    """Nothing is made; what is left of earlier attempts goes. Of what nobody has decided yet nothing is said."""
    if admission.state is State.UNDECIDED:
        return Plan(status=job.status, delete=stale)
    before = job.status.condition(ConditionType.QUEUED)
    reason, message = Reason.WAITS_FOR_ROOM, "its pods are made when all of them fit"
    if admission.preempting:
        others = len(admission.preempting) - NAMED
        named = f"{', '.join(admission.preempting[:NAMED])}{f' and {others} more' if others > 0 else ''}"
        reason, message = Reason.PREEMPTING, f"make room for it: {named}"
    elif before is not None and is_true(job.status, ConditionType.QUEUED) and before.reason in WENT_BACK:
        # Why it went back is said until it runs again.
        reason, message = Reason(before.reason), before.message
    line = f"{message}; {admission.reason}" if reason in WENT_BACK else admission.reason
    status = status.model_copy(update={"phase": Phase.QUEUED, "reason": line})
    status = with_conditions(status, job, now, (ConditionType.QUEUED, True, reason, message))
    if reason is not Reason.PREEMPTING or (before is not None and before.message == message):
        return Plan(status=status, delete=stale)
    key = f"preempting-{job.attempt}-{zlib.crc32(message.encode()):08x}"
    return Plan(status=status, delete=stale, events=(Event(reason=reason, message=message, key=key),))


def admitted(job: TrainingJob, admission: Admission) -> tuple[Saying, ...]:
    """What is said of a gang that has its room. Of one that nobody holds back nothing is."""
    if admission.pods is None and job.status.condition(ConditionType.QUEUED) is None:
        return ()
    return ((ConditionType.QUEUED, False, Reason.ADMITTED, "its pods may be made"),)


def going_back(
    job: TrainingJob, status: TrainingJobStatus, workers: list[Worker], admission: Admission, now: float
) -> Plan | None:
    """The way back to the queue, for a gang that has to take it: its room goes to another, or it can't be whole in time."""
    attempt, desired = f"attempt {job.attempt}", job.spec.workers
    unbound = [worker for worker in workers if not worker.scheduled and not worker.ended]
    if admission.state is State.PREEMPTED:
        message = f"{attempt} {admission.reason}"
        return _back(job, _counted(job, status, message, now), Reason.PREEMPTED, message, now)
    if admission.state is State.WAITING and 0 < len(workers) < desired:
        message = f"{attempt}: {len(workers)} of {desired} workers were made, and the others can't be"
        return _back(job, status, Reason.NO_LONGER_FITS, message, now)
    left = time_left(workers, admission, now)
    if unbound and left is not None and left <= 0:
        why = next((f" ({worker.waiting})" for worker in unbound if worker.waiting), "")
        message = f"{attempt}: {len(unbound)} of {desired} workers had no node after {admission.timeout:.0f} s{why}"
        return _back(job, status, Reason.SCHEDULE_TIMEOUT, message, now)
    return None


def time_left(workers: list[Worker], admission: Admission, now: float) -> float | None:
    """Seconds until all pods must have a node; None when they have, or may wait for ever."""
    if admission.timeout is None or all(worker.scheduled or worker.ended for worker in workers):
        return None
    return min(worker.created for worker in workers) + admission.timeout - now


def went_back(job: TrainingJob) -> bool:
    """Whether its pods were running well when they were told to go: what they are doing is saving."""
    condition = job.status.condition(ConditionType.QUEUED)
    return condition is not None and condition.status == "True" and condition.reason in WENT_BACK


def _counted(job: TrainingJob, status: TrainingJobStatus, message: str, now: float) -> TrainingJobStatus:
    """A preemption is a restart that the job had no part in."""
    cause, restarts = Cause.PREEMPTED.value, status.restarts
    last = LastRestart(
        time=rfc3339(now), attempt=job.attempt, cause=cause, pod=pod_name(job.name, job.attempt, 0), evidence=message
    )
    update = {
        "infrastructure": restarts.infrastructure + 1,
        "total": restarts.total + 1,
        "by_cause": {**restarts.by_cause, cause: restarts.by_cause.get(cause, 0) + 1},
        "last": last,
    }
    return status.model_copy(update={"restarts": restarts.model_copy(update=update)})


def _back(job: TrainingJob, status: TrainingJobStatus, reason: Reason, message: str, now: float) -> Plan:
    attempt = job.attempt + 1
    status = status.model_copy(update={"phase": Phase.QUEUED, "reason": message, "attempt": attempt})
    status = with_conditions(
        status,
        job,
        now,
        (ConditionType.CREATED, False, Reason.GANG_INCOMPLETE, f"attempt {attempt} is still to be created"),
        (ConditionType.QUEUED, True, reason, message),
        (ConditionType.RUNNING, False, reason, message),
        (ConditionType.RESTARTING, False, reason, message),
    )
    return Plan(status=status, events=(Event(reason=reason, message=message, key=f"back-{job.attempt}"),))
