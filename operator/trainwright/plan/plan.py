"""The whole decision for one job, read from top to bottom: ended? done? suspended? too late? failed? admitted? Then bring it up.

`plan(job, observed, now)` is pure. Doing what it says and planning again gives an empty plan.
"""

from __future__ import annotations

from dataclasses import replace

from trainwright.api.job import TrainingJob
from trainwright.api.names import OPERATOR_NAME
from trainwright.api.reasons import Reason
from trainwright.api.status import ConditionType, Phase, TrainingJobStatus
from trainwright.observe.observed import Observed
from trainwright.observe.times import rfc3339
from trainwright.observe.workers import Worker, WorkerState
from trainwright.plan import backoff
from trainwright.plan.accounting import accounted
from trainwright.plan.children import wanted
from trainwright.plan.cleanup import finished_pods, in_the_way, stale_pods
from trainwright.plan.deadline import deadline_left, exceeded, ttl_left
from trainwright.plan.metadata import difference
from trainwright.plan.pods import worker_pod
from trainwright.plan.publish import with_model
from trainwright.plan.queued import admitted, going_back, time_left, waiting
from trainwright.plan.restart import after_failure, failures, undecided
from trainwright.plan.status import concluded, counts, is_true, with_conditions, with_progress
from trainwright.plan.suspend import resume, suspend
from trainwright.plan.types import Event, Plan, Settings
from trainwright.schedulers.base import UNGATED, Admission, State


def plan(job: TrainingJob, observed: Observed, now: float, settings: Settings, admission: Admission = UNGATED) -> Plan:
    """What to do for a job, given what is seen of it at `now` (seconds since the epoch), and whether its pods may be made."""
    decided = _decide(job, observed, now, settings, admission)
    status = accounted(job, decided.status, now, settings.prices)
    return replace(decided, status=with_model(job, status, observed, now))


def _decide(job: TrainingJob, observed: Observed, now: float, settings: Settings, admission: Admission) -> Plan:
    if job.deleting or job.spec.run_policy.managed_by not in (None, OPERATOR_NAME):
        return Plan(status=job.status)
    if job.status.finished:
        return _finished(job, observed, now)

    workers = observed.of(job.attempt)
    status = with_progress(job.status, observed, job.attempt)
    status = status.model_copy(update={"attempt": job.attempt, "workers": counts(job, workers)})
    if len(workers) == job.spec.workers and all(worker.state is WorkerState.SUCCEEDED for worker in workers):
        return _succeeded(job, status, now)

    if job.spec.run_policy.suspend:
        return suspend(job, status, observed, now)
    if job.status.phase is Phase.SUSPENDED:
        return resume(job, status, now)

    status = status.model_copy(update={"active_since": status.active_since or rfc3339(now)})
    left = deadline_left(job, now)
    if left is not None and left <= 0:
        return exceeded(job, status, now)
    decided = _advance(job, status, observed, now, settings, admission)
    wishes = [wish for wish in (decided.requeue_after, left) if wish is not None]
    return replace(decided, requeue_after=min(wishes, default=None))


def _advance(
    job: TrainingJob, status: TrainingJobStatus, observed: Observed, now: float, settings: Settings, admission: Admission
) -> Plan:
    """Failed? Back to the queue, or still in it? Otherwise bring the gang up."""
    workers = observed.of(job.attempt)
    if found := failures(job, observed, now, settings):
        if wait := undecided(found, workers, now, settings):
            return Plan(status=status, requeue_after=wait)
        status, event = after_failure(job, status, found, now)
        return Plan(status=status, events=(event,))

    if back := going_back(job, status, workers, admission, now):
        return back
    stale = stale_pods(job, observed, settings)
    present = {worker.index for worker in workers}
    missing = [index for index in range(job.spec.workers) if index not in present]
    lacks = bool(missing) and (admission.state is not State.ADMITTED or not admission.covers(missing))
    if lacks and admission.asked:
        return waiting(job, status, admission, stale, now)
    if blockers := in_the_way(job, observed, now, settings):
        reason = f"attempt {job.attempt} starts when {', '.join(worker.name for worker in blockers[:3])} has ended"
        phase = Phase.QUEUED if is_true(status, ConditionType.QUEUED) else Phase.RESTARTING
        status = status.model_copy(update={"phase": phase, "reason": reason})
        return Plan(status=status, delete=stale, requeue_after=1.0)
    if not workers and (pause := backoff.left(job, now, settings)) > 0:
        failures_so_far = backoff.failures(job)
        waits = backoff.delay(failures_so_far, settings)
        reason = f"attempt {job.attempt} starts {waits:.0f} s after failure {failures_so_far}"
        status = status.model_copy(update={"phase": Phase.RESTARTING, "reason": reason})
        return Plan(status=status, delete=stale, requeue_after=pause)

    if lacks:
        return waiting(job, status, admission, stale, now)
    make, apply = difference(wanted(job, settings), observed.children)
    status = _alive(job, status, workers, admission, now)
    limits = [_until_stuck(workers, now, settings), time_left(workers, admission, now)]
    return Plan(
        status=status,
        make=tuple(make),
        apply=tuple(apply),
        create=tuple(admission.added_to(worker_pod(job, index, settings), index) for index in missing),
        delete=stale,
        requeue_after=min((limit for limit in limits if limit is not None), default=None),
    )


