"""Waiting for conditions with a deadline: the only way a test may wait."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def eventually(
    condition: Callable[[], Any | Awaitable[Any]], *, within: float = 30.0, every: float = 0.02, what: str = ""
) -> Any:
    """The first truthy value of `condition`; fails with the last one seen when the deadline passes."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what or condition}; last seen: {value!r}")
        await asyncio.sleep(every)
