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
}
