"""When pods and jobs were first seen in a state, by one watch that is the same for the operator's pods and for the floor's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from trainwright.cluster.port import Object


class Observer:
    """Times are of `time.perf_counter`, by name."""

    def __init__(self) -> None:
        self.created: dict[str, float] = {}
        self.running: dict[str, float] = {}
        self.phases: dict[str, dict[str, float]] = {}
        self._changed = asyncio.Event()

    def forget(self) -> None:
        """Start afresh: names of the next repeat are new."""
        self.created, self.running, self.phases = {}, {}, {}

    def pod(self, pod: Object) -> None:
        now, name = time.perf_counter(), pod["metadata"]["name"]
        self.created.setdefault(name, now)
        if pod["status"].get("phase") == "Running":
            self.running.setdefault(name, now)
        self._changed.set()

    def job(self, job: Object) -> None:
        phase = job.get("status", {}).get("phase")
        if phase is not None:
            self.phases.setdefault(phase, {}).setdefault(job["metadata"]["name"], time.perf_counter())
        self._changed.set()

    async def until(self, condition: Callable[[], bool], *, within: float, what: str) -> None:
        """Wait until what has been seen satisfies the condition; raises TimeoutError with the counts."""
        try:
            async with asyncio.timeout(within):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            phases = {phase: len(jobs) for phase, jobs in self.phases.items()}
            seen = f"{len(self.created)} pods created, {len(self.running)} running, jobs {phases}"
            raise TimeoutError(f"not within {within:g} s: {what}; seen: {seen}") from None
