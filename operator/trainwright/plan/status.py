"""How a status is put together: counts, progress and conditions, each from what is observed and what was said before."""

from __future__ import annotations

from trainwright.api.job import TrainingJob
from trainwright.api.reasons import Reason
from trainwright.api.status import Condition, ConditionType, Phase, Progress, SavedCheckpoint, TrainingJobStatus, WorkerCounts
from trainwright.observe.observed import Observed
from trainwright.observe.progress import TrainingProgress, read_final_words
from trainwright.observe.times import rfc3339
from trainwright.observe.workers import Worker, WorkerState
from trainwright.plan.conditions import conditions_after

Saying = tuple[ConditionType, bool, Reason, str]


def counts(job: TrainingJob, workers: list[Worker]) -> WorkerCounts:
    """A worker whose pod is still to be created counts as pending."""
    of = {state: sum(worker.state is state for worker in workers) for state in WorkerState}
    up = of[WorkerState.RUNNING] + of[WorkerState.SUCCEEDED]
    desired = job.spec.workers
    return WorkerCounts(
        desired=desired,
        pending=desired - up - of[WorkerState.FAILED],
        running=of[WorkerState.RUNNING],
        succeeded=of[WorkerState.SUCCEEDED],
        failed=of[WorkerState.FAILED],
        ready=f"{up}/{desired}",
    )


def with_progress(status: TrainingJobStatus, observed: Observed, attempt: int) -> TrainingJobStatus:
    """Take over what rank 0 says; its last words, once it has ended, before what was heard of it while it ran.

    One that was asked to stop has saved on its way out, and may be gone by now, or its job be at the next attempt already.
    """
    workers = observed.of(attempt)
    of = attempt if workers else max((one.attempt for one in (*observed.workers, *observed.departed)), default=attempt)
    ended = (one for one in (*observed.workers, *observed.departed) if one.index == 0 and one.attempt == of and one.final_words)
    final = next((read_final_words(one.final_words) for one in ended), None)
    heard = observed.progress if workers else None
    said = final if final is not None and final.step is not None else heard
    saved = max((one for one in (said, final) if one is not None), key=_saved_at, default=None)
    update: dict[str, object] = {}
    # A new attempt has nothing to say of steps until it has loaded its checkpoint; until then the last word stands.
    if said is not None and said.step is not None:
        update["progress"] = Progress(
            step=said.step,
            total_steps=said.total_steps,
            epoch=said.epoch,
            percent=said.percent,
            eta_seconds=said.eta_seconds,
            samples_per_second=said.samples_per_second,
            straggler=said.straggler,
            resumed_from=said.resumed_from,
            summary=said.summary,
        )
    if said is not None and said.metrics:
        update |= {"metrics": said.metrics, "main_metric": said.main}
    if saved is not None and saved.checkpoint_step is not None:
        update["checkpoint"] = _saved(saved)
    return status.model_copy(update=update)


def _saved_at(said: TrainingProgress) -> int:
    return -1 if said.checkpoint_step is None else said.checkpoint_step


def _saved(said: TrainingProgress) -> SavedCheckpoint:
    time = rfc3339(said.checkpoint_time) if said.checkpoint_time else None
    return SavedCheckpoint(step=said.checkpoint_step or 0, time=time, path=said.checkpoint_path)


def with_conditions(status: TrainingJobStatus, job: TrainingJob, now: float, *sayings: Saying) -> TrainingJobStatus:
    """Say things of the job; the time of a condition moves only when its status does."""
    conditions = conditions_after(
        status.conditions, sayings, make=Condition, order=ConditionType, generation=job.generation, now=now
    )
    return status.model_copy(update={"conditions": conditions, "observed_generation": job.generation})


def concluded(
    status: TrainingJobStatus, job: TrainingJob, now: float, *, phase: Phase, reason: Reason, message: str
) -> TrainingJobStatus:
    """The status of a job that ends here, as Succeeded or Failed."""
    end = ConditionType.SUCCEEDED if phase is Phase.SUCCEEDED else ConditionType.FAILED
    status = status.model_copy(update={"phase": phase, "reason": message, "completion_time": rfc3339(now)})
    return with_conditions(
        status,
        job,
        now,
        *not_queued(status, reason, message),
        (ConditionType.RUNNING, False, reason, message),
        (ConditionType.RESTARTING, False, reason, message),
        (end, True, reason, message),
    )


def not_queued(status: TrainingJobStatus, reason: Reason, message: str) -> tuple[Saying, ...]:
    """What is said of a job that waits for admission no more, for another reason than that it has it."""
    return ((ConditionType.QUEUED, False, reason, message),) if is_true(status, ConditionType.QUEUED) else ()


def is_true(status: TrainingJobStatus, kind: ConditionType) -> bool:
    condition = status.condition(kind)
    return condition is not None and condition.status == "True"
