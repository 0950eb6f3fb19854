"""A provider's objects as part of a pass: when they are wanted, and what a plan does with them."""

from __future__ import annotations

from dataclasses import replace

from trainwright.api.job import TrainingJob
from trainwright.api.names import OPERATOR_NAME
from trainwright.api.status import Phase
from trainwright.observe.observed import Observed
from trainwright.plan import backoff
from trainwright.plan.cleanup import in_the_way
from trainwright.plan.metadata import labels, owner
from trainwright.plan.types import Object, Plan, Settings
from trainwright.schedulers.objects import Stage, Upkeep


def stage(job: TrainingJob, observed: Observed, decided: Plan, now: float, settings: Settings) -> Stage | None:
    """How far a job is, for who keeps its objects; None while that is being decided, or where it is nothing of ours.

    An end counts once it has been written down, as does another attempt: the pass after that has a look. Between two attempts,
    while the old pods end and the pause lasts, no share of a queue is taken for the next.
    """
    if job.spec.run_policy.managed_by not in (None, OPERATOR_NAME):
        return None
    if job.deleting:
        return Stage.GONE
    if job.status.finished:
        return Stage.SUCCEEDED if job.status.phase is Phase.SUCCEEDED else Stage.FAILED
    if decided.status.finished or decided.status.attempt != job.attempt:
        return None
    if job.spec.run_policy.suspend or job.status.phase is Phase.SUSPENDED:
        return Stage.RESTING
    begun = bool(observed.of(job.attempt))
    between = not begun and (in_the_way(job, observed, now, settings) or backoff.left(job, now, settings) > 0)
    return Stage.RESTING if between else Stage.WANTED


def with_upkeep(job: TrainingJob, decided: Plan, upkeep: Upkeep) -> Plan:
    """The plan with what is to be done with the objects. One is made after the other, and our own writes wake nobody: what is
    next is seen in another pass, at once.
    """
    if not (upkeep.make or upkeep.patch or upkeep.remove):
        return decided
    made = tuple(_ours(job, one) for one in upkeep.make[:1])
    again = 0.0 if upkeep.make or upkeep.patch else decided.requeue_after
    return replace(decided, make=(*decided.make, *made), patch=upkeep.patch, remove=upkeep.remove, requeue_after=again)


def _ours(job: TrainingJob, obj: Object) -> Object:
    metadata = {**obj["metadata"], "namespace": job.namespace, "ownerReferences": [owner(job)]}
    return {**obj, "metadata": {**metadata, "labels": {**labels(job), **metadata.get("labels", {})}}}
