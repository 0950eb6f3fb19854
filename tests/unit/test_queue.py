"""The queue of keys: no event lost, no key twice at once, no key starved."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

from support.waiting import eventually
from trainwright.controller.queue import KeyedQueue


@contextlib.asynccontextmanager
async def at_work(queue: KeyedQueue, work: Callable[[str], Awaitable[float | None]], workers: int = 2) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.run(work, workers=workers))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_many_events_on_a_waiting_key_are_one_pass() -> None:
    queue, seen = KeyedQueue(), Counter[str]()

    async def work(key: str) -> None:
        seen[key] += 1

    for _ in range(100):
        queue.add("a")
    async with at_work(queue, work):
        await eventually(lambda: seen["a"] == 1)
        await asyncio.sleep(0.05)
    assert seen["a"] == 1


async def test_an_event_during_a_pass_gives_another_pass_and_never_two_at_once() -> None:
    queue = KeyedQueue()
    running = peak = passes = 0
    gate = asyncio.Event()

    async def work(_: str) -> None:
        nonlocal running, peak, passes
        running += 1
        passes += 1
        peak = max(peak, running)
        await gate.wait()
        running -= 1

    queue.add("a")
    async with at_work(queue, work, workers=4):
        await eventually(lambda: passes == 1)
        for _ in range(50):
            queue.add("a")
        gate.set()
        await eventually(lambda: passes == 2)
        await asyncio.sleep(0.05)
    assert (passes, peak) == (2, 1)


async def test_a_failing_key_comes_back_later_and_later_and_does_not_hold_up_others() -> None:
    queue, seen, times = KeyedQueue(), Counter[str](), []

    async def work(key: str) -> None:
        seen[key] += 1
        if key == "bad":
            times.append(asyncio.get_running_loop().time())
            raise RuntimeError("no")

    async with at_work(queue, work, workers=1):
        queue.add("bad")
        for number in range(20):
            queue.add(f"good-{number}")
        await eventually(lambda: sum(count for key, count in seen.items() if key != "bad") == 20, within=2)
        await eventually(lambda: len(times) >= 4, within=10)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[-1] > gaps[0]


async def test_a_busy_key_does_not_starve_another() -> None:
    queue, seen = KeyedQueue(), Counter[str]()

    async def work(key: str) -> float | None:
        seen[key] += 1
        return 0.0 if key == "busy" else None

    async with at_work(queue, work, workers=1):
        queue.add("busy")
        await eventually(lambda: seen["busy"] > 10)
        queue.add("quiet")
        await eventually(lambda: seen["quiet"] == 1, within=1)


async def test_the_earliest_wish_wins() -> None:
    queue, seen = KeyedQueue(), Counter[str]()

    async def work(key: str) -> None:
        seen[key] += 1

    async with at_work(queue, work):
        queue.add("a", delay=60)
        queue.add("a", delay=0.05)
        await eventually(lambda: seen["a"] == 1, within=2)
