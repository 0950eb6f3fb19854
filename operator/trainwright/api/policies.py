"""What `spec.runPolicy` and `spec.failurePolicy` say: when a job waits, ends, starts anew and is tidied up."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from trainwright.api.causes import Cause
from trainwright.api.model import Model
from trainwright.api.scheduling import SchedulingPolicy


class CleanPodPolicy(StrEnum):
    RUNNING = "Running"
    ALL = "All"
    NONE = "None"


class SignalName(StrEnum):
    SIGHUP = "SIGHUP"
    SIGINT = "SIGINT"
    SIGQUIT = "SIGQUIT"
    SIGILL = "SIGILL"
    SIGTRAP = "SIGTRAP"
    SIGABRT = "SIGABRT"
    SIGBUS = "SIGBUS"
    SIGFPE = "SIGFPE"
    SIGKILL = "SIGKILL"
    SIGUSR1 = "SIGUSR1"
    SIGSEGV = "SIGSEGV"
    SIGUSR2 = "SIGUSR2"
    SIGPIPE = "SIGPIPE"
    SIGALRM = "SIGALRM"
    SIGTERM = "SIGTERM"
    SIGXCPU = "SIGXCPU"
    SIGXFSZ = "SIGXFSZ"
    SIGSYS = "SIGSYS"


class RunPolicy(Model):
    """What happens when workers fail and when the job has ended."""

    backoff_limit: int = Field(
        default=3,
        ge=0,
        le=1000,
        description="How many failures restart the gang; the next one fails the job. Lost nodes and deleted pods don't count.",
    )
    managed_by: Annotated[str, StringConstraints(min_length=1, max_length=63)] | None = Field(
        default=None,
        description="Unset or trainwright.dev/operator: this operator runs the job. Anything else: it keeps its hands off.",
    )
    suspend: bool = Field(
        default=False,
        description="True: workers save a checkpoint and end, and the job waits. Back to False: it goes on from that checkpoint.",
    )
    active_deadline_seconds: int | None = Field(
        default=None,
        ge=1,
        description="The job fails when it has been active for longer than this, queued time included and suspended time not.",
    )
    progress_deadline_seconds: int = Field(
        default=600,
        ge=0,
        le=86400,
        description=(
            "A rank that reports nothing for this long, and for ten of its slowest steps, hangs: where each rank is goes into "
            "its log, and the gang restarts. Three times as long before the first step; 0: never. Only for ranks that report."
        ),
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        description="The job is deleted this long after it has ended. Its workspace stays. Unset: it stays until you delete it.",
    )
    clean_pod_policy: CleanPodPolicy = Field(
        default=CleanPodPolicy.RUNNING,
        description="Pods deleted once the job has ended: Running (those still running), All, or None. Logs go with their pods.",
    )
    scheduling_policy: SchedulingPolicy | None = Field(
        default=None, description="When the gang's pods are made, and who goes first. Fixed once the job exists."
    )

    @property
    def scheduling(self) -> SchedulingPolicy:
        """The scheduling policy; one that says nothing where there is none."""
        return self.scheduling_policy or SchedulingPolicy()


class RestartPolicy(StrEnum):
    ON_FAILURE = "OnFailure"
    EXIT_CODE = "ExitCode"
    NEVER = "Never"


class FailureAction(StrEnum):
    RESTART = "Restart"
    IGNORE = "Ignore"
    FAIL = "Fail"


class FailureMatch(Model):
    """Which failures a rule is for. Exactly one of the fields."""

    exit_codes: list[Annotated[int, Field(ge=1, le=255)]] | None = Field(
        default=None, min_length=1, max_length=255, description="The container ended with one of these codes, from 1 to 255."
    )
    signals: list[SignalName] | None = Field(
        default=None, min_length=1, max_length=32, description="One of these signals ended it, such as SIGSEGV."
    )
    causes: list[Cause] | None = Field(
        default=None, min_length=1, max_length=12, description="It failed for one of these causes, such as OOMKilled."
    )


class FailureRule(Model):
    """What one kind of failure leads to."""

    when: FailureMatch = Field(description="Which failures; of a gang, the first one that failed is looked at.")
    action: FailureAction = Field(
        description=(
            "Restart: start the gang anew and count it against backoffLimit. Ignore: start it anew and don't count it. "
            "Fail: the job fails at once."
        )
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="How often this rule restarts the gang; the next time the job fails. Unset: as often as backoffLimit allows, "
        "with Ignore without end.",
    )


class FailurePolicy(Model):
    """Which failures restart the gang and which end the job."""

    restart_policy: RestartPolicy = Field(
        default=RestartPolicy.ON_FAILURE,
        description=(
            "For failures of the program that no rule is for. OnFailure: restart. ExitCode: exit codes 1 to 127 fail the job, "
            "signals and codes from 128 restart. Never: fail the job."
        ),
    )
    rules: list[FailureRule] = Field(
        default_factory=list, max_length=20, description="The first rule that a failure matches decides."
    )
