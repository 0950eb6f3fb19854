"""`ModelDeployment.status`: which version serves, what becomes of the next, and by which figures that was decided."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from trainwright.api.model import Model
from trainwright.api.status import Condition

MAX_VERSIONS = 50


class DeploymentPhase(StrEnum):
    EMPTY = "Empty"
    ROLLING_OUT = "RollingOut"
    LIVE = "Live"
    DEGRADED = "Degraded"


class Step(StrEnum):
    """What is being done with a candidate, in this order."""

    VERIFY = "Verify"
    GATE = "Gate"
    PUBLISH = "Publish"
    LOAD = "Load"
    CANARY = "Canary"


class VersionState(StrEnum):
    CANDIDATE = "Candidate"
    LIVE = "Live"
    PREVIOUS = "Previous"
    KEPT = "Kept"
    REFUSED = "Refused"
    ROLLED_BACK = "RolledBack"
    REMOVED = "Removed"

    @property
    def servable(self) -> bool:
        """Whether it has been live and its files are there."""
        return self in (VersionState.LIVE, VersionState.PREVIOUS, VersionState.KEPT)


class DeploymentConditionType(StrEnum):
    AVAILABLE = "Available"
    VERIFIED = "Verified"
    GATED = "Gated"
    PUBLISHED = "Published"
    LOADED = "Loaded"
    CANARY_PASSED = "CanaryPassed"
    DRIFTING = "Drifting"


class DeploymentCondition(Condition):
    """One thing that is true of the deployment, or of its newest version, and since when."""

    type: DeploymentConditionType = Field(  # type: ignore[assignment]
        description="Available, Drifting; and of the newest version: Verified, Gated, Published, Loaded, CanaryPassed."
    )


class Version(Model):
    """One version, and what became of it."""

    version: int = Field(description="Number, from 1; never given twice.")
    state: VersionState = Field(description=f"{', '.join(list(VersionState)[:-1])} or {list(VersionState)[-1]}.")
    offer: str = Field(description="Where it came from: job/<uid> or offer/<name>.")
    job: str | None = Field(default=None, description="The TrainingJob that made it.")
    digest: str | None = Field(default=None, description="sha256 of its manifest, which has those of all files.")
    record: str | None = Field(default=None, description="sha256 of the publisher's record of what servers load.")
    metrics: dict[str, float] | None = Field(default=None, description="Metrics of its manifest, at most 32.")
    test: str | None = Field(default=None, description="sha256 of the test set that they were measured on.")
    reason: str | None = Field(default=None, description="Why it is in this state, in one line, with the figures that decided.")
    since: str = Field(description="Since when it is in this state.", json_schema_extra={"format": "date-time"})
    offered: str = Field(
        description="When it was offered, by its job's end or by hand.", json_schema_extra={"format": "date-time"}
    )


class Figures(Model):
    """What was seen of one version in a step of its canary."""

    version: int = Field(description="The version.")
    requests: int = Field(default=0, description="Requests answered, or that should have been.")
    error_ratio: float | None = Field(default=None, description="Errors among them.")
    p99_seconds: float | None = Field(default=None, description="99th percentile of their latency.")
    not_finite_ratio: float | None = Field(default=None, description="Answers with NaN or infinity in them.")


class Candidate(Model):
    """The version on its way to being live."""

    version: int = Field(description="Its number.")
    step: Step = Field(description=f"{', '.join(list(Step)[:-1])} or {list(Step)[-1]}.")
    since: str = Field(description="Since when it is in this step.", json_schema_extra={"format": "date-time"})
    canary_step: int | None = Field(default=None, description="Index of the step of spec.canary.steps, from 0.")
    canary_since: str | None = Field(
        default=None, description="Since when it is in that step.", json_schema_extra={"format": "date-time"}
    )
    weight: int | None = Field(default=None, description="Its share of requests, in percent.")
    figures: list[Figures] | None = Field(default=None, description="What is seen of it and of the live version in this step.")
    drift: float | None = Field(default=None, description="Distance of its predictions from the live version's.")


class FeatureDrift(Model):
    """How far one feature is from what the model was trained on."""

    name: str = Field(description="The feature.")
    psi: float = Field(description="Population stability index.")


class DriftStatus(Model):
    """How far what clients ask is from what the live version was trained on."""

    score: float = Field(description="The largest PSI of a feature.")
    feature: str = Field(description="The feature that it is of.")
    samples: int = Field(description="Rows it was measured on.")
    prediction: float | None = Field(default=None, description="PSI of what the model answers.")
    features: list[FeatureDrift] = Field(default_factory=list, description="The features that drift most.")


class LabelStatus(Model):
    """How right the live version was, by labels that came later."""

    metric: str = Field(description="accuracy, or mean_absolute_error.")
    value: float = Field(description="Its value.")
    labelled: int = Field(description="Predictions with a label.")
    coverage: float = Field(description="Their share of all predictions.")


class ModelDeploymentStatus(Model):
    """What the operator sees and does."""

    phase: DeploymentPhase | None = Field(
        default=None, description="Empty (no version yet), RollingOut, Live, or Degraded (no server of the live version answers)."
    )
    reason: str | None = Field(default=None, description="What it waits for, or why it is as it is, in one line.")
    observed_generation: int | None = Field(default=None, description="The generation of the spec that this status speaks of.")
    live: int | None = Field(default=None, description="The version that serves.")
    previous: int | None = Field(default=None, description="The version that served before, still there to go back to.")
    candidate: Candidate | None = Field(default=None, description="The version on its way.")
    last_version: int = Field(default=0, description="The highest number given so far.")
    ended: dict[str, int] = Field(
        default_factory=dict, description="How many versions have gone Live, were Refused, or were RolledBack, ever."
    )
    offered_until: str | None = Field(
        default=None, description="Jobs that ended before have been looked at.", json_schema_extra={"format": "date-time"}
    )
    versions: list[Version] = Field(
        default_factory=list, description=f"What became of versions, newest first, at most {MAX_VERSIONS}."
    )
    servers: str | None = Field(default=None, description="Ready servers of the live version, of those wanted, as 2/2.")
    gateways: str | None = Field(default=None, description="Ready gateways, of those wanted, as 1/1.")
    address: str | None = Field(default=None, description="Where clients reach the model.")
    traffic: str | None = Field(default=None, description="Who gets how much, as v3 90%, v4 10%.")
    drift: DriftStatus | None = Field(default=None, description="Drift of the live version's inputs; unset below minSamples.")
    labels: LabelStatus | None = Field(default=None, description="How right it was; unset below minSamples.")
    conditions: list[DeploymentCondition] = Field(
        default_factory=list,
        description="What is true of the deployment and its newest version, and since when.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )

    def version(self, number: int | None) -> Version | None:
        return next((one for one in self.versions if one.version == number), None)

    def condition(self, kind: DeploymentConditionType) -> DeploymentCondition | None:
        return next((one for one in self.conditions if one.type is kind), None)
