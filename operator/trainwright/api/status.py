"""`TrainingJob.status`: what the operator says of a job. Only the operator writes it, once a pass and only when it changed."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from trainwright.api.causes import Cause
from trainwright.api.model import Model


class Phase(StrEnum):
    QUEUED = "Queued"
    STARTING = "Starting"
    RUNNING = "Running"
    RESTARTING = "Restarting"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def finished(self) -> bool:
        return self in (Phase.SUCCEEDED, Phase.FAILED)


class ConditionType(StrEnum):
    CREATED = "Created"
    QUEUED = "Queued"
    RUNNING = "Running"
    RESTARTING = "Restarting"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    PUBLISHED = "Published"


class Condition(Model):
    """One thing that is true of the job, or not, and since when."""

    type: ConditionType = Field(description="Created, Queued, Running, Restarting, Suspended, Succeeded, Failed or Published.")
    status: str = Field(description="True or False.", json_schema_extra={"enum": ["True", "False"]})
    reason: str = Field(description="One word for programs.")
    message: str = Field(default="", description="One sentence for people.")
    last_transition_time: str = Field(description="When status last changed.", json_schema_extra={"format": "date-time"})
    observed_generation: int = Field(default=0, description="The generation of the spec this was said of.")


class WorkerCounts(Model):
    """How the workers of the current attempt fare."""

    desired: int = Field(default=0, description="Workers the gang needs.")
    pending: int = Field(default=0, description="Pods that do not run yet.")
    running: int = Field(default=0, description="Pods that run.")
    succeeded: int = Field(default=0, description="Pods that are done.")
    failed: int = Field(default=0, description="Pods that failed.")
    ready: str = Field(default="", description="Running or done of desired, as 2/2.")


class Progress(Model):
    """How far training is, as rank 0 reports it."""

    step: int | None = Field(default=None, description="Optimizer steps done.")
    total_steps: int | None = Field(default=None, description="Optimizer steps in all, when known.")
    epoch: int | None = Field(default=None, description="Index of the current pass over the data, from 0.")
    percent: float | None = Field(default=None, description="Steps done of all, in percent.")
    eta_seconds: float | None = Field(default=None, description="Estimated time to the end, in seconds.")
    samples_per_second: float | None = Field(default=None, description="Samples of all workers in a second.")
    straggler: str | None = Field(
        default=None, description="The rank that keeps the others waiting, and how slow it is; unset while none stands out."
    )
    resumed_from: int | None = Field(default=None, description="The step whose checkpoint this attempt started from.")
    summary: str | None = Field(default=None, description="Progress in a few words, as 120/450 (26%).")


class SavedCheckpoint(Model):
    """The newest complete checkpoint."""

    step: int = Field(description="Step it was taken after.")
    time: str | None = Field(default=None, description="When it was complete.", json_schema_extra={"format": "date-time"})
    path: str | None = Field(default=None, description="Its directory, as the worker sees it.")


class LastRestart(Model):
    """The evidence of the last failure: what failed first, and how."""

    time: str = Field(description="When the failure was seen.", json_schema_extra={"format": "date-time"})
    attempt: int = Field(description="The attempt that failed.")
    cause: str = Field(description=f"{', '.join(list(Cause)[:-1])} or {list(Cause)[-1]}.")
    pod: str = Field(description="The first pod that failed.")
    rank: int | None = Field(default=None, description="The first rank that failed, when its launcher could say.")
    exit_code: int | None = Field(default=None, description="Exit code of the container.")
    signal: int | None = Field(default=None, description="Signal that killed it.")
    evidence: str | None = Field(default=None, description="The last lines it wrote.")


class Restarts(Model):
    """How often the gang was started anew."""

    failure: int = Field(default=0, description="Restarts after failures; these count against backoffLimit.")
    infrastructure: int = Field(
        default=0, description="Restarts after lost nodes, evictions and deleted pods; these don't count."
    )
    total: int = Field(default=0, description="All restarts, those included that a rule of failurePolicy doesn't count.")
    by_cause: dict[str, int] = Field(default_factory=dict, description="All restarts, by the cause of what failed first.")
    by_rule: list[int] = Field(
        default_factory=list, description="How often each of failurePolicy.rules restarted the gang, in their order."
    )
    last: LastRestart | None = Field(default=None, description="What the last failure was; kept when it ends the job.")


class TimeSpent(Model):
    """Where the job's time went, in whole seconds, up to phaseSince; the current phase is added when it ends."""

    queued_seconds: int = Field(default=0, description="Waiting for room on nodes.")
    starting_seconds: int = Field(default=0, description="Pods with a node, on their way to running.")
    productive_seconds: int = Field(default=0, description="Running, except for what was lost.")
    lost_seconds: int = Field(
        default=0,
        description="Trained after the last checkpoint before a failure, and so trained again; and the time of restarts.",
    )
    suspended_seconds: int = Field(default=0, description="Set aside on request; no part of goodput.")


