"""Which pods go: those of attempts that are over, and, once the job has ended, those its cleanPodPolicy names."""

from __future__ import annotations

from trainwright.api.job import TrainingJob
from trainwright.api.policies import CleanPodPolicy
from trainwright.observe.observed import Observed
from trainwright.observe.workers import Worker
from trainwright.plan.queued import went_back
from trainwright.plan.types import Deletion, Settings


def finished_pods(job: TrainingJob, observed: Observed) -> tuple[Deletion, ...]:
    """Pods to delete after the job has ended."""
    policy = job.spec.run_policy.clean_pod_policy
    return tuple(
        Deletion(name=worker.name, uid=worker.uid)
        for worker in observed.workers
        if not worker.deleting and (policy is CleanPodPolicy.ALL or (policy is CleanPodPolicy.RUNNING and not worker.ended))
    )


def stale_pods(job: TrainingJob, observed: Observed, settings: Settings) -> tuple[Deletion, ...]:
    """Pods of other attempts to delete. The one whose failure is the evidence stays, for its log, until the next failure.

    Those of a gang that was well when it had to go have their own grace, in which they save.
    """
    grace = None if went_back(job) else settings.broken_gang_grace
    return tuple(
        Deletion(name=worker.name, uid=worker.uid, grace=grace)
        for worker in observed.other_than(job.attempt)
        if not worker.deleting and not _evidence(job, worker)
    )


def in_the_way(job: TrainingJob, observed: Observed, now: float, settings: Settings) -> list[Worker]:
    """Workers of other attempts that may still write: the next attempt waits for them, but not for a node that is lost."""
    return [
        worker for worker in observed.other_than(job.attempt) if not worker.ended and not worker.stuck(now, settings.stuck_after)
    ]


def _evidence(job: TrainingJob, worker: Worker) -> bool:
    last = job.status.restarts.last
    return worker.ended and last is not None and worker.name == last.pod
