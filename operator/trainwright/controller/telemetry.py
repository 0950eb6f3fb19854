"""What rank 0 of each running job says of itself: `/progress` of worker 0, asked at a bounded rate.

It is a convenience, never a condition: a job whose port doesn't answer trains on, only its progress stands still.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp

from trainwright.api.names import METRICS_PORT
from trainwright.observe.progress import TrainingProgress, read_progress

CONCURRENCY = 16
TIMEOUT_SECONDS = 2.0
MAX_BYTES = 64 * 1024


@dataclass
class Telemetry:
    """`interval`: seconds between two questions to one job, which also bounds how often its progress is written.

    `on_poll` is told of each question whether it was answered.
    """

    interval: float
    on_progress: Callable[[str], None] = lambda _: None
    on_poll: Callable[[bool], None] = lambda _: None
    _targets: dict[str, str] = field(default_factory=dict)
    _latest: dict[str, TrainingProgress] = field(default_factory=dict)

    def watch(self, key: str, address: str) -> None:
        """Ask the worker at this address from now on."""
        self._targets[key] = address

    def unwatch(self, key: str) -> None:
        """Stop asking; what was last said goes too."""
        self._targets.pop(key, None)
        self._latest.pop(key, None)

    def latest(self, key: str) -> TrainingProgress | None:
        return self._latest.get(key)

    async def run(self) -> None:
        """Ask round after round until cancelled."""
        limit = asyncio.Semaphore(CONCURRENCY)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            while True:
                await asyncio.gather(*(self._ask(session, limit, key, where) for key, where in list(self._targets.items())))
                await asyncio.sleep(self.interval)

    async def _ask(self, session: aiohttp.ClientSession, limit: asyncio.Semaphore, key: str, address: str) -> None:
        async with limit:
            try:
                # What answers is user code: no redirects, and nothing that is larger than progress can be.
                async with session.get(f"http://{address}:{METRICS_PORT}/progress", allow_redirects=False) as response:
                    length = response.content_length
                    is_progress = response.status == 200 and length is not None and length <= MAX_BYTES
                    said = read_progress(await response.json(content_type=None)) if is_progress else None
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                said = None
        self.on_poll(said is not None)
        if said is not None and self._targets.get(key) == address and said != self._latest.get(key):
            self._latest[key] = said
            self.on_progress(key)
