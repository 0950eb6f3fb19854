"""A simulated week of a cluster of GPUs under three ways to give them to jobs: `capacity` as it is, whole gangs in the order in
which they came, and plain pods that the cluster's scheduler places one by one.

The first asks the very code that the operator asks (`schedulers.capacity.queue.decide`). Time is simulated, so the figures are
the same on every machine; what is assumed of people and programs stands in the constants.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.results import Figure
from trainwright.api.names import GPU
from trainwright.local import environments
from trainwright.local.paths import checkout
from trainwright.schedulers.capacity.amounts import Amounts
from trainwright.schedulers.capacity.nodes import Node, Shape
from trainwright.schedulers.capacity.queue import Gang, decide

HOUR = 3600.0
WEEK = 7 * 24 * HOUR
NODES, GPUS = 16, 8
SAMPLE = HOUR / 4
RESTART = 120.0
"""Seconds until a gang that was preempted trains again once it has its GPUs; what it had trained was saved."""
GRACE = 30.0
"""Seconds that a preempted gang takes to save and to end."""
PATIENCE = 2 * HOUR
"""Plain pods: when a person deletes a job that has had some of its GPUs, and not all, for so long, and submits it again."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Jobs of one kind: `share` of all GPU hours asked for, `hours` of training at least and at most."""

    name: str
    share: float
    workers: Sequence[int]
    gpus: int
    hours: tuple[float, float]
    priority: int = 0


KINDS = (
    Kind(name="small", share=0.2, workers=(1,), gpus=1, hours=(0.2, 2)),
    Kind(name="middle", share=0.35, workers=(1, 2, 4), gpus=4, hours=(1, 6)),
    Kind(name="large", share=0.4, workers=(4, 8), gpus=8, hours=(4, 12)),
    Kind(name="urgent", share=0.05, workers=(1, 2), gpus=8, hours=(0.3, 1), priority=1000),
)


@dataclass(kw_only=True)
class Job:
    """`left`: seconds still to train. `waits`: seconds without all of its GPUs, from when it came."""

    number: int
    kind: Kind
    workers: int
    arrives: float
    left: float
    started: float | None = None
    since: float = 0.0
    ends: float | None = None
    where: list[int] = field(default_factory=list)
    stops: float | None = None

    @property
    def gpus(self) -> int:
        return self.workers * self.kind.gpus


def trace(load: float, seed: int) -> list[Job]:
    """A week's jobs that ask for `load` of the cluster's GPU hours, more of them by day than by night."""
    chance = random.Random(seed)
    jobs: list[Job] = []
    for kind in KINDS:
        wanted = load * kind.share * NODES * GPUS * WEEK
        while wanted > 0:
            workers = chance.choice(list(kind.workers))
            length = chance.uniform(*kind.hours) * HOUR
            arrives = chance.uniform(0, WEEK)
            by_day = 9 <= arrives / HOUR % 24 < 19
            if not by_day and chance.random() < 0.6:
                continue
            jobs.append(Job(number=len(jobs), kind=kind, workers=workers, arrives=arrives, left=length))
            wanted -= workers * kind.gpus * length
    jobs.sort(key=lambda job: job.arrives)
    for number, job in enumerate(jobs):
        job.number = number
    return jobs


class Policy(Protocol):
    """Gives free GPUs to jobs that wait; tells of those that must stop."""

    def place(self, now: float, waiting: list[Job], running: list[Job], free: list[int], /) -> Iterator[tuple[Job, list[int]]]:
        """Jobs that start now, with the node of each worker; `free` is changed as they are given out."""
        ...

    def idle(self) -> int:
        """GPUs that jobs hold without training, because they lack others."""
        ...


@dataclass(frozen=True, kw_only=True)
class Week:
    """What came of it. `busy`: share of GPUs that trained, by quarter of an hour; `held`: share held in vain."""

    name: str
    busy: list[float]
    held: list[float]
    waits: dict[str, list[float]]
    done: int
    jobs: int

    @property
    def utilisation(self) -> float:
        return statistics.fmean(self.busy)