def _until_stuck(workers: list[Worker], now: float, settings: Settings) -> float | None:
    """Seconds until a pod that is being deleted counts as stuck; nothing announces that."""
    waits = [worker.delete_by + settings.stuck_after - now for worker in workers if worker.delete_by and not worker.ended]
    return max(0.5, min(waits) + 0.5) if waits else None


def _finished(job: TrainingJob, observed: Observed, now: float) -> Plan:
    """Clean up, and when its time has come the job itself."""
    left = ttl_left(job, now)
    if left is not None and left <= 0:
        return Plan(status=job.status, delete_job=True)
    return Plan(status=job.status, delete=finished_pods(job, observed), requeue_after=left)


def _succeeded(job: TrainingJob, status: TrainingJobStatus, now: float) -> Plan:
    workers = "the worker" if job.spec.workers == 1 else f"all {job.spec.workers} workers"
    message = f"{workers} finished" + (f"; {status.main_metric}" if status.main_metric else "")
    status = concluded(status, job, now, phase=Phase.SUCCEEDED, reason=Reason.WORKERS_SUCCEEDED, message=message)
    return Plan(status=status, events=(Event(reason=Reason.WORKERS_SUCCEEDED, message=message, key="succeeded"),))


def _alive(
    job: TrainingJob, status: TrainingJobStatus, workers: list[Worker], admission: Admission, now: float
) -> TrainingJobStatus:
    """Queued, starting or running, from how far the slowest worker is.

    The pods that are missing are created in this very pass, so the gang is then created whole; a pass that can't
    do so says why instead (`trainwright.controller.reconcile`).
    """
    desired = job.spec.workers
    up = [worker for worker in workers if worker.state in (WorkerState.RUNNING, WorkerState.SUCCEEDED)]
    status = with_conditions(
        status,
        job,
        now,
        (ConditionType.CREATED, True, Reason.GANG_CREATED, f"attempt {job.attempt}: {_pods(desired)} created"),
        *admitted(job, admission),
    )
    if len(up) == desired:
        if not is_true(job.status, ConditionType.RUNNING):
            resumed = status.progress.resumed_from if status.progress else None
            message = f"attempt {job.attempt}: {_runs(desired)}" + (f", resumed from step {resumed}" if resumed else "")
            status = with_conditions(
                status,
                job,
                now,
                (ConditionType.RUNNING, True, Reason.WORKERS_RUNNING, message),
                (ConditionType.RESTARTING, False, Reason.RESTARTED, message),
            )
        update = {"phase": Phase.RUNNING, "reason": None, "start_time": status.start_time or rfc3339(now)}
        return status.model_copy(update=update)
    scheduled = all(worker.scheduled for worker in workers) and len(workers) == desired
    phase = Phase.STARTING if scheduled else Phase.QUEUED
    return status.model_copy(update={"phase": phase, "reason": _waiting(job, workers, admission, scheduled=scheduled)})


def _waiting(job: TrainingJob, workers: list[Worker], admission: Admission, *, scheduled: bool) -> str:
    """One line why the gang does not run yet; what a worker itself says of it comes first."""
    desired = job.spec.workers
    pending = [worker for worker in workers if worker.state is WorkerState.PENDING]
    prefix = f"attempt {job.attempt}: " if job.attempt > 1 else ""
    telling = next((worker for worker in pending if worker.waiting and not worker.scheduled), None) or next(
        (worker for worker in pending if worker.waiting), None
    )
    if telling:
        return (
            f"{prefix}{len(pending)} of {_pods(desired)} wait: {telling.waiting}" if desired > 1 else f"{prefix}{telling.waiting}"
        )
    if scheduled:
        return f"{prefix}{len(pending)} of {_pods(desired)} starting"
    if admission.reason:
        return f"{prefix}{admission.reason}"
    unscheduled = desired - sum(worker.scheduled for worker in workers)
    return f"{prefix}{unscheduled} of {_pods(desired)} not scheduled yet"


def _pods(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


def _runs(count: int) -> str:
    return "the worker runs" if count == 1 else f"all {count} workers run"
