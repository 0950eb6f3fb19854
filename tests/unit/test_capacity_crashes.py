"""The operator killed at, or refused, every one of its writes while `capacity` decides: the same end, no room held by nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from test_crashes import (
    ERRORS,
    Calls,
    fails_once_and_succeeds,
    is_suspended_and_resumed,
    loses_a_pod,
    picture,
    succeeds,
)

from support.builders import job
from support.driver import NAME, NAMESPACE, Driver
from support.gangs import put_class, put_node
from support.pods import ScriptedKubelet
from trainwright.api.scheduling import ProviderName
from trainwright.cluster.port import PODS, TRAINING_JOBS, Invalid

Story = Callable[[Driver], Awaitable[None]]
OTHER = "other"


def wanted(name: str, workers: int = 2, **policy: Any) -> dict[str, Any]:
    return job(name).workers(workers).gpus(2).run_policy(schedulingPolicy={"provider": "capacity", **policy}).build()


async def _apply(driver: Driver, *jobs: dict[str, Any]) -> None:
    for one in jobs:
        await driver.cluster.create(TRAINING_JOBS, one)
        await driver.settle(NAME, OTHER)


async def waits_and_gets_the_room_of_another(driver: Driver) -> None:
    kubelet = ScriptedKubelet(driver.cluster, NAMESPACE)
    await _apply(driver, wanted(NAME), wanted(OTHER))
    for name in (NAME, OTHER):
        await kubelet.run_all(name)
        await driver.settle(NAME, OTHER)
        await kubelet.end_all(name)
        await driver.settle(NAME, OTHER)


async def makes_room_and_goes_on(driver: Driver) -> None:
    await put_class(driver.cluster, "urgent", 100)
    kubelet = ScriptedKubelet(driver.cluster, NAMESPACE)
    await _apply(driver, wanted(NAME))
    await kubelet.run_all(NAME)
    await driver.settle(NAME, OTHER)
    await _apply(driver, wanted(OTHER, priorityClass="urgent"))
    await kubelet.confirm_deletions(NAME)
    await driver.settle(NAME, OTHER)
    for name in (OTHER, NAME):
        await kubelet.run_all(name)
        await driver.settle(NAME, OTHER)
        await kubelet.end_all(name)
        await driver.settle(NAME, OTHER)


async def finds_no_node_in_time_and_is_tried_again(driver: Driver) -> None:
    await _apply(driver, wanted(NAME, scheduleTimeoutSeconds=100))
    driver.now += 101
    await driver.settle(NAME, OTHER)
    kubelet = ScriptedKubelet(driver.cluster, NAMESPACE)
    await kubelet.run_all(NAME)
    await driver.settle(NAME, OTHER)
    await kubelet.end_all(NAME)
    await driver.settle(NAME, OTHER)


STORIES: list[Story] = [
    succeeds,
    fails_once_and_succeeds,
    loses_a_pod,
    is_suspended_and_resumed,
    waits_and_gets_the_room_of_another,
    makes_room_and_goes_on,
    finds_no_node_in_time_and_is_tried_again,
]


async def told(story: Story, calls: Calls) -> tuple[Driver, dict[str, Any]]:
    """A cluster in which one gang of two workers with two GPUs has room; no gang that is there in part may ever have it to itself."""
    driver = Driver(calls, scheduler=ProviderName.CAPACITY)
    await put_node(driver.cluster, "node-1", 4)
    await story(driver)
    end = await picture(driver)
    for one in (await driver.cluster.list(TRAINING_JOBS)).items:
        status = dict(one["status"])
        end[one["metadata"]["name"]] = (status["phase"], status["attempt"], status["restarts"])
    return driver, _without_times(end)


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(below) for key, below in value.items() if key != "time"}
    return [_without_times(one) for one in value] if isinstance(value, list | tuple) else value


def unharmed(story: Story) -> tuple[int, dict[str, Any]]:
    calls = Calls()
    _, end = asyncio.run(told(story, calls))
    return calls.count, end


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_killed_at_any_write_the_next_operator_brings_all_jobs_to_the_same_end(story: Story) -> None:
    writes, end = unharmed(story)
    assert writes >= 8
    for number in range(1, writes + 1):
        for moment in ("before", "after"):
            driver, seen = asyncio.run(told(story, Calls({number: moment})))
            assert driver.kills == 1, (number, moment)
            assert seen == end, (number, moment)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("story", STORIES[4:], ids=lambda story: story.__name__)
def test_an_api_that_fails_at_any_write_delays_and_changes_nothing(story: Story, error: str) -> None:
    writes, end = unharmed(story)
    moment, make = ERRORS[error]
    for number in range(1, writes + 1):
        _, seen = asyncio.run(told(story, Calls({number: moment}, make)))
        assert seen == end, (number, moment)


async def test_a_preemption_is_written_down_before_a_pod_is_stopped_and_found_by_the_next_operator() -> None:
    driver = Driver(scheduler=ProviderName.CAPACITY)
    await put_node(driver.cluster, "node-1", 4)
    await makes_room_and_goes_on(driver)
    low, high = await driver.status(NAME), await driver.status(OTHER)
    assert (low["phase"], low["attempt"], low["restarts"]["infrastructure"], low["restarts"]["failure"]) == ("Succeeded", 2, 1, 0)
    assert low["restarts"]["last"]["evidence"] == "attempt 1 preempted by default/other (priority 100, this job's 0)"
    assert (high["phase"], high["attempt"]) == ("Succeeded", 1)


async def test_pods_that_the_api_server_refuses_give_their_room_to_others() -> None:
    """A quota takes one pod of the first gang: what was made goes again, the other gang runs, and the first is tried later."""
    driver = Driver(scheduler=ProviderName.CAPACITY)
    await put_node(driver.cluster, "node-1", 4)
    refusing = {f"{NAME}-a{attempt}-worker-1" for attempt in range(1, 20)}
    create = driver.cluster.create

    async def limited(resource: Any, obj: dict[str, Any]) -> dict[str, Any]:
        if resource is PODS and obj["metadata"]["name"] in refusing:
            raise Invalid("exceeded quota: gpus, requested: 2, used: 2, limited: 2")
        return await create(resource, obj)

    driver.cluster.create = limited  # type: ignore[method-assign]
    await driver.cluster.create(TRAINING_JOBS, wanted(NAME))
    driver.now += 1
    await driver.cluster.create(TRAINING_JOBS, wanted(OTHER))
    await driver.settle(NAME, OTHER, patience=4)
    names = {pod["metadata"]["name"] for pod in (await driver.cluster.list(PODS)).items}
    assert names == {"other-a1-worker-0", "other-a1-worker-1"}
    status = await driver.status(NAME)
    assert status["phase"] == "Queued"
    assert "exceeded quota" in status["reason"]
    kubelet = ScriptedKubelet(driver.cluster, NAMESPACE)
    await kubelet.run_all(OTHER)
    await kubelet.end_all(OTHER)
    refusing.clear()
    driver.now += 600
    await driver.settle(NAME, OTHER)
    pods = [pod for pod in (await driver.cluster.list(PODS)).items if pod["status"]["phase"] == "Pending"]
    assert len(pods) == 2
