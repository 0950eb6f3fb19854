"""The operator without kopf, at work for the length of a block."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from trainwright.cluster.port import Inspectable
from trainwright.controller.operator import Operator


@contextlib.asynccontextmanager
async def operating(cluster: Inspectable, *, watch_jobs: bool = True, **options: Any) -> AsyncIterator[Operator]:
    """`watch_jobs`: whether it watches our own kinds itself; otherwise the test tells it of them, as kopf does."""
    operator = Operator(cluster, watch_jobs=watch_jobs, progress_interval=0.1, **options)
    task = asyncio.create_task(operator.run())
    try:
        yield operator
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
