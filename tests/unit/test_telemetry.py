"""Asking workers for progress: real HTTP on loopback, by workers that behave and workers that don't."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from support.waiting import eventually
from trainwright.controller import telemetry as module
from trainwright.controller.telemetry import Telemetry


@contextlib.asynccontextmanager
async def worker(answer: Any) -> AsyncIterator[int]:
    app = web.Application()
    app.add_routes([web.get("/progress", answer), web.get("/elsewhere", good)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def good(_: web.Request) -> web.Response:
    return web.json_response({"step": 7, "metrics": {"loss": 0.5}})


async def no_json(_: web.Request) -> web.Response:
    return web.Response(text="<html>")


async def failing(_: web.Request) -> web.Response:
    return web.Response(status=500)


async def elsewhere(_: web.Request) -> web.Response:
    raise web.HTTPFound("/elsewhere")


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(b" " * 65536)
    return response


async def test_progress_is_taken_over_and_wakes_its_job_once(monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[str] = []
    telemetry = Telemetry(interval=0.02, on_progress=woken.append)
    async with worker(good) as port:
        monkeypatch.setattr(module, "METRICS_PORT", port)
        telemetry.watch("default/digits", "127.0.0.1")
        task = asyncio.create_task(telemetry.run())
        await eventually(lambda: telemetry.latest("default/digits"))
        await asyncio.sleep(0.2)
        task.cancel()
    latest = telemetry.latest("default/digits")
    assert latest is not None
    assert latest.step == 7
    assert woken == ["default/digits"], "the same answer again is no news"
    telemetry.unwatch("default/digits")
    assert telemetry.latest("default/digits") is None


@pytest.mark.parametrize("answer", [no_json, failing, elsewhere, endless])
async def test_a_worker_that_does_not_behave_is_not_listened_to(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    woken: list[str] = []
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.3)
    telemetry = Telemetry(interval=0.02, on_progress=woken.append)
    async with worker(answer) as port:
        monkeypatch.setattr(module, "METRICS_PORT", port)
        telemetry.watch("bad", "127.0.0.1")
        telemetry.watch("absent", "127.255.255.254")
        task = asyncio.create_task(telemetry.run())
        await asyncio.sleep(0.5)
        assert not task.done(), "one bad worker doesn't end the asking"
        task.cancel()
    assert woken == []
