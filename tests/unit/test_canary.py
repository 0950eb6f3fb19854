"""What is statistics in a canary's verdict: two good versions are told from a good and a bad one, however few the answers."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainwright.api.deployment_spec import Canary, CanaryStep
from trainwright.observe.gateway import Window
from trainwright.plan.serving.canary import Verdict, distance, judge

BOUNDS = tuple(0.0005 * 1.2**power for power in range(60))


def window(latencies: list[float], *, errors: int = 0, predictions: dict[str, int] | None = None) -> Window:
    counts = [0] * (len(BOUNDS) + 1)
    for latency in latencies:
        counts[sum(bound < latency for bound in BOUNDS)] += 1
    return Window(
        requests=len(latencies),
        errors=errors,
        bounds=BOUNDS,
        counts=tuple(counts),
        predictions=predictions or {"a": len(latencies)},
    )


def drawn(chance: random.Random, weights: list[float], count: int) -> dict[str, int]:
    return dict(Counter(map(str, chance.choices(range(len(weights)), weights, k=count))))


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("count", [20, 50, 500])
def test_two_samples_of_one_distribution_are_hardly_ever_apart(classes: int, count: int) -> None:
    chance = random.Random(classes * count)
    weights = [chance.random() + 0.1 for _ in range(classes)]
    far = [distance(drawn(chance, weights, count), drawn(chance, weights, 4 * count)) or 0.0 for _ in range(400)]
    assert sum(one > 0.1 for one in far) <= 4


def test_a_version_that_always_says_the_same_is_far_from_one_that_doesn_t() -> None:
    chance = random.Random(0)
    assert (distance({"3": 40}, drawn(chance, [1.0] * 10, 40)) or 0.0) > 0.5


def test_the_distance_of_opposites_is_one_and_of_nothing_is_unknown() -> None:
    assert distance({"a": 10**6}, {"b": 10**6}) == pytest.approx(1.0, abs=0.01)
    assert distance({"a": 10**6}, {"a": 7}) == 0.0
    assert distance({}, {"a": 7}) is None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(50, 400))
def test_two_versions_of_one_latency_both_pass(seed: int, count: int) -> None:
    chance = random.Random(seed)
    both = [window([chance.lognormvariate(-4.6, 0.5) for _ in range(number)]) for number in (count, 4 * count)]
    verdict = judge(Canary(max_latency_ratio=2.0), CanaryStep(weight=20, min_requests=50, hold_seconds=0), *both, elapsed=1.0)
    assert verdict.verdict is Verdict.PASS, verdict.message


def test_a_slow_tail_is_seen() -> None:
    slow = window([0.01] * 900 + [1.0] * 100)
    verdict = judge(Canary(), CanaryStep(weight=20, min_requests=50, hold_seconds=0), slow, window([0.01] * 4000), 1.0)
    assert verdict.verdict is Verdict.FAIL
    assert "p99" in verdict.message


def test_where_nothing_tells_what_was_predicted_that_is_said_and_no_success() -> None:
    silent = Window(requests=100, bounds=(1.0,), counts=(100, 0))
    step = CanaryStep(weight=20, min_requests=50, hold_seconds=0)
    assert judge(Canary(), step, silent, silent, 1.0).message == "no predictions to compare"
    assert judge(Canary(max_drift=1.0), step, silent, silent, 1.0).verdict is Verdict.PASS
