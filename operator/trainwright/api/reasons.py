"""Words of conditions and events, in one table, each with what it means to a reader."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """PascalCase, as Kubernetes writes them."""

    GANG_CREATED = "GangCreated"
    GANG_INCOMPLETE = "GangIncomplete"
    WORKERS_RUNNING = "WorkersRunning"
    WORKERS_NOT_RUNNING = "WorkersNotRunning"
    WORKER_FAILED = "WorkerFailed"
    INFRASTRUCTURE = "Infrastructure"
    IGNORED = "FailureIgnored"
    RESTARTED = "Restarted"
    WORKERS_SUCCEEDED = "WorkersSucceeded"
    BACKOFF_LIMIT_EXCEEDED = "BackoffLimitExceeded"
    NOT_RETRYABLE = "NotRetryable"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    SUSPENDED = "Suspended"
    RESUMED = "Resumed"
    INVALID_SPEC = "InvalidSpec"
    WAITS_FOR_ROOM = "WaitsForRoom"
    ADMITTED = "Admitted"
    PREEMPTED = "Preempted"
    PREEMPTING = "Preempting"
    SCHEDULE_TIMEOUT = "ScheduleTimeout"
    NO_LONGER_FITS = "NoLongerFits"

    OFFER_TAKEN = "OfferTaken"
    ARTIFACT_VERIFIED = "ArtifactVerified"
    ARTIFACT_REFUSED = "ArtifactRefused"
    GATES_PASSED = "GatesPassed"
    GATES_FAILED = "GatesFailed"
    VERSION_PUBLISHED = "VersionPublished"
    PUBLISH_FAILED = "PublishFailed"
    VERSION_LOADED = "VersionLoaded"
    LOAD_FAILED = "LoadFailed"
    CANARY_STEP = "CanaryStep"
    CANARY_PASSED = "CanaryPassed"
    CANARY_FAILED = "CanaryFailed"
    PINNED = "Pinned"
    VERSION_LIVE = "VersionLive"
    SERVERS_READY = "ServersReady"
    SERVERS_NOT_READY = "ServersNotReady"
    NO_VERSION = "NoVersion"
    DRIFT_HIGH = "DriftHigh"
    DRIFT_LOW = "DriftLow"

    @property
    def warning(self) -> bool:
        """Whether an event of this reason is a Warning."""
        return self in (
            Reason.WORKER_FAILED,
            Reason.INFRASTRUCTURE,
            Reason.IGNORED,
            Reason.BACKOFF_LIMIT_EXCEEDED,
            Reason.NOT_RETRYABLE,
            Reason.DEADLINE_EXCEEDED,
            Reason.INVALID_SPEC,
            Reason.PREEMPTED,
            Reason.SCHEDULE_TIMEOUT,
            Reason.ARTIFACT_REFUSED,
            Reason.GATES_FAILED,
            Reason.PUBLISH_FAILED,
            Reason.LOAD_FAILED,
            Reason.CANARY_FAILED,
            Reason.SERVERS_NOT_READY,
            Reason.DRIFT_HIGH,
        )


MEANINGS: dict[Reason, str] = {
    Reason.GANG_CREATED: "All pods of the attempt were created.",
    Reason.GANG_INCOMPLETE: "Pods of the attempt are still to be created.",
    Reason.WORKERS_RUNNING: "Every worker runs.",
    Reason.WORKERS_NOT_RUNNING: "Not every worker runs.",
    Reason.WORKER_FAILED: "A worker failed; the gang restarts and the failure counts against backoffLimit.",
    Reason.INFRASTRUCTURE: "A worker was lost through no fault of its own; the gang restarts and nothing is counted.",
    Reason.IGNORED: "A worker failed; a rule of failurePolicy restarts the gang and nothing is counted.",
    Reason.RESTARTED: "The gang runs again.",
    Reason.WORKERS_SUCCEEDED: "Every worker ended with exit code 0.",
    Reason.BACKOFF_LIMIT_EXCEEDED: "A worker failed and backoffLimit, or the limit of a rule of failurePolicy, was used up.",
    Reason.NOT_RETRYABLE: "A worker failed in a way that another attempt would repeat, or that failurePolicy says ends the job.",
    Reason.DEADLINE_EXCEEDED: "The job was active for longer than activeDeadlineSeconds.",
    Reason.SUSPENDED: "The job was asked to wait; its workers save a checkpoint and end.",
    Reason.RESUMED: "The job goes on after it was suspended.",
    Reason.INVALID_SPEC: "The spec is refused.",
    Reason.WAITS_FOR_ROOM: "The gang's pods are made when all of them fit; `status.reason` says what is lacking.",
    Reason.ADMITTED: "The gang fits, and its pods are made.",
    Reason.PREEMPTED: "A job of higher priority needs the room; the workers save a checkpoint and end, and the job waits.",
    Reason.PREEMPTING: "Jobs of lower priority make room for this one.",
    Reason.SCHEDULE_TIMEOUT: "Pods had no node for `scheduleTimeoutSeconds`; the gang was taken back and waits again.",
    Reason.NO_LONGER_FITS: "Of a gang that was being created the rest no longer fits; it was taken back and waits again.",
    Reason.OFFER_TAKEN: "An offered artifact was given a version number and is on its way.",
    Reason.ARTIFACT_VERIFIED: "Manifest, files and, where asked for, signature are what they should be.",
    Reason.ARTIFACT_REFUSED: "The artifact is damaged, not signed, or nothing that the server can load.",
    Reason.GATES_PASSED: "Its metrics are within the gates.",
    Reason.GATES_FAILED: "A metric is missing, beyond its gate, or can't be compared with the live version's.",
    Reason.VERSION_PUBLISHED: "Its files lie where servers load from.",
    Reason.PUBLISH_FAILED: "Its files could not be put where servers load from.",
    Reason.VERSION_LOADED: "Servers have loaded it, it is warm, and it answers what the trainer's model answered.",
    Reason.LOAD_FAILED: "Servers did not load it in time, or it answers otherwise than the trainer's model.",
    Reason.CANARY_STEP: "It gets a share of the traffic.",
    Reason.CANARY_PASSED: "It held every step of its canary; or there was none to hold.",
    Reason.CANARY_FAILED: "It was worse than the live version, or there was too little to judge by; it was rolled back.",
    Reason.PINNED: "spec.pin asks for another version.",
    Reason.VERSION_LIVE: "It serves all traffic.",
    Reason.SERVERS_READY: "Servers of the live version answer.",
    Reason.SERVERS_NOT_READY: "No server of the live version answers.",
    Reason.NO_VERSION: "No version has been live yet.",
    Reason.DRIFT_HIGH: "What clients ask, or what the model answers, is far from what it was trained on.",
    Reason.DRIFT_LOW: "What clients ask is like what the model was trained on.",
}
