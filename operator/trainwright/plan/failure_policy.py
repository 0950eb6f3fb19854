"""What a failure leads to: the first rule that it matches, else its cause, else the restart policy, within their limits."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from trainwright.api.causes import Cause
from trainwright.api.job import TrainingJob
from trainwright.api.policies import FailureAction, FailureMatch, RestartPolicy
from trainwright.api.reasons import Reason
from trainwright.observe.failure import Failure
from trainwright.plan.advice import would_repeat


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Restart the gang, or end the job. `why` ends the sentence that tells of the failure; `rule` is an index into the rules."""

    reason: Reason
    restart: bool
    counted: bool = False
    rule: int | None = None
    why: str = ""


def judge(job: TrainingJob, failure: Failure) -> Verdict:
    """The verdict on the first failure of a gang."""
    for index, rule in enumerate(job.spec.failure_policy.rules):
        if not _matches(rule.when, failure):
            continue
        name = f"failurePolicy.rules[{index}]"
        if rule.action is FailureAction.FAIL:
            return Verdict(reason=Reason.NOT_RETRYABLE, restart=False, rule=index, why=f"{name} says Fail")
        if rule.limit is not None and rule_count(job, index) >= rule.limit:
            why = f"the limit {rule.limit} of {name} is used up"
            return Verdict(reason=Reason.BACKOFF_LIMIT_EXCEEDED, restart=False, rule=index, why=why)
        if rule.action is FailureAction.IGNORE:
            return Verdict(reason=Reason.IGNORED, restart=True, rule=index, why=f"not counted, by {name}")
        return _counted(job, rule=index)
    if failure.cause.infrastructure:
        return Verdict(reason=Reason.INFRASTRUCTURE, restart=True)
    if failure.cause.permanent:
        return Verdict(reason=Reason.NOT_RETRYABLE, restart=False)
    if would_repeat(failure):
        return Verdict(reason=Reason.NOT_RETRYABLE, restart=False, why="another attempt would end in the same way")
    if why := _refused_by_policy(job.spec.failure_policy.restart_policy, failure):
        return Verdict(reason=Reason.NOT_RETRYABLE, restart=False, why=why)
    return _counted(job)


def rule_count(job: TrainingJob, index: int) -> int:
    """How often the rule has restarted the gang."""
    counts = job.status.restarts.by_rule
    return counts[index] if index < len(counts) else 0


def _counted(job: TrainingJob, rule: int | None = None) -> Verdict:
    failures, limit = job.status.restarts.failure, job.spec.run_policy.backoff_limit
    if failures >= limit:
        why = f"backoffLimit {limit} is used up" if limit else ""
        return Verdict(reason=Reason.BACKOFF_LIMIT_EXCEEDED, restart=False, rule=rule, why=why)
    why = f"failure {failures + 1} of at most {limit}"
    return Verdict(reason=Reason.WORKER_FAILED, restart=True, counted=True, rule=rule, why=why)


def _matches(match: FailureMatch, failure: Failure) -> bool:
    if match.exit_codes is not None:
        return failure.exit_code in match.exit_codes
    if match.signals is not None:
        return failure.signal in [signal.Signals[name.value] for name in match.signals]
    return failure.cause in (match.causes or ())


def _refused_by_policy(policy: RestartPolicy, failure: Failure) -> str:
    if policy is RestartPolicy.NEVER:
        return "failurePolicy.restartPolicy is Never"
    if policy is RestartPolicy.EXIT_CODE and failure.cause is Cause.ERROR and (failure.exit_code or 0) < 128:
        return f"under failurePolicy.restartPolicy ExitCode, exit code {failure.exit_code} is permanent"
    return ""
