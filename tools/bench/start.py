"""From `kubectl apply` to Running: one large gang, many small ones, and how it grows; beside the same pods created bare."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from typing import Any

from bench.driver import loaded
from bench.results import Figure
from bench.workload import bare_pods, small_job
from bench.world import World, difference
from trainwright.cluster.port import PODS, TRAINING_JOBS, Object, Resource

WITHIN_SECONDS = 240.0
_numbers = itertools.count()


@dataclass(frozen=True)
class Start:
    """Seconds since the first request: last pod created, last pod running, last status Running (0 for bare pods)."""

    created: float
    running: float
    status: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)


async def gang(world: World, workers: int, *, repeats: int) -> list[Figure]:
    """One job of so many workers."""
    floors, jobs = await _in_turns(world, jobs=1, workers=workers, repeats=repeats)
    world.say(f"  {workers} workers: floor {_shown(floors)}; job {_shown(jobs)}")
    name = f"gang-{workers}"
    notes = _notes(floors, jobs)
    return [
        Figure(name=f"{name}-created", samples=[one.created for one in jobs], floor=[one.created for one in floors], notes=notes),
        Figure(name=f"{name}-status", samples=[one.status - one.running for one in jobs]),
    ]


async def many(world: World, jobs: int, *, repeats: int) -> list[Figure]:
    """So many jobs of two workers at once."""
    floors, starts = await _in_turns(world, jobs=jobs, workers=2, repeats=repeats)
    world.say(f"  {jobs} jobs of 2: floor {_shown(floors)}; jobs {_shown(starts)}")
    floor = [one.running for one in floors]
    return [
        Figure(name=f"jobs-{jobs}-pods", samples=[one.running for one in starts], floor=floor, notes=_notes(floors, starts)),
        Figure(name=f"jobs-{jobs}-status", samples=[one.status for one in starts], floor=floor),
    ]


async def growth(world: World) -> list[Figure]:
    """300 jobs of two and 1,000: the time per pod, of the jobs and of bare pods."""
    few_floors, few = await _in_turns(world, jobs=300, workers=2, repeats=2)
    world.say(f"  300 jobs of 2: floor {_shown(few_floors)}; jobs {_shown(few)}")
    more_floors, more = await _in_turns(world, jobs=1000, workers=2, repeats=1)
    world.say(f"  1,000 jobs of 2: floor {_shown(more_floors)}; jobs {_shown(more)}")
    notes = {"300": _notes(few_floors, few), "1000": _notes(more_floors, more)}
    return [
        Figure(
            name="jobs-growth",
            samples=[one.running / 2000 for one in more],
            floor=[one.running / 600 for one in few],
            unit="s a pod",
            notes=notes,
        ),
        Figure(
            name="floor-growth",
            samples=[one.running / 2000 for one in more_floors],
            floor=[one.running / 600 for one in few_floors],
            unit="s a pod",
        ),
    ]


async def _in_turns(world: World, *, jobs: int, workers: int, repeats: int) -> tuple[list[Start], list[Start]]:
    floors, starts = [], []
    for repeat in range(repeats):
        turns = [True, False] if repeat % 2 == 0 else [False, True]
        for is_floor in turns:
            if is_floor:
                name = f"bare-{next(_numbers)}"
                floors.append(await _started(world, PODS, bare_pods(name, jobs * workers), pods=jobs * workers, jobs=0))
            else:
                name = f"job-{next(_numbers)}"
                submitted = [small_job(f"{name}-{index}", workers) for index in range(jobs)]
                starts.append(await _started(world, TRAINING_JOBS, submitted, pods=jobs * workers, jobs=jobs))
    return floors, starts


async def _started(world: World, resource: Resource, objects: list[Object], *, pods: int, jobs: int) -> Start:
    seen = world.observer
    seen.forget()
    async with loaded(world.kubeconfig, resource, objects) as driver:
        before = world.cpu_seconds()
        began = time.perf_counter()
        await driver.go()
        await driver.done()
        what = f"{pods} pods that run" + (f" and {jobs} jobs that say so" if jobs else "")
        await seen.until(
            lambda: len(seen.running) >= pods and len(seen.phases.get("Running", {})) >= jobs, within=WITHIN_SECONDS, what=what
        )
        cpu = difference(before, world.cpu_seconds() | {"driver": driver.cpu_seconds()})
    start = Start(
        created=max(seen.created.values()) - began,
        running=max(seen.running.values()) - began,
        status=max(seen.phases["Running"].values()) - began if jobs else 0.0,
        cpu=cpu,
    )
    await world.clear()
    return start


def _shown(starts: list[Start]) -> str:
    shown = [f"{one.created:.2f}/{one.running:.2f}" + (f"/{one.status:.2f}" if one.status else "") for one in starts]
    return f"{', '.join(shown)} s"


def _notes(floors: list[Start], jobs: list[Start]) -> dict[str, Any]:
    return {"floor": [vars(one) for one in floors], "jobs": [vars(one) for one in jobs]}


async def warm_up(world: World) -> None:
    """The first of everything is slower: connections, caches, code that is read."""
    await _in_turns(world, jobs=10, workers=5, repeats=1)
