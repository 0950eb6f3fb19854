"""The operator's own HTTP: `/healthz`, `/metrics`, and `/targets` for Prometheus' service discovery."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


@asynccontextmanager
async def serving(
    host: str,
    port: int,
    registry: CollectorRegistry,
    healthy: Callable[[], bool],
    targets: Callable[[], list[dict[str, Any]] | None],
) -> AsyncIterator[int]:
    """Serve while the block runs; gives the port, chosen by the system when 0 was asked.

    `targets` is None as long as nothing is known of any worker: a Prometheus then keeps those that it had.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if healthy() else web.Response(status=503, text="starting\n")

    async def metrics(_: web.Request) -> web.Response:
        # In a thread: with many jobs it takes longer than the work of the loop may wait.
        page = await asyncio.to_thread(generate_latest, registry)
        return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def discovered(_: web.Request) -> web.Response:
        found = targets()
        return web.json_response(found) if found is not None else web.Response(status=503, text="not leading, or starting\n")

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/metrics", metrics), web.get("/targets", discovered)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
