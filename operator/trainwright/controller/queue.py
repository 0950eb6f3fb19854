"""Keys that wait for a pass: each at most once, some later than others, a failing one ever later.

An event only wakes its key; a key that is being worked on and woken meanwhile gets another pass afterwards, so no
event is lost and no key is worked on twice at once. One busy key never holds up another.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

BASE_BACKOFF_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 60.0


@dataclass
class _Entry:
    due: float
    failures: int = 0
    active: bool = False
    again: float | None = None
    timer: asyncio.TimerHandle | None = None


@dataclass
class KeyedQueue:
    """`on_wait` is told how many seconds a key waited beyond the time it was due."""

    on_wait: Callable[[float], None] = lambda _: None
    _entries: dict[str, _Entry] = field(default_factory=dict)
    _ready: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    def __len__(self) -> int:
        """Keys that are due and wait for a worker."""
        return self._ready.qsize()

    def add(self, key: str, delay: float = 0.0) -> None:
        """Wake a key in `delay` seconds; of several wishes the earliest wins."""
        loop = asyncio.get_running_loop()
        due = loop.time() + delay
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(due=due)
            self._schedule(key, entry)
        elif entry.active:
            entry.again = due if entry.again is None else min(entry.again, due)
        elif entry.timer is not None and due < entry.due:
            entry.timer.cancel()
            entry.due = due
            self._schedule(key, entry)

    async def run(self, work: Callable[[str], Awaitable[float | None]], *, workers: int = 8) -> None:
        """Work on keys until cancelled. `work` returns in how many seconds it wants the key again, or None; when it
        raises, the key comes back after a growing, jittered delay.
        """
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._worker(work))

    async def _worker(self, work: Callable[[str], Awaitable[float | None]]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            key = await self._ready.get()
            entry = self._entries[key]
            entry.active, entry.again = True, None
            self.on_wait(max(0.0, loop.time() - entry.due))
            try:
                later = await work(key)
            except Exception:  # the pass has logged and counted it; the queue's part is to come back later
                later = self._backoff(entry.failures)
                entry.failures += 1
            else:
                entry.failures = 0
            # A pass that never waits and always wants another must not keep the loop for itself.
            await asyncio.sleep(0)
            self._finish(key, entry, None if later is None else loop.time() + later)

    def _finish(self, key: str, entry: _Entry, wanted: float | None) -> None:
        entry.active = False
        # A failing key keeps its distance however often events wake it; otherwise the earliest wish wins.
        wishes = [wish for wish in (wanted, entry.again) if wish is not None]
        if entry.failures and wanted is not None:
            wishes = [wanted]
        if not wishes:
            del self._entries[key]
            return
        entry.due = min(wishes)
        self._schedule(key, entry)

    def _schedule(self, key: str, entry: _Entry) -> None:
        loop = asyncio.get_running_loop()
        entry.timer = None
        delay = entry.due - loop.time()
        if delay <= 0:
            self._ready.put_nowait(key)
        else:
            entry.timer = loop.call_later(delay, self._due, key, entry)

    def _due(self, key: str, entry: _Entry) -> None:
        entry.timer = None
        self._ready.put_nowait(key)

    @staticmethod
    def _backoff(failures: int) -> float:
        ceiling = min(MAX_BACKOFF_SECONDS, BASE_BACKOFF_SECONDS * 2.0 ** min(failures, 16))
        return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
