"""The operator killed at, or refused, every one of its writes while versions come, fail, and go back: the same end, nothing lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support.driver import Killed
from support.serving import Traffic, World, deployment
from trainwright.cluster.port import CLAIMS, CONFIG_MAPS, DEPLOYMENTS, JOBS, PODS, SERVICES, ClusterError, Conflict

# Each is a story told as many times as it has writes: seconds, and minutes where others use the machine.
pytestmark = pytest.mark.timeout(400)

Story = Callable[[World], Awaitable[None]]
TIMES = ("since", "offered", "offeredUntil", "canarySince", "lastTransitionTime", "observedGeneration")


async def _first(world: World, **spec: Any) -> None:
    await world.apply(deployment(**spec))
    await world.settle()
    await world.train("first")
    await world.settle()


async def goes_live_by_canary(world: World) -> None:
    await _first(world)
    await world.train("second")
    await world.settle()


async def is_worse_and_rolled_back(world: World) -> None:
    await _first(world)
    world.traffic[2] = Traffic(errors=100)
    await world.train("second")
    await world.settle()


async def fails_its_gate(world: World) -> None:
    await _first(world, gates=[{"metric": "accuracy", "min": 0.9}])
    world.metrics[2] = {"accuracy": 0.5}
    await world.train("second")
    await world.settle()


async def is_gone_back_from(world: World) -> None:
    await _first(world)
    await world.train("second")
    await world.settle()
    await world.change(pin=1)
    await world.settle()


async def makes_old_versions_go(world: World) -> None:
    await _first(world, keepVersions=2, canary={"steps": []})
    for name in ("second", "third"):
        await world.train(name)
        await world.settle()


STORIES: list[Story] = [
    goes_live_by_canary,
    is_worse_and_rolled_back,
    fails_its_gate,
    is_gone_back_from,
    makes_old_versions_go,
]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        # Figures, and words with seconds in them, depend on when somebody looked; uids are new in each story.
        dropped = (*TIMES, "reason", "message", "figures", "offer")
        return {key: _timeless(below) for key, below in value.items() if key not in dropped}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


async def picture(world: World) -> dict[str, Any]:
    kinds: dict[str, Any] = {}
    for resource in (PODS, SERVICES, CLAIMS, DEPLOYMENTS, JOBS, CONFIG_MAPS):
        kinds[resource.kind] = sorted(one["metadata"]["name"] for one in (await world.cluster.list(resource)).items)
    return kinds | {"status": _timeless(await world.status()), "files": world.files, "weights": world.weights}


class Calls:
    """Counts the operator's writes; raises `error` at the write with this number."""

    def __init__(self, number: int = 0, at: str = "", error: Callable[[], BaseException] = Killed) -> None:
        self.count = 0
        self._number, self._at, self._error = number, at, error

    def __call__(self, moment: str) -> None:
        if moment == "before":
            self.count += 1
        if self.count == self._number and moment == self._at:
            self._number = 0
            raise self._error()


async def told(story: Story, calls: Calls) -> tuple[World, dict[str, Any]]:
    world = World(calls)
    await story(world)
    return world, await picture(world)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_killed_at_any_write_the_next_operator_brings_the_version_to_the_same_end(story: Story) -> None:
    calls = Calls()
    _, end = asyncio.run(told(story, calls))
    assert calls.count >= 20
    # Killed before a write is killed after the one before it.
    for number, moment in [(1, "before"), *((number, "after") for number in range(1, calls.count))]:
        world, seen = asyncio.run(told(story, Calls(number, moment)))
        # There is no moment after a write that is refused: of an event that was sent before.
        assert world.kills <= 1, (number, moment)
        assert seen == end, (number, moment)


@pytest.mark.parametrize(
    ("moment", "error"),
    [
        pytest.param("before", lambda: Conflict("the object has been modified"), id="409"),
        pytest.param("after", lambda: ClusterError("no answer within 30 s"), id="timeout"),
    ],
)
def test_an_api_that_fails_at_any_write_delays_and_changes_nothing(moment: str, error: Callable[[], ClusterError]) -> None:
    calls, story = Calls(), goes_live_by_canary
    _, end = asyncio.run(told(story, calls))
    for number in range(1, calls.count + 1):
        _, seen = asyncio.run(told(story, Calls(number, moment, error)))
        assert seen == end, (number, moment)
