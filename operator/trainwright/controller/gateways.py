"""The operator's side of a sync: every gateway is told, once a second, what it should do, and answers what it saw.

It is level-triggered like all else: a gateway that starts anew, or was away, is simply told again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from trainwright.api.names import METRICS_PORT
from trainwright.observe.gateway import GatewayReport, read_report

log = logging.getLogger(__name__)

CONCURRENCY = 32
TIMEOUT_SECONDS = 3.0
MAX_BYTES = 1024 * 1024
STALE_SECONDS = 10.0


@dataclass(frozen=True)
class Wanted:
    """What the gateways of one deployment are told: `addresses` by pod, the body, the token that they know the operator by."""

    addresses: Mapping[str, str]
    body: Mapping[str, Any]
    token: str | None


@dataclass
class Gateways:
    """`interval`: seconds between two syncs. `on_news` is told the key of a deployment whose gateways say something new, or are
    heard of again; `stale`: an answer older than so many seconds says nothing of now.
    """

    interval: float
    stale: float = STALE_SECONDS
    on_news: Callable[[str], None] = lambda _: None
    on_sync: Callable[[bool], None] = lambda _: None
    _wanted: dict[str, Wanted] = field(default_factory=dict)
    _reports: dict[tuple[str, str], tuple[float, GatewayReport]] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, key: str, wanted: Wanted) -> None:
        """From now on this is what a deployment's gateways are told; what is new is told at once."""
        if self._wanted.get(key) != wanted:
            self._wanted[key] = wanted
            self._wake.set()

    def forget(self, key: str) -> None:
        self._wanted.pop(key, None)
        for known in [one for one in self._reports if one[0] == key]:
            del self._reports[known]

    def reports(self, key: str) -> dict[str, GatewayReport]:
        """What each gateway pod said last, if that was a moment ago."""
        oldest = self._oldest()
        return {pod: report for (of, pod), (heard, report) in self._reports.items() if of == key and heard >= oldest}

    def _oldest(self) -> float:
        return time.monotonic() - self.stale

    async def run(self) -> None:
        """Sync round after round until cancelled."""
        limit = asyncio.Semaphore(CONCURRENCY)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            while True:
                self._wake.clear()
                await asyncio.gather(
                    *(
                        self._sync(session, limit, key, wanted, pod, address)
                        for key, wanted in list(self._wanted.items())
                        for pod, address in wanted.addresses.items()
                    )
                )
                try:
                    async with asyncio.timeout(self.interval):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _sync(
        self, session: aiohttp.ClientSession, limit: asyncio.Semaphore, key: str, wanted: Wanted, pod: str, address: str
    ) -> None:
        peers = sorted(other for other in wanted.addresses.values() if other != address)
        headers = {"Authorization": f"Bearer {wanted.token}"} if wanted.token else {}
        report = None
        async with limit:
            try:
                async with session.put(
                    f"http://{address}:{METRICS_PORT}/sync",
                    json={**wanted.body, "peers": peers},
                    headers=headers,
                    allow_redirects=False,
                ) as response:
                    length = response.content_length
                    content = await response.read() if length is not None and length <= MAX_BYTES else b""
                    if response.status == 200:
                        report = read_report(json.loads(content))
                    else:
                        log.warning(
                            "gateway %s refused a sync: %d %s", pod, response.status, content[:500].decode(errors="replace")
                        )
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                log.debug("gateway %s does not answer: %r", pod, error)
        self.on_sync(report is not None)
        if report is None or self._wanted.get(key) is None:
            return
        heard, before = self._reports.get((key, pod), (0.0, None))
        # Whoever looked while there was nothing fresh has waited since, though the gateway says what it said before.
        news = before != report or heard < self._oldest()
        self._reports[key, pod] = (time.monotonic(), report)
        if news:
            self.on_news(key)
