"""The operator killed at, or refused, every one of its writes, in every phase of a job's life: the same end, nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.builders import job
from support.driver import NAME, NAMESPACE, Driver, Killed
from support.pods import ScriptedKubelet, ended
from trainwright.cluster.port import CLAIMS, EVENTS, PODS, SERVICES, TRAINING_JOBS, ClusterError, Conflict, NotFound

Story = Callable[[Driver], Awaitable[None]]
TIMES = (
    "time",
    "phaseSince",
    "startTime",
    "activeSince",
    "completionTime",
    "goodput",
    "heldSeconds",
    "gpuHours",
    "cost",
    "lastTransitionTime",
    "observedGeneration",
)


# --- lives of a job ---------------------------------------------------------------------------------------------------


async def _begin(driver: Driver, **policy: Any) -> ScriptedKubelet:
    await driver.cluster.create(TRAINING_JOBS, job(NAME).workers(2).run_policy(**policy).build())
    await driver.settle()
    return ScriptedKubelet(driver.cluster, NAMESPACE)


async def _run(driver: Driver, kubelet: ScriptedKubelet) -> None:
    await kubelet.run_all(NAME)
    await driver.settle()


async def _finish(driver: Driver, kubelet: ScriptedKubelet) -> None:
    await kubelet.end_all(NAME)
    await driver.settle()


async def succeeds(driver: Driver) -> None:
    kubelet = await _begin(driver, cleanPodPolicy="All")
    await _run(driver, kubelet)
    await _finish(driver, kubelet)


async def _fail(driver: Driver, kubelet: ScriptedKubelet, code: int) -> None:
    victim = next(pod for pod in await kubelet.pods(NAME) if pod["status"]["phase"] == "Running")
    await kubelet.become(ended(victim, code))
    await driver.settle()
    await kubelet.confirm_deletions(NAME)
    await driver.settle()


async def fails_once_and_succeeds(driver: Driver) -> None:
    kubelet = await _begin(driver)
    await _run(driver, kubelet)
    await _fail(driver, kubelet, 137)
    await _run(driver, kubelet)
    await _finish(driver, kubelet)


async def fails_for_good(driver: Driver) -> None:
    kubelet = await _begin(driver, backoffLimit=1)
    await _run(driver, kubelet)
    await _fail(driver, kubelet, 1)
    await _run(driver, kubelet)
    await _fail(driver, kubelet, 1)


async def loses_a_pod(driver: Driver) -> None:
    kubelet = await _begin(driver, backoffLimit=0)
    await _run(driver, kubelet)
    victim, _ = await kubelet.pods(NAME)
    await driver.cluster.delete(PODS, victim["metadata"]["name"], NAMESPACE, grace_seconds=0)
    await driver.settle()
    await kubelet.confirm_deletions(NAME)
    await driver.settle()
    await _run(driver, kubelet)
    await _finish(driver, kubelet)


async def is_suspended_and_resumed(driver: Driver) -> None:
    kubelet = await _begin(driver)
    await _run(driver, kubelet)
    for suspend in (True, False):
        await driver.cluster.patch(TRAINING_JOBS, NAME, NAMESPACE, {"spec": {"runPolicy": {"suspend": suspend}}})
        await driver.settle()
        await kubelet.confirm_deletions(NAME)
        await driver.settle()
    await _run(driver, kubelet)
    await _finish(driver, kubelet)


async def runs_out_of_time(driver: Driver) -> None:
    kubelet = await _begin(driver, activeDeadlineSeconds=3600)
    await _run(driver, kubelet)
    driver.now += 3601
    await driver.settle()
    await kubelet.confirm_deletions(NAME)
    await driver.settle()


async def is_deleted_after_its_time_to_live(driver: Driver) -> None:
    kubelet = await _begin(driver, ttlSecondsAfterFinished=600)
    await _run(driver, kubelet)
    await _finish(driver, kubelet)
    driver.now += 601
    await driver.settle()


STORIES: list[Story] = [
    succeeds,
    fails_once_and_succeeds,
    fails_for_good,
    loses_a_pod,
    is_suspended_and_resumed,
    runs_out_of_time,
    is_deleted_after_its_time_to_live,
]


# --- what must be the same --------------------------------------------------------------------------------------------


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(below) for key, below in value.items() if key not in TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


async def picture(driver: Driver) -> dict[str, Any]:
    """All that is left at the end, without times."""
    kinds = {}
    for resource in (PODS, SERVICES, CLAIMS):
        listed = (await driver.cluster.list(resource)).items
        kinds[resource.kind] = {one["metadata"]["name"]: one.get("status", {}).get("phase") for one in listed}
    try:
        kinds["status"] = _timeless(await driver.status())
    except NotFound:
        kinds["status"] = "gone"
    return kinds


class Calls:
    """Counts the operator's writes; raises what `happen` says at the writes with these numbers."""

    def __init__(self, at: dict[int, str] | None = None, error: Callable[[], BaseException] = Killed) -> None:
        self.count = 0
        self._at = at or {}
        self._error = error

    def __call__(self, moment: str) -> None:
        if moment == "before":
            self.count += 1
        if self._at.get(self.count) == moment:
            del self._at[self.count]
            raise self._error()


