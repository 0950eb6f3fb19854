"""Who gets which version: shares as the weights say, and clients that keep theirs."""

from __future__ import annotations

import json
import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainwright_gateway import sync
from trainwright_gateway.routes import Routes

NO_ONE = "sha256:" + "0" * 64


def routes(weights: dict[int, float], live: int | None = None) -> Routes:
    """The lowest version is live."""
    live = min(weights) if live is None and weights else live
    versions = [
        {"version": number, "role": "live" if number == live else "kept", "weight": weight, "digest": NO_ONE, "record": NO_ONE}
        for number, weight in weights.items()
    ]
    return Routes(sync.parse(json.dumps({"model": "m", "versions": versions})))


some_weights = st.dictionaries(
    st.integers(1, 9), st.floats(0, 100).map(lambda one: round(one, 1)), min_size=1, max_size=4
).filter(lambda one: any(one.values()))  # fmt: skip


@given(some_weights, st.floats(0, 1, exclude_max=True))
def test_a_draw_falls_to_a_version_as_its_weight_reaches(weights, draw):
    found = routes(weights).choose(None, lambda: draw)
    below = sum(weight for number, weight in list(weights.items())[: list(weights).index(found.version)])
    total = sum(weights.values())
    assert weights[found.version] > 0
    assert below <= draw * total * (1 + 1e-9)
    assert draw * total <= (below + weights[found.version]) * (1 + 1e-9)


@pytest.mark.parametrize("sticky", [False, True])
def test_shares_are_those_of_the_weights(sticky):
    weights, count, chance = {1: 60, 2: 30, 3: 10}, 20_000, random.Random(3)
    table = routes(weights)
    found = Counter(table.choose(str(number) if sticky else None, chance.random).version for number in range(count))
    for number, weight in weights.items():
        share = weight / 100
        assert abs(found[number] / count - share) < 5 * math.sqrt(share * (1 - share) / count)


@settings(max_examples=50)
@given(st.floats(1, 99), st.floats(1, 99), st.integers(0, 10**6))
def test_who_is_on_a_candidate_stays_on_it_as_its_weight_grows(one, other, seed):
    small, large = sorted((one, other))
    users = [f"{seed}-{number}" for number in range(200)]

    def on(weight: float) -> set[str]:
        table = routes({1: 100 - weight, 2: weight}, live=1)
        return {user for user in users if table.choose(user).version == 2}

    assert on(small) <= on(large)


@given(some_weights, st.text())
def test_a_client_always_gets_the_same_version(weights, who):
    assert {routes(weights).choose(who).version for _ in range(3)} == {
        routes(dict(reversed(weights.items()))).choose(who).version
    }


def test_candidates_of_different_versions_meet_different_clients():
    users = list(map(str, range(1000)))
    first, second = ({u for u in users if routes({1: 90, new: 10}, live=1).choose(u).version == new} for new in (2, 3))
    assert 0 < len(first & second) < 40


def test_without_any_weight_all_goes_to_the_live_version_and_without_that_nowhere():
    table = routes({1: 0, 2: 0}, live=2)
    assert table.choose().version == 2
    assert [table.share(one) for one in table.versions.values()] == [0.0, 1.0]
    assert routes({1: 0}, live=7).choose() is None
    assert routes({}).choose("me") is None
