"""The operator's side of a sync, with a gateway that answers over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from support.waiting import eventually
from trainwright.controller import gateways
from trainwright.controller.gateways import Gateways, Wanted

KEY, POD, HOST = "default/digits", "digits-gateway-1", "127.0.0.1"


class Gateway:
    """Says always the same, unless it is away."""

    def __init__(self) -> None:
        self.away = False
        self.asked: list[dict[str, Any]] = []

    async def sync(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        return web.Response(status=503) if self.away else web.json_response({"instance": "g", "versions": {}})


@pytest.fixture
async def gateway(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    made = Gateway()
    app = web.Application()
    app.router.add_put("/sync", made.sync)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    monkeypatch.setattr(gateways, "METRICS_PORT", runner.addresses[0][1])
    yield made
    await runner.cleanup()


async def test_a_gateway_that_says_the_same_after_a_silence_is_news(gateway: Gateway) -> None:
    """A pass that found nothing fresh waits for a word of it: without one it would wait until its time is over."""
    news: list[str] = []
    syncs: list[bool] = []
    operator_s = Gateways(interval=0.02, stale=0.3, on_news=news.append, on_sync=syncs.append)
    task = asyncio.create_task(operator_s.run())
    try:
        operator_s.tell(KEY, Wanted(addresses={POD: HOST}, body={"versions": []}, token=None))
        await eventually(lambda: syncs.count(True) > 3, what="some syncs are answered")
        assert news == [KEY], "what is said again is none"
        assert set(operator_s.reports(KEY)) == {POD}

        gateway.away = True
        await eventually(lambda: not operator_s.reports(KEY), what="its word is too old")
        assert news == [KEY]

        gateway.away = False
        await eventually(lambda: operator_s.reports(KEY), what="it is heard of again")
        assert news == [KEY, KEY]
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
