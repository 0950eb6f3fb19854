"""How a status is put together: counts, progress and conditions, each from what is observed and what was said before."""

from __future__ import annotations

from trainwright.api.job import TrainingJob
from trainwright.api.reasons import Reason
from trainwright.api.status import Condition, ConditionType, Phase, Progress, SavedCheckpoint, TrainingJobStatus, WorkerCounts
from trainwright.observe.observed import Observed
from trainwright.observe.progress import TrainingProgress, read_final_words
from trainwright.observe.times import rfc3339
from trainwright.observe.workers import Worker, WorkerState

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


def with_progress(status: TrainingJobStatus, observed: Observed, workers: list[Worker]) -> TrainingJobStatus:
    """Take over what rank 0 says; its last words, once it has succeeded, before what was heard of it while it ran."""
    final = next((read_final_words(worker.final_words) for worker in workers if worker.index == 0 and worker.final_words), None)
    said = final or observed.progress
    if said is None:
        return status
    update: dict[str, object] = {}
    # A new attempt has nothing to say of steps until it has loaded its checkpoint; until then the last word stands.
    if said.step is not None:
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
    if said.metrics:
        update |= {"metrics": said.metrics, "main_metric": said.main}
    if said.checkpoint_step is not None:
        update["checkpoint"] = _saved(said)
    return status.model_copy(update=update)


def _saved(said: TrainingProgress) -> SavedCheckpoint:
    time = rfc3339(said.checkpoint_time) if said.checkpoint_time else None
    return SavedCheckpoint(step=said.checkpoint_step or 0, time=time, path=said.checkpoint_path)


def with_conditions(status: TrainingJobStatus, job: TrainingJob, now: float, *sayings: Saying) -> TrainingJobStatus:
    """Say things of the job; the time of a condition moves only when its status does."""
    conditions = {condition.type: condition for condition in status.conditions}
    for kind, true, reason, message in sayings:
        old = conditions.get(kind)
        word = "True" if true else "False"
        moved = old is None or old.status != word
        conditions[kind] = Condition(
            type=kind,
            status=word,
            reason=reason.value,
            message=message,
            last_transition_time=rfc3339(now) if moved or old is None else old.last_transition_time,
            observed_generation=job.generation,
        )
    ordered = [conditions[kind] for kind in ConditionType if kind in conditions]
    return status.model_copy(update={"conditions": ordered, "observed_generation": job.generation})


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
        (ConditionType.RUNNING, False, reason, message),
        (ConditionType.RESTARTING, False, reason, message),
        (end, True, reason, message),
    )


def is_true(status: TrainingJobStatus, kind: ConditionType) -> bool:
    condition = status.condition(kind)
    return condition is not None and condition.status == "True"