class OfferedModel(Model):
    """What became of the artifact at the ModelDeployment that it was offered to."""

    deployment: str = Field(description="The ModelDeployment.")
    version: int | None = Field(default=None, description="The version number that it was given there.")
    digest: str | None = Field(default=None, description="sha256 of the artifact's manifest.")
    state: str = Field(description="Offered, Candidate, Live, Previous, Kept, Refused, RolledBack or Removed.")
    reason: str | None = Field(default=None, description="Why, in one line.")


class TrainingJobStatus(Model):
    """What the operator sees and does."""

    phase: Phase | None = Field(
        default=None, description="Queued, Starting, Running, Restarting, Suspended, Succeeded or Failed."
    )
    reason: str | None = Field(default=None, description="Why the job waits, restarts or ended, in one line.")
    observed_generation: int | None = Field(default=None, description="The generation of the spec that this status speaks of.")
    attempt: int | None = Field(default=None, description="The gang's current attempt, from 1.")
    workers: WorkerCounts | None = Field(default=None, description="Workers of the current attempt.")
    progress: Progress | None = Field(default=None, description="How far training is.")
    metrics: dict[str, float] | None = Field(default=None, description="Latest metrics as the trainer reports them, at most 32.")
    main_metric: str | None = Field(default=None, description="The metric that matters most, as val_accuracy=0.971.")
    checkpoint: SavedCheckpoint | None = Field(default=None, description="The newest complete checkpoint.")
    restarts: Restarts = Field(default_factory=Restarts, description="Restarts and their causes.")
    phase_since: str | None = Field(
        default=None, description="Since when phase is what it is.", json_schema_extra={"format": "date-time"}
    )
    time: TimeSpent | None = Field(default=None, description="Where the job's time went.")
    goodput: float | None = Field(
        default=None, description="Productive share of the time since the job was created, suspension left out, in percent."
    )
    held_seconds: int | None = Field(
        default=None, description="Time up to phaseSince that the gang held its resources: starting or running."
    )
    gpu_hours: float | None = Field(default=None, description="Hours of GPUs that the gang held in that time.")
    cost: float | None = Field(
        default=None, description="What its resources cost in that time, by the operator's price table if it has one."
    )
    start_time: str | None = Field(
        default=None, description="When all workers first ran.", json_schema_extra={"format": "date-time"}
    )
    active_since: str | None = Field(
        default=None,
        description="Since when the job is active: created, or resumed after it was suspended.",
        json_schema_extra={"format": "date-time"},
    )
    completion_time: str | None = Field(
        default=None, description="When the job ended.", json_schema_extra={"format": "date-time"}
    )
    model: OfferedModel | None = Field(default=None, description="What became of the artifact, where spec.publish offers it.")
    conditions: list[Condition] = Field(
        default_factory=list,
        description="What is true of the job, and since when.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )

    @property
    def finished(self) -> bool:
        """Whether the job has ended; one that nobody has looked at yet has not."""
        return self.phase is not None and self.phase.finished

    def condition(self, kind: ConditionType) -> Condition | None:
        return next((condition for condition in self.conditions if condition.type is kind), None)
