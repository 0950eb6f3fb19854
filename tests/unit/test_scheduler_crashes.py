"""The operator killed at each of its writes while another scheduler lets a gang in, takes its room, or is done with: the same end,
no pod that nobody has let in, no object left behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support.builders import job
from support.driver import NAME, NAMESPACE, Driver, Killed
from support.pods import ScriptedKubelet, ended
from support.schedulers import ScriptedKueue, ScriptedScheduler, kinds, policy
from trainwright.api.scheduling import ProviderName
from trainwright.cluster.port import PODS, TRAINING_JOBS, Object

TOLD = (ProviderName.NATIVE, ProviderName.VOLCANO, ProviderName.COSCHEDULING, ProviderName.KAI, ProviderName.KUEUE)


class Calls:
    """Counts the operator's writes, and ends it at one of them."""

    def __init__(self, number: int = 0, moment: str = "") -> None:
        self.count = 0
        self._number, self._moment = number, moment

    def __call__(self, moment: str) -> None:
        self.count += moment == "before"
        if (self.count, moment) == (self._number, self._moment):
            self._number = 0
            raise Killed


class Other:
    """Whichever scheduler it is."""

    def __init__(self, driver: Driver, provider: ProviderName) -> None:
        self._driver = driver
        self._provider = provider
        self._kueue = ScriptedKueue(driver.cluster, NAMESPACE, NAME)
        self._scheduler = ScriptedScheduler(driver.cluster, provider, NAMESPACE)

    async def admit(self, attempt: int) -> None:
        if self._provider is ProviderName.KUEUE:
            await self._kueue.flavor("fast")
            await self._kueue.admit()
        else:
            await self._scheduler.admit(f"{NAME}-a{attempt}")
        await self._driver.settle()

    async def take(self, attempt: int) -> None:
        """Take the gang's room, in the way of this scheduler; others delete a pod."""
        if self._provider is ProviderName.KUEUE:
            await self._kueue.evict("Preempted", "for another")
        elif self._provider is ProviderName.NATIVE:
            await self._scheduler.preempt(f"{NAME}-a{attempt}", "for another")
        else:
            await self._driver.cluster.delete(PODS, f"{NAME}-a{attempt}-worker-0", NAMESPACE, grace_seconds=0)
        await self._driver.settle()


async def _ended(driver: Driver, kubelet: ScriptedKubelet) -> None:
    for _ in range(2):
        await kubelet.confirm_deletions(NAME)
        await driver.settle()


async def taken_and_let_in_again(driver: Driver, provider: ProviderName) -> None:
    kubelet, other = ScriptedKubelet(driver.cluster, NAMESPACE), Other(driver, provider)
    await other.admit(1)
    await kubelet.run_all(NAME)
    await driver.settle()
    await other.take(1)
    await _ended(driver, kubelet)
    await other.admit(2)
    await kubelet.run_all(NAME)
    await driver.settle()
    await kubelet.end_all(NAME)
    await driver.settle()


async def failed_and_suspended(driver: Driver, provider: ProviderName) -> None:
    kubelet, other = ScriptedKubelet(driver.cluster, NAMESPACE), Other(driver, provider)
    await other.admit(1)
    await kubelet.run_all(NAME)
    await driver.settle()
    await kubelet.become(ended((await kubelet.pods(NAME))[0], 137))
    await driver.settle()
    await _ended(driver, kubelet)
    await driver.cluster.patch(TRAINING_JOBS, NAME, NAMESPACE, {"spec": {"runPolicy": {"suspend": True}}})
    await driver.settle()
    await _ended(driver, kubelet)


STORIES: list[Callable[[Driver, ProviderName], Awaitable[None]]] = [taken_and_let_in_again, failed_and_suspended]


async def told(story: Callable[[Driver, ProviderName], Awaitable[None]], provider: ProviderName, calls: Calls) -> Object:
    """What is left at the end of a story."""
    driver = Driver(calls, scheduler=provider)
    made = job(NAME).workers(2).run_policy(**policy(provider))
    await driver.cluster.create(TRAINING_JOBS, made.build())
    await driver.settle()
    await story(driver, provider)
    left: dict[str, Any] = {
        resource.kind: sorted(one["metadata"]["name"] for one in (await driver.cluster.list(resource)).items)
        for resource in (PODS, *kinds(provider))
    }
    status = await driver.status()
    left["job"] = {name: status.get(name) for name in ("phase", "attempt", "restarts")}
    left["job"]["restarts"] = {name: status["restarts"][name] for name in ("failure", "infrastructure")}
    return left


@pytest.mark.parametrize("provider", TOLD, ids=str)
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_killed_at_any_write_the_next_operator_brings_the_gang_to_the_same_end(
    story: Callable[[Driver, ProviderName], Awaitable[None]], provider: ProviderName
) -> None:
    calls = Calls()
    end = asyncio.run(told(story, provider, calls))
    gone = [] if provider is not ProviderName.KUEUE else ["trainingjob-digits"]
    assert [end[resource.kind] for resource in kinds(provider)] == [gone] * len(kinds(provider))
    assert end["job"]["phase"] == ("Succeeded" if story is taken_and_let_in_again else "Suspended")
    for number in range(1, calls.count + 1):
        for moment in ("before", "after"):
            assert asyncio.run(told(story, provider, Calls(number, moment))) == end, (number, moment)
