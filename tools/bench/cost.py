"""What jobs cost while they live: requests of a whole life, memory and CPU of the operator."""

from __future__ import annotations

import asyncio
import statistics
import time

from bench.driver import loaded
from bench.results import Figure
from bench.workload import small_job, usual_job
from bench.world import NAMESPACE, Requests, World
from trainwright.cluster.port import PODS, TRAINING_JOBS, Object
from trainwright.controller.operator import RESYNC_SECONDS

WITHIN_SECONDS = 240.0
WORKERS = 4
SCRAPES = 10
MEGABYTE = 1e6


async def requests(world: World, *, jobs: int) -> list[Figure]:
    """A whole life of so many jobs without failures, by the operator's own count."""
    usual = await _lives(world, [usual_job(f"usual-{index}", WORKERS) for index in range(jobs)])
    small = await _lives(world, [small_job(f"small-{index}", WORKERS) for index in range(jobs)])
    world.say(f"  {jobs} lives of {WORKERS} workers: {_by_verb(usual)}; of small jobs: {_by_verb(small)}")
    return [
        Figure(name="requests-job", samples=[_beside_pods(usual) / jobs], unit="a job", notes={"counts": _by_verb(usual)}),
        Figure(name="requests-pod", samples=[usual.get(("create", "pods"), 0) / (jobs * WORKERS)], unit="a pod"),
        Figure(name="requests-job-small", samples=[_beside_pods(small) / jobs], unit="a job", notes={"counts": _by_verb(small)}),
    ]


async def burden(world: World, *, jobs: int, seconds: float) -> list[Figure]:
    """Memory and CPU of the operator with so many jobs of two that run, and then with as many that have ended."""
    await _run(world, [small_job(f"burden-{index}", 2) for index in range(jobs)])
    await asyncio.sleep(5)
    world.say(f"  {jobs} jobs run; the operator is watched for {seconds:g} s")
    running = await _load(world, seconds)
    memory = world.operator.memory_info().rss / MEGABYTE
    await _finish(world, jobs)
    await asyncio.sleep(10)
    # A whole round of comparing with lists: more than a window that happens to miss it, less than one that is all of it.
    seconds = RESYNC_SECONDS
    world.say(f"  {jobs} jobs have ended; the operator is watched for {seconds:g} s")
    idle = await _load(world, seconds)
    after = world.operator.memory_info().rss / MEGABYTE
    await world.clear()
    return [
        Figure(name="operator-memory", samples=[memory], unit="MB", notes={"finished": after}),
        Figure(name="operator-idle", samples=[idle], unit="% of a core"),
        Figure(name="operator-running", samples=[running], unit="% of a core"),
    ]


async def scrapes(world: World, *, jobs: int) -> list[Figure]:
    """What a scrape of the operator takes with so many running jobs, and how much it is."""
    await _run(world, [small_job(f"scraped-{index}", 2) for index in range(jobs)])
    seconds, cpu, size = [], [], 0
    for _ in range(SCRAPES):
        before, began = sum(world.operator.cpu_times()[:2]), time.perf_counter()
        size = len((await world.scrape()).encode())
        seconds.append(time.perf_counter() - began)
        cpu.append(sum(world.operator.cpu_times()[:2]) - before)
    await world.clear()
    world.say(f"  a scrape of {jobs} jobs: {size / 1e3:.0f} kB in {statistics.median(seconds):.2f} s")
    return [
        Figure(name="scrape-time", samples=seconds, notes={"cpu": cpu}),
        Figure(name="scrape-size", samples=[size / jobs], unit="bytes a job"),
    ]


async def _lives(world: World, jobs: list[Object]) -> Requests:
    before = await world.requests()
    await _run(world, jobs)
    await asyncio.sleep(2)
    await _finish(world, len(jobs))
    await asyncio.sleep(2)
    after = await world.requests()
    await world.clear()
    return {key: count - before.get(key, 0) for key, count in after.items() if count > before.get(key, 0)}


async def _run(world: World, jobs: list[Object]) -> None:
    seen = world.observer
    seen.forget()
    async with loaded(world.kubeconfig, TRAINING_JOBS, jobs) as driver:
        await driver.go()
        await driver.done()
    await seen.until(lambda: len(seen.phases.get("Running", {})) == len(jobs), within=WITHIN_SECONDS, what="all jobs Running")


async def _finish(world: World, jobs: int) -> None:
    seen = world.observer
    await world.finish((await world.cluster.list(PODS, NAMESPACE)).items)
    await seen.until(lambda: len(seen.phases.get("Succeeded", {})) == jobs, within=WITHIN_SECONDS, what="all jobs Succeeded")


async def _load(world: World, seconds: float) -> float:
    """The operator's share of a core, in percent."""
    before, began = sum(world.operator.cpu_times()[:2]), time.perf_counter()
    await asyncio.sleep(seconds)
    return 100 * (sum(world.operator.cpu_times()[:2]) - before) / (time.perf_counter() - began)


def _beside_pods(counts: Requests) -> int:
    return sum(count for (verb, resource), count in counts.items() if (verb, resource) != ("create", "pods") and verb != "delete")


def _by_verb(counts: Requests) -> dict[str, int]:
    return {f"{verb} {resource}": count for (verb, resource), count in sorted(counts.items())}
