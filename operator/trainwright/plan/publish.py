"""What a job says of its artifact, once it has offered it."""

from __future__ import annotations

from trainwright.api.deployment_status import VersionState
from trainwright.api.job import TrainingJob
from trainwright.api.reasons import Reason
from trainwright.api.status import ConditionType, OfferedModel, Phase, TrainingJobStatus
from trainwright.observe.observed import Observed
from trainwright.plan.status import with_conditions

_REASONS = {
    VersionState.LIVE: Reason.VERSION_LIVE,
    VersionState.PREVIOUS: Reason.VERSION_LIVE,
    VersionState.KEPT: Reason.VERSION_LIVE,
    VersionState.REMOVED: Reason.VERSION_LIVE,
    VersionState.REFUSED: Reason.ARTIFACT_REFUSED,
    VersionState.ROLLED_BACK: Reason.CANARY_FAILED,
}


def with_model(job: TrainingJob, status: TrainingJobStatus, observed: Observed, now: float) -> TrainingJobStatus:
    """The status of a job that publishes, with what became of its artifact. Published: whether it has ever been live."""
    publish = job.spec.publish
    if publish is None or status.phase is not Phase.SUCCEEDED:
        return status
    taken = observed.offered
    if taken is None:
        # A deployment forgets old versions; what the job knows of its own stays.
        model = status.model or OfferedModel(deployment=publish.deployment, state="Offered")
    else:
        model = OfferedModel(
            deployment=publish.deployment,
            version=taken.version,
            digest=taken.digest,
            state=taken.state.value,
            reason=taken.reason,
        )
    status = status.model_copy(update={"model": model})
    reason = _REASONS.get(taken.state, Reason.OFFER_TAKEN) if taken else Reason.OFFER_TAKEN
    been_live = taken is not None and (taken.state.servable or taken.state is VersionState.REMOVED)
    said = f"{publish.deployment}: " + (
        f"version {taken.version}, {taken.state.value}" if taken else "offered, and not taken yet"
    )
    if taken is None and job.status.model is not None:
        return status
    return with_conditions(status, job, now, (ConditionType.PUBLISHED, been_live, reason, said))