async def told(story: Story, calls: Calls) -> tuple[Driver, dict[str, Any]]:
    driver = Driver(calls)
    await story(driver)
    return driver, await picture(driver)


def unharmed(story: Story) -> tuple[int, dict[str, Any], set[str]]:
    """How many writes the story takes, how it ends, and what events it leaves."""
    calls = Calls()
    driver, end = asyncio.run(told(story, calls))
    return calls.count, end, asyncio.run(_events(driver))


async def _events(driver: Driver) -> set[str]:
    """What each event is about; names begin with the job's own name and uid."""
    return {event["metadata"]["name"].split(".", 2)[2] for event in (await driver.cluster.list(EVENTS)).items}


def _moments(writes: int) -> Iterator[tuple[int, str]]:
    for number in range(1, writes + 1):
        for moment in ("before", "after"):
            yield number, moment


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_killed_at_any_write_the_next_operator_brings_the_job_to_the_same_end(story: Story) -> None:
    writes, end, events = unharmed(story)
    assert writes >= 8
    for number, moment in _moments(writes):
        driver, seen = asyncio.run(told(story, Calls({number: moment})))
        assert driver.kills == 1, (number, moment)
        assert seen == end, (number, moment)
        assert asyncio.run(_events(driver)) <= events, "an event may be lost with the operator, and is never made up"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    story=st.sampled_from(STORIES),
    kills=st.dictionaries(st.integers(1, 40), st.sampled_from(["before", "after"]), max_size=8),
)
def test_killed_again_and_again(story: Story, kills: dict[int, str]) -> None:
    _, end, _ = unharmed(story)
    _, seen = asyncio.run(told(story, Calls(kills)))
    assert seen == end


ERRORS: dict[str, tuple[str, Callable[[], ClusterError]]] = {
    "409": ("before", lambda: Conflict("the object has been modified")),
    "429": ("before", lambda: ClusterError("too many requests", status=429, retry_after=1.0)),
    # It may have happened all the same: nobody can tell from the answer.
    "timeout": ("after", lambda: ClusterError("no answer within 30 s")),
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_an_api_that_fails_at_any_write_delays_and_changes_nothing(story: Story, error: str) -> None:
    writes, end, _ = unharmed(story)
    moment, make = ERRORS[error]
    for number in range(1, writes + 1):
        _, seen = asyncio.run(told(story, Calls({number: moment}, make)))
        assert seen == end, (number, moment)


class Leapt(Exception):
    """Now the clock is another."""


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
@pytest.mark.parametrize("story", [fails_once_and_succeeds, is_suspended_and_resumed])
def test_a_clock_that_jumps_costs_no_restart_and_no_pod(story: Story, jump: float) -> None:
    writes, end, _ = unharmed(story)

    for number in range(1, writes + 1):
        driver = Driver()
        calls = Calls({number: "after"}, Leapt)

        def interfere(when: str, driver: Driver = driver, calls: Calls = calls) -> None:
            try:
                calls(when)
            except Leapt:
                driver.now += jump

        driver.interfere = interfere
        asyncio.run(story(driver))
        assert asyncio.run(picture(driver)) == end, number