def simulate(name: str, policy: Policy, jobs: list[Job]) -> Week:
    """Until the week is over."""
    free = [GPUS] * NODES
    waiting: list[Job] = []
    running: list[Job] = []
    times = [(job.arrives, next(_TIE), "comes", job) for job in jobs]
    samples = [(moment * SAMPLE, next(_TIE), "sample", None) for moment in range(1, int(WEEK / SAMPLE) + 1)]
    queue: list[tuple[float, int, str, Job | None]] = [*times, *samples]
    heapq.heapify(queue)
    busy: list[float] = []
    held: list[float] = []
    trained, last = 0.0, 0.0
    while queue and queue[0][0] <= WEEK:
        now, _, what, job = heapq.heappop(queue)
        trained += (now - last) * sum(one.gpus for one in running if one.stops is None)
        last = now
        if what == "sample":
            busy.append(trained / (SAMPLE * NODES * GPUS))
            held.append(policy.idle() / (NODES * GPUS))
            trained = 0.0
        elif what == "comes" and job is not None:
            waiting.append(job)
        elif what == "ends" and job is not None:
            if job not in running or now not in {job.ends, job.stops}:
                continue
            running.remove(job)
            for node in job.where:
                free[node] += job.kind.gpus
            if job.stops == now:
                job.stops, job.where, job.ends = None, [], None
                waiting.append(job)
        for one, where in policy.place(now, waiting, running, free):
            waiting.remove(one)
            again = RESTART if one.started is not None else 0.0
            one.started = now if one.started is None else one.started
            one.where, one.since, one.ends = where, now, now + one.left + again
            running.append(one)
            heapq.heappush(queue, (one.ends, next(_TIE), "ends", one))
        for one in running:
            if one.stops is not None and one.ends is not None:
                one.left, one.ends = max(0.0, one.ends - now), None
                heapq.heappush(queue, (one.stops, next(_TIE), "ends", one))
    waits: dict[str, list[float]] = {kind.name: [] for kind in KINDS}
    for job in jobs:
        waits[job.kind.name].append((job.started if job.started is not None else WEEK) - job.arrives)
    done = sum(job.started is not None and job not in running and job not in waiting for job in jobs)
    return Week(name=name, busy=busy, held=held, waits=waits, done=done, jobs=len(jobs))


_TIE = itertools.count()


class Capacity:
    """As the operator decides: by priority and age, places kept for the first, the urgent take room from others."""

    def __init__(self) -> None:
        self._nodes = [Node(name=f"n{number:02d}", allocatable={GPU: GPUS * 1000}) for number in range(NODES)]

    def place(self, now: float, waiting: list[Job], running: list[Job], free: list[int]) -> Iterator[tuple[Job, list[int]]]:
        gangs = [self._gang(job, now) for job in (*waiting, *running)]
        used: dict[str, Amounts] = {node.name: {GPU: (GPUS - left) * 1000} for node, left in zip(self._nodes, free, strict=True)}
        decision = decide(self._nodes, used, {}, gangs)
        for job in list(waiting):
            answer = decision.answers[str(job.number)]
            if answer.admitted:
                where = [int(answer.places[index][1:]) for index in range(job.workers)]
                for node in where:
                    free[node] -= job.kind.gpus
                yield job, where
        for job in running:
            if decision.answers[str(job.number)].evicted and job.stops is None:
                job.stops = now + GRACE

    def idle(self) -> int:
        return 0

    def _gang(self, job: Job, now: float) -> Gang:
        shape = Shape(workers=job.workers, request=((GPU, job.kind.gpus * 1000),))
        held: dict[str, dict[str, int]] = {}
        for node in job.where:
            takes = held.setdefault(f"n{node:02d}", {GPU: 0})
            takes[GPU] += job.kind.gpus * 1000
        return Gang(
            uid=str(job.number),
            name=str(job.number),
            shape=shape,
            created=f"{job.arrives:012.1f}",
            priority=job.kind.priority,
            holding=bool(job.where),
            since=f"{job.since:012.1f}",
            there={index: f"n{node:02d}" for index, node in enumerate(job.where)},
            held=held,
            unsaved=job.gpus * (now - job.since) if job.where else 0.0,
            evicted="told" if job.stops is not None else "",
        )


