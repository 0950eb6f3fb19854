"""What happens after a failure: another attempt of the whole gang, or the end of the job.

The decision is written to status before anything is deleted: the attempt counter and the evidence outlive an operator
that dies right after. Pods of the old attempt go in the next pass, because they no longer belong to the current one.
"""

from __future__ import annotations

from trainwright.api.causes import Cause
from trainwright.api.job import TrainingJob
from trainwright.api.names import pod_name
from trainwright.api.reasons import Reason
from trainwright.api.status import ConditionType, LastRestart, Phase, TrainingJobStatus
from trainwright.observe.failure import Failure, first_failure
from trainwright.observe.observed import Observed
from trainwright.observe.times import rfc3339
from trainwright.observe.workers import Worker
from trainwright.plan.advice import advice
from trainwright.plan.failure_policy import judge, rule_count
from trainwright.plan.status import concluded, is_true, with_conditions
from trainwright.plan.types import Event, Settings


def failures(job: TrainingJob, observed: Observed, now: float, settings: Settings) -> list[Failure]:
    """All failures of the current attempt. Once the gang was created whole, a pod that is missing has been deleted; one whose
    deletion nobody confirms is on a node that is lost.
    """
    workers = observed.of(job.attempt)
    found = [worker.failure for worker in workers if worker.failure is not None]
    found += [
        Failure(pod=worker.name, index=worker.index, cause=Cause.NODE_LOST, time=now, message=f"{worker.node} does not answer")
        for worker in workers
        if worker.failure is None and worker.stuck(now, settings.stuck_after)
    ]
    if is_true(job.status, ConditionType.CREATED):
        present = {worker.index for worker in workers}
        found += [_missing(job, observed, index, now) for index in range(job.spec.workers) if index not in present]
    return found


def _missing(job: TrainingJob, observed: Observed, index: int, now: float) -> Failure:
    """Why a pod is not there any more: what it last said, or the control plane of it, else that somebody deleted it."""
    name = pod_name(job.name, job.attempt, index)
    last = next((worker for worker in observed.departed if worker.name == name), None)
    if last is not None and last.failure is not None:
        return last.failure
    cause = (last.disruption if last is not None else None) or Cause.DELETED
    return Failure(pod=name, index=index, cause=cause, time=now)


def _mute(job: TrainingJob, found: list[Failure]) -> str:
    """Workers that don't say that a rank of theirs hangs, while others do: their launchers hang too, or their nodes."""
    told = {failure.index for failure in found}
    names = [pod_name(job.name, job.attempt, index) for index in range(job.spec.workers) if index not in told]
    return f"; {', '.join(names[:3])} said nothing at all" if names else ""


def undecided(found: list[Failure], workers: list[Worker], now: float, settings: Settings) -> float | None:
    """Seconds to wait for a better answer: so far there are only consequences, and the cause may still be reported; or ranks
    hang, and other workers are still writing down where theirs are.
    """
    first = first_failure(found)
    if first.cause not in (Cause.PEER_LOST, Cause.TERMINATED, Cause.HUNG) or all(worker.ended for worker in workers):
        return None
    left = min(first.time + settings.settle - now, settings.settle)
    return left if left > 0 else None


def after_failure(
    job: TrainingJob, status: TrainingJobStatus, found: list[Failure], now: float
) -> tuple[TrainingJobStatus, Event]:
    """The status that the failure leads to, and the event that tells of it."""
    first = first_failure(found)
    restarts = status.restarts
    last = LastRestart(
        time=rfc3339(now),
        attempt=job.attempt,
        cause=first.cause.value,
        pod=first.pod,
        rank=first.rank,
        exit_code=first.exit_code,
        signal=first.signal,
        evidence=first.evidence or first.message or None,
    )
    verdict = judge(job, first)
    said = f"{first}{advice(job, first)}"
    if not verdict.restart:
        message = f"{said}; {verdict.why}" if verdict.why else said
        return _failed(job, status, last, now, verdict.reason, message)
    counted = int(verdict.counted)
    reason = verdict.reason
    used = f" ({verdict.why})" if verdict.why else ""
    mute = _mute(job, found) if first.cause is Cause.HUNG else ""
    message = f"attempt {job.attempt}: {said}{mute}; restarting as attempt {job.attempt + 1}{used}"
    restarted = status.model_copy(
        update={
            "phase": Phase.RESTARTING,
            "reason": message,
            "attempt": job.attempt + 1,
            "restarts": restarts.model_copy(
                update={
                    "failure": restarts.failure + counted,
                    "infrastructure": restarts.infrastructure + int(verdict.reason is Reason.INFRASTRUCTURE),
                    "total": restarts.total + 1,
                    "by_cause": {**restarts.by_cause, first.cause.value: restarts.by_cause.get(first.cause.value, 0) + 1},
                    "by_rule": [
                        rule_count(job, index) + int(index == verdict.rule) for index in range(len(job.spec.failure_policy.rules))
                    ],
                    "last": last,
                }
            ),
        }
    )
    restarted = with_conditions(
        restarted,
        job,
        now,
        (ConditionType.CREATED, False, Reason.GANG_INCOMPLETE, f"attempt {job.attempt + 1} is still to be created"),
        (ConditionType.RUNNING, False, Reason.WORKERS_NOT_RUNNING, message),
        (ConditionType.RESTARTING, True, reason, message),
    )
    return restarted, Event(reason=reason, message=_with_evidence(message, last), key=f"attempt-{job.attempt}")


def _failed(
    job: TrainingJob, status: TrainingJobStatus, last: LastRestart, now: float, reason: Reason, message: str
) -> tuple[TrainingJobStatus, Event]:
    failed = status.model_copy(update={"restarts": status.restarts.model_copy(update={"last": last})})
    failed = concluded(failed, job, now, phase=Phase.FAILED, reason=reason, message=message)
    return failed, Event(reason=reason, message=_with_evidence(message, last), key="failed")


def _with_evidence(message: str, last: LastRestart) -> str:
    """An event's message has room for 1,024 bytes."""
    if not last.evidence:
        return message
    room = 1000 - len(message.encode())
    tail = last.evidence.encode()[-max(0, room) :].decode(errors="ignore")
    return f"{message}\n{tail}" if room > 80 else message
