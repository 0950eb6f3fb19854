"""The queue of `capacity`: how soon a freed GPU has its next job's pod, how fast many are let in, what a long queue costs."""

from __future__ import annotations

import asyncio
import time

from bench.driver import loaded
from bench.results import Figure
from bench.workload import gpu_job
from bench.world import GPUS_PER_NODE, NAMESPACE, NODE_COUNT, World, difference
from trainwright.cluster.port import PODS, TRAINING_JOBS, Object

WITHIN_SECONDS = 240.0
FREED = 10
REST_SECONDS = 20.0
MEGABYTE = 1e6


async def queue(world: World, jobs: int) -> list[Figure]:
    """A full cluster, and so many jobs behind, each of a whole node; then as many of one GPU, and room for all at once."""
    await _submit(world, "holder", NODE_COUNT, GPUS_PER_NODE, phase="Running")
    await _submit(world, "next", jobs, GPUS_PER_NODE, phase="Queued")
    await asyncio.sleep(3)
    used, began = _cpu(world), time.perf_counter()
    await asyncio.sleep(REST_SECONDS)
    rest = 100 * (_cpu(world) - used) / (time.perf_counter() - began)
    memory = world.operator.memory_info().rss / MEGABYTE
    freed = [await _freed(world) for _ in range(FREED)]
    turnover = await _turnover(world, jobs - FREED)
    await world.clear()
    rate, used_by = await _let_in(world, jobs)
    await world.clear()
    soon = f"{min(freed):.2f} to {max(freed):.2f} s"
    world.say(
        f"  {jobs} queued: next pod after {soon}; {rate:.0f} admissions a second, {turnover:.0f} with as many ends; "
        f"at rest {rest:.1f} % of a core, {memory:.0f} MB"
    )
    name = f"queue-{jobs}"
    return [
        Figure(name=f"{name}-freed", samples=freed),
        Figure(name=f"{name}-rate", samples=[rate], unit="a second", notes=used_by),
        Figure(name=f"{name}-turnover", samples=[turnover], unit="a second"),
        Figure(name=f"{name}-rest", samples=[rest], unit="% of a core", notes={"memory": memory}),
    ]


async def _submit(world: World, name: str, count: int, gpus: int, *, phase: str) -> None:
    seen = world.observer
    seen.forget()
    jobs = [gpu_job(f"{name}-{index}", gpus) for index in range(count)]
    async with loaded(world.kubeconfig, TRAINING_JOBS, jobs) as driver:
        await driver.go()
        await driver.done()
    what = f"{count} jobs that are {phase}"
    await seen.until(lambda: len(seen.phases.get(phase, {})) >= count, within=WITHIN_SECONDS, what=what)


async def _freed(world: World) -> float:
    """Seconds from the end of one pod to the creation of the next."""
    seen = world.observer
    seen.forget()
    pod, *_ = await _running(world)
    began = time.perf_counter()
    await world.finish([pod])
    mine = pod["metadata"]["name"]
    await seen.until(lambda: not set(seen.created) <= {mine}, within=WITHIN_SECONDS, what="the next job's pod")
    came = min(at for name, at in seen.created.items() if name != mine)
    await seen.until(lambda: not set(seen.running) <= {mine}, within=WITHIN_SECONDS, what="the next job's pod to run")
    return came - began


async def _let_in(world: World, count: int) -> tuple[float, dict[str, float]]:
    """Admissions a second when nodes for all come at once, from the first pod to the last; and who used how much CPU."""
    await world.cordon(range(NODE_COUNT), away=True)
    await _submit(world, "small", count, 1, phase="Queued")
    await asyncio.sleep(3)
    seen = world.observer
    seen.forget()
    used = world.cpu_seconds()
    await world.cordon(range(-(-count // GPUS_PER_NODE)), away=False)
    await seen.until(lambda: len(seen.created) >= count, within=WITHIN_SECONDS, what=f"pods of {count} jobs")
    at = seen.created.values()
    used_by = difference(used, world.cpu_seconds())
    await seen.until(lambda: len(seen.running) >= count, within=WITHIN_SECONDS, what=f"{count} jobs that run")
    await world.cordon(range(NODE_COUNT), away=False)
    return (count - 1) / (max(at) - min(at)), used_by


async def _turnover(world: World, waiting: int) -> float:
    """Jobs that come in a second when all that runs ends: each is the end of one and the admission of another."""
    seen = world.observer
    seen.forget()
    old = await _running(world)
    names = {pod["metadata"]["name"] for pod in old}
    count = min(waiting, len(old))
    began = time.perf_counter()
    await world.finish(old)
    await seen.until(
        lambda: len(set(seen.created) - names) >= count, within=WITHIN_SECONDS, what=f"pods of the next {count} jobs"
    )
    return count / (max(at for name, at in seen.created.items() if name not in names) - began)


async def _running(world: World) -> list[Object]:
    return [pod for pod in (await world.cluster.list(PODS, NAMESPACE)).items if pod["status"].get("phase") == "Running"]


def _cpu(world: World) -> float:
    return float(sum(world.operator.cpu_times()[:2]))
