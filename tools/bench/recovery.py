"""A worker is killed: how long until the next attempt has done its first step, and where the time goes. On the local twin."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import yaml

from bench.results import Figure
from bench.twin import NAMESPACE, no_pods, progress_of, twin
from bench.waiting import until
from trainwright.api.names import ATTEMPT_LABEL, INDEX_LABEL, JOB_LABEL
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import PODS, TRAINING_JOBS, Object
from trainwright.controller.store import Store
from trainwright.local.paths import checkout

SAMPLE = Path("manifests") / "samples" / "digits.yaml"
VICTIM = 1
WITHIN_SECONDS = 120.0
PHASES = ("failure seen", "attempt begun", "pods created", "processes run", "port answers", "first step")
"""Each phase ends with what its name says; the times are of the whole since the kill, in this order."""


class Story:
    """When things of one job happened first, by one watch."""

    def __init__(self, job: str) -> None:
        self.times: dict[str, float] = {}
        self.attempt = 0
        self.addresses: dict[int, str] = {}
        self._job = job
        self._running: dict[int, set[str]] = {}

    def saw_job(self, job: Object) -> None:
        status = job.get("status", {})
        if job["metadata"]["name"] == self._job and status.get("attempt", 0) > self.attempt:
            self.attempt = status["attempt"]
            self._mark("attempt begun", self.attempt)

    def saw_pod(self, pod: Object) -> None:
        labels = pod["metadata"].get("labels", {})
        if labels.get(JOB_LABEL) != self._job:
            return
        attempt, phase = int(labels[ATTEMPT_LABEL]), pod["status"].get("phase")
        self._mark("pods created", attempt)
        if phase == "Failed":
            self._mark("failure seen", attempt + 1)
        if phase == "Running":
            running = self._running.setdefault(attempt, set())
            running.add(pod["metadata"]["name"])
            if labels[INDEX_LABEL] == "0":
                self.addresses[attempt] = pod["status"]["podIP"]
            if len(running) == 2:
                self._mark("processes run", attempt)

    def mark(self, what: str, attempt: int) -> None:
        self._mark(what, attempt)

    def of(self, attempt: int) -> dict[str, float]:
        """Times of the start of an attempt."""
        return {what: self.times[f"{what} {attempt}"] for what in PHASES if f"{what} {attempt}" in self.times}

    def _mark(self, what: str, attempt: int) -> None:
        self.times.setdefault(f"{what} {attempt}", time.perf_counter())


async def recovery(*, repeats: int, say: Callable[[str], None]) -> Figure:
    """So many kills, each of a worker of a fresh job: a job's second failure would be held back on purpose."""
    whole, parts = [], []
    async with twin(say) as cluster:
        for repeat in range(repeats):
            times = await _killed_once(cluster, f"digits-{repeat}")
            whole.append(times["first step"])
            parts.append(_split(times))
            say("  " + ", ".join(f"{what} {seconds:.2f}" for what, seconds in parts[-1].items()) + f": {whole[-1]:.2f} s")
    medians = {what: round(statistics.median(part[what] for part in parts), 3) for what in PHASES}
    return Figure(name="recovery", samples=whole, notes={"phases": parts, "medians": medians})


async def _killed_once(cluster: KubeCluster, name: str) -> dict[str, float]:
    """Train, kill a worker once there is a checkpoint, wait for the next attempt's first step: seconds since the kill."""
    story = Story(name)
    stores = [
        Store(cluster, PODS, namespace=NAMESPACE, on_change=story.saw_pod),
        Store(cluster, TRAINING_JOBS, namespace=NAMESPACE, on_change=story.saw_job),
    ]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(store.run()) for store in stores]
        await cluster.create(TRAINING_JOBS, _job(name))
        await _until_checkpoint(story, 1)
        began = time.perf_counter()
        _kill(name)
        await _stepping(story, 2)
        await cluster.delete(TRAINING_JOBS, name, NAMESPACE)
        for task in tasks:
            task.cancel()
    await no_pods(cluster)
    return {what: when - began for what, when in story.of(2).items()}


def _split(times: dict[str, float]) -> dict[str, float]:
    """Seconds from each phase's end to the next one's; what happened before its predecessor took no time of its own."""
    split, before = {}, 0.0
    for what in PHASES:
        split[what] = max(0.0, times[what] - before)
        before = max(before, times[what])
    return split


def _job(name: str) -> Object:
    """The sample's job, long enough to be killed."""
    job: Object = yaml.safe_load((checkout() / SAMPLE).read_text())
    job["metadata"] = {"name": name, "namespace": NAMESPACE}
    job["spec"]["recipe"]["config"] |= {"epochs": 500, "step_delay_seconds": 0.05}
    job["spec"]["checkpoint"] = {"everySteps": 20, "keep": 2}
    return job


async def _stepping(story: Story, attempt: int) -> None:
    """Return when worker 0 of an attempt says that a step of that attempt is done. It says so twice a second."""

    async def stepped() -> bool:
        said = await _progress(story, attempt)
        if said is None:
            return False
        story.mark("port answers", attempt)
        if said.get("step", 0) <= said.get("resumedFrom", 0):
            return False
        story.mark("first step", attempt)
        return True

    await until(stepped, within=WITHIN_SECONDS, every=0.02, what=f"a step of attempt {attempt}")


async def _until_checkpoint(story: Story, attempt: int) -> None:
    async def kept() -> bool:
        said = await _progress(story, attempt)
        return said is not None and said.get("checkpoint", {}).get("step", 0) > said.get("resumedFrom", 0)

    await until(kept, within=WITHIN_SECONDS, every=0.1, what=f"a checkpoint of attempt {attempt}")


async def _progress(story: Story, attempt: int) -> Object | None:
    """What worker 0 of an attempt says of itself, once it answers."""
    address = story.addresses.get(attempt)
    return None if address is None else await progress_of(address)


def _kill(job: str) -> None:
    """SIGKILL to all processes of the victim, as when a machine takes them."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environment = process.environ()
            mine = environment.get("TRAINWRIGHT_JOB") == job and "tw-bench-" in environment.get("TRAINWRIGHT_WORKSPACE", "")
            if mine and environment.get("TRAINWRIGHT_WORKER_INDEX") == str(VICTIM):
                process.send_signal(signal.SIGKILL)