class Fifo:
    """Whole gangs, the oldest first: who is behind one that doesn't fit waits, whatever is free."""

    def place(self, _now: float, waiting: list[Job], _running: list[Job], free: list[int]) -> Iterator[tuple[Job, list[int]]]:
        for job in sorted(waiting, key=lambda job: job.arrives):
            where = _first_fit(job.workers, job.kind.gpus, free)
            if where is None:
                return
            yield job, where

    def idle(self) -> int:
        return 0


class Plain:
    """Each pod as soon as there is room for it, the oldest first. A job trains once it has all."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[Job, list[int], float]] = {}
        self._again: dict[int, float] = {}

    def place(self, now: float, waiting: list[Job], _running: list[Job], free: list[int]) -> Iterator[tuple[Job, list[int]]]:
        for number, (job, where, since) in list(self._held.items()):
            if now - since > PATIENCE:
                for node in where:
                    free[node] += job.kind.gpus
                del self._held[number]
                self._again[number] = now
        for job in sorted(waiting, key=lambda job: self._again.get(job.number, job.arrives)):
            _, where, since = self._held.get(job.number, (job, [], now))
            while len(where) < job.workers and (more := _first_fit(1, job.kind.gpus, free)) is not None:
                where = [*where, *more]
            if len(where) == job.workers:
                self._held.pop(job.number, None)
                yield job, where
            elif where:
                self._held[job.number] = (job, where, since)

    def idle(self) -> int:
        return sum(len(where) * job.kind.gpus for job, where, _ in self._held.values())


def _first_fit(workers: int, gpus: int, free: list[int]) -> list[int] | None:
    """The fullest nodes that will do, taken from `free`; None, and nothing taken, when there are too few."""
    found: list[int] = []
    for _ in range(workers):
        node = min((one for one in range(len(free)) if free[one] >= gpus), key=lambda one: free[one], default=None)
        if node is None:
            for one in found:
                free[one] += gpus
            return None
        free[node] -= gpus
        found.append(node)
    return found


POLICIES = (("capacity", Capacity), ("first come, first served", Fifo), ("plain pods", Plain))


def weeks(load: float = 0.9, seed: int = 1) -> list[Week]:
    """The same jobs under each policy."""
    return [simulate(name, policy(), trace(load, seed)) for name, policy in POLICIES]


def measure(folder: Path, *, seeds: int = 2) -> list[Figure]:
    """Utilisation over several weeks; the first is left as JSON for whoever draws it."""
    runs = [weeks(seed=seed) for seed in range(1, seeds + 1)]
    folder.mkdir(parents=True, exist_ok=True)
    told = [{"name": one.name, "busy": one.busy, "held": one.held, "waits": _hours(one), "done": one.done} for one in runs[0]]
    (folder / "week.json").write_text(json.dumps({"sample": SAMPLE, "weeks": told}))
    by = {name: [run[index] for run in runs] for index, (name, _) in enumerate(POLICIES)}
    shares = {name: [100 * one.utilisation for one in found] for name, found in by.items()}
    notes = {name: [{"done": one.done, "jobs": one.jobs, "wait": _hours(one)} for one in found] for name, found in by.items()}
    return [
        Figure(name="week-capacity", samples=shares["capacity"], unit="%", notes=notes),
        Figure(name="week-beside-fifo", samples=shares["capacity"], floor=shares["first come, first served"], unit="%"),
        Figure(name="week-beside-plain", samples=shares["capacity"], floor=shares["plain pods"], unit="%"),
    ]


async def draw(folder: Path, say: Callable[[str], None]) -> Path:
    """The picture of what `measure` left there, by the environment of a trainer, which has matplotlib."""
    picture, trainer = folder / "week.png", checkout() / "trainer_images" / "sklearn"
    await environments.ensure(trainer, say)
    program = Path(__file__).with_name("plot_week.py")
    drawing = await asyncio.create_subprocess_exec(trainer / ".venv" / "bin" / "python", program, folder / "week.json", picture)
    if await drawing.wait():
        raise RuntimeError(f"{program.name} ended with {drawing.returncode}")
    return picture


def _hours(week: Week) -> dict[str, float]:
    """Median wait of each kind of job."""
    return {name: round(statistics.median(waits) / HOUR, 2) for name, waits in week.waits.items()}
