"""What a failure leads to: rules, causes, restart policies, limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from test_plan import NOW, SETTINGS, after, created, pods_of, see

from support.builders import JobBuilder, job
from support.pods import ended
from trainwright.api.reasons import Reason
from trainwright.api.status import Phase
from trainwright.plan import backoff
from trainwright.plan.plan import plan
from trainwright.plan.types import Plan

Pod = dict[str, Any]
End = Callable[[Pod], Pod]


def exits(code: int, **said: str) -> End:
    return lambda pod: ended(pod, code, message=said)


def out_of_memory(pod: Pod) -> Pod:
    return ended(pod, 137, reason="OOMKilled")


def evicted(pod: Pod) -> Pod:
    return {**pod, "status": {"phase": "Failed", "reason": "Evicted"}}


def fail(builder: JobBuilder, *ends: End) -> Plan:
    """The plan after the last of these failures, one an attempt."""
    typed, pods = created(builder)
    for number, end in enumerate(ends):
        decided = plan(typed, see(typed, [end(pod) for pod in pods]), NOW, SETTINGS)
        if number + 1 < len(ends):
            assert decided.status.phase is Phase.RESTARTING, decided.status.reason
            typed = after(builder, decided)
            pods = pods_of(typed)
            typed = after(builder, plan(typed, see(typed, pods), NOW + 1000, SETTINGS))
    return decided


def policy(*rules: dict[str, Any], restart_policy: str = "OnFailure", limit: int = 3) -> JobBuilder:
    return job().run_policy(backoffLimit=limit).spec(failurePolicy={"restartPolicy": restart_policy, "rules": list(rules)})


@pytest.mark.parametrize(
    ("when", "end", "matches"),
    [
        ({"exitCodes": [3, 42]}, exits(42), True),
        ({"exitCodes": [3]}, exits(42), False),
        ({"signals": ["SIGSEGV"]}, exits(139), True),
        ({"signals": ["SIGSEGV"]}, exits(1), False),
        ({"signals": ["SIGKILL"]}, out_of_memory, True),
        ({"causes": ["OOMKilled"]}, out_of_memory, True),
        ({"causes": ["OOMKilled"]}, exits(137), False),
        ({"causes": ["Killed", "Error"]}, exits(1), True),
    ],
)
def test_a_rule_is_for_codes_or_signals_or_causes(when: dict[str, Any], end: End, matches: bool) -> None:
    decided = fail(policy({"when": when, "action": "Fail"}), end)
    assert (decided.status.phase is Phase.FAILED) is matches
    assert ("failurePolicy.rules[0] says Fail" in (decided.status.reason or "")) is matches


def test_the_first_rule_that_matches_decides() -> None:
    rules = ({"when": {"exitCodes": [42]}, "action": "Ignore"}, {"when": {"causes": ["Error"]}, "action": "Fail"})
    assert fail(policy(*rules), exits(42)).status.phase is Phase.RESTARTING
    assert fail(policy(*rules), exits(41)).status.phase is Phase.FAILED


def test_what_is_ignored_is_not_counted_and_still_waits_ever_longer() -> None:
    builder = policy({"when": {"exitCodes": [75]}, "action": "Ignore"}, limit=0)
    decided = fail(builder, *[exits(75)] * 4)
    assert decided.status.phase is Phase.RESTARTING
    restarts = decided.status.restarts
    assert (restarts.failure, restarts.infrastructure, restarts.total, restarts.by_rule) == (0, 0, 4, [4])
    (event,) = decided.events
    assert event.reason is Reason.IGNORED
    assert backoff.left(after(builder, decided), NOW, SETTINGS) == 40


@pytest.mark.parametrize("action", ["Restart", "Ignore"])
def test_the_limit_of_a_rule_holds(action: str) -> None:
    builder = policy({"when": {"causes": ["OOMKilled"]}, "action": action, "limit": 2}, limit=10)
    decided = fail(builder, out_of_memory, exits(1), out_of_memory, out_of_memory)
    assert decided.status.phase is Phase.FAILED
    assert "the limit 2 of failurePolicy.rules[0] is used up" in (decided.status.reason or "")
    assert decided.status.restarts.by_rule == [2]


def test_a_rule_that_restarts_counts_against_the_backoff_limit_too() -> None:
    decided = fail(policy({"when": {"causes": ["Evicted"]}, "action": "Restart"}, limit=0), evicted)
    assert decided.status.phase is Phase.FAILED


def test_a_rule_stands_above_what_a_cause_means_by_itself() -> None:
    refused = exits(64, cause="InvalidConfig")
    assert fail(policy(), refused).status.phase is Phase.FAILED
    ignored = policy({"when": {"causes": ["InvalidConfig"]}, "action": "Ignore"})
    assert fail(ignored, refused).status.phase is Phase.RESTARTING


@pytest.mark.parametrize(
    ("restart_policy", "end", "phase"),
    [
        ("OnFailure", exits(1), Phase.RESTARTING),
        ("ExitCode", exits(1), Phase.FAILED),
        ("ExitCode", exits(127), Phase.FAILED),
        ("ExitCode", exits(128), Phase.RESTARTING),
        ("ExitCode", exits(139), Phase.RESTARTING),
        ("ExitCode", out_of_memory, Phase.RESTARTING),
        ("ExitCode", exits(66, cause="Preflight"), Phase.RESTARTING),
        ("ExitCode", exits(1, cause="PeerLost"), Phase.RESTARTING),
        ("Never", exits(137), Phase.FAILED),
        ("Never", evicted, Phase.RESTARTING),
    ],
)
def test_what_no_rule_is_for(restart_policy: str, end: End, phase: Phase) -> None:
    decided = fail(policy(restart_policy=restart_policy), end)
    assert decided.status.phase is phase, decided.status.reason


SHAPES = "RuntimeError: addmm: mat1 and mat2 shapes cannot be multiplied (32x64 and 128x10)"


def test_a_layer_that_does_not_match_its_input_ends_the_job_and_is_told_its_numbers() -> None:
    decided = fail(policy(), exits(1, cause="Error", message=SHAPES))
    assert decided.status.phase is Phase.FAILED
    assert decided.status.reason == (
        f"digits-a1-worker-0 exited with code 1: {SHAPES}; a Linear layer's in_features must be the last dimension of what "
        "reaches it, which is 64 here, and not 128; another attempt would end in the same way"
    )
    (event,) = decided.events
    assert event.reason is Reason.NOT_RETRYABLE


@pytest.mark.parametrize(
    ("message", "cause", "rules"),
    [
        pytest.param("RuntimeError: mat1 and mat2 must have the same dtype", "Error", [], id="other words of torch"),
        pytest.param(f"killed by SIGKILL; before: {SHAPES}", "PeerLost", [], id="another cause"),
        pytest.param(SHAPES, "Error", [{"when": {"exitCodes": [1]}, "action": "Restart"}], id="a rule says Restart"),
    ],
)
def test_what_only_looks_like_it_is_tried_again(message: str, cause: str, rules: list[dict[str, Any]]) -> None:
    decided = fail(policy(*rules), exits(1, cause=cause, message=message))
    assert decided.status.phase is Phase.RESTARTING
    assert ("in_features" in (decided.status.reason or "")) is bool(rules), "advice goes with the failure, whatever follows"
