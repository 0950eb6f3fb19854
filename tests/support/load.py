"""Clients of a served model: they ask without a pause, through its gateway, and count what doesn't come back."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp


@dataclass
class Load:
    """`answers` by version; `failures` in words; `last` the last answer with its request id."""

    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    last: tuple[str, Any] | None = None

    @property
    def total(self) -> int:
        return sum(self.answers.values()) + len(self.failures)


@contextlib.asynccontextmanager
async def load(
    addresses: Callable[[], list[str]],
    path: str,
    bodies: list[Any],
    *,
    clients: int = 4,
    pause: float = 0.02,
    again: bool = False,
) -> AsyncIterator[Load]:
    """Ask for as long as the block lasts. `addresses` gives the gateways.

    `again`: a request whose connection fails or breaks is sent to another gateway, as clients do of what changes nothing.
    """
    counted = Load()
    stop = asyncio.Event()

    known_since, places = 0.0, addresses()

    def known() -> list[str]:
        """Asked for anew now and then: that costs a call of kubectl."""
        nonlocal known_since, places
        if time.monotonic() - known_since > 2.0 or not places:
            known_since, places = time.monotonic(), addresses()
        return places or ["http://127.0.0.1:9"]

    async def ask(session: aiohttp.ClientSession, place: str) -> None:
        async with session.post(f"{place}{path}", json=random.choice(bodies)) as response:
            if response.status == 200:
                counted.last = (response.headers["x-request-id"], await response.json())
                counted.answers[response.headers["x-trainwright-version"]] += 1
            else:
                counted.failures.append(f"{response.status} {(await response.text())[:300]}")

    async def client(session: aiohttp.ClientSession) -> None:
        while not stop.is_set():
            first, *others = random.sample(known(), k=len(known()))
            try:
                await ask(session, first)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                failed = error
                for other in others if again else []:
                    try:
                        await ask(session, other)
                        break
                    except (aiohttp.ClientError, TimeoutError, OSError) as another:
                        failed = another
                else:
                    counted.failures.append(repr(failed))
            await asyncio.sleep(pause)

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session, asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client(session))
        try:
            yield counted
        finally:
            stop.set()
