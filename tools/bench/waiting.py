"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], Awaitable[bool]], *, within: float, every: float, what: str) -> None:
    """Return when the condition holds, asked every `every` seconds; raises TimeoutError after `within` seconds."""
    try:
        async with asyncio.timeout(within):
            while not await condition():  # noqa: ASYNC110 - the condition is another process's
                await asyncio.sleep(every)
    except TimeoutError:
        raise TimeoutError(f"not within {within:g} s: {what}") from None
