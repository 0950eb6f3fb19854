"""The two ports: 8080 for clients, 9400 for who operates."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
from typing import Any

from aiohttp import web

from trainwright_gateway import exposed, sync
from trainwright_gateway.gateway import Gateway
from trainwright_gateway.metrics import Page
from trainwright_gateway.proxy import Answer, problem

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

log = logging.getLogger(__name__)


def client_server(gateway: Gateway, **options: Any) -> web.Server:
    """What answers on 8080: aiohttp's bare server, since a router would only be in the way of a proxy."""

    def received(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return web.BaseRequest(
            message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=gateway.settings.max_body
        )

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        gateway.in_flight += 1
        try:
            answer = await _answer(gateway, request)
            response = web.Response(status=answer.status, body=answer.body, headers=answer.headers)
            if gateway.stopping or answer.status == 413:
                response.force_close()
            return response
        finally:
            gateway.in_flight -= 1

    return web.Server(handle, request_factory=received, **options)


async def _answer(gateway: Gateway, request: web.BaseRequest) -> Answer:
    limit = gateway.settings.max_body
    try:
        if (request.content_length or 0) > limit:
            raise web.HTTPRequestEntityTooLarge(max_size=limit, actual_size=request.content_length or 0)
        body = await request.read() if request.body_exists else b""
    except web.HTTPRequestEntityTooLarge:
        return problem(413, f"the body is larger than {limit} bytes, which are accepted")
    except (ValueError, web.RequestPayloadError) as error:
        return problem(400, f"the body can't be read: {error}")
    try:
        return await gateway.ask(request, body)
    except Exception:
        log.exception("a request to %s failed in the gateway itself", request.path)
        return problem(500, "the gateway failed; its log says where")


def operations(gateway: Gateway) -> web.Application:
    """What answers on 9400."""
    page = Page(gateway.settings.namespace, gateway.settings.deployment, lambda: exposed.values(gateway))

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=page.render(), headers={"Content-Type": CONTENT_TYPE})

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if gateway.stopping:
            return web.Response(status=503, text="the gateway is being stopped\n")
        if gateway.routes is None:
            return web.Response(status=503, text="no sync yet\n")
        return web.Response(text="ok\n")

    async def put_sync(request: web.Request) -> web.Response:
        if not _allowed(gateway, request):
            headers = {"WWW-Authenticate": "Bearer"}
            return web.json_response({"error": "/sync wants 'Authorization: Bearer <the token>'"}, status=401, headers=headers)
        try:
            gateway.follow(sync.parse(await request.read()))
        except sync.BadSync as error:
            return web.json_response({"error": "the sync is refused; nothing has changed", "fields": error.errors}, status=422)
        return web.json_response(gateway.seen(), dumps=lambda found: json.dumps(found, allow_nan=False))

    app = web.Application(client_max_size=2**22)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_put("/sync", put_sync)
    return app


def _allowed(gateway: Gateway, request: web.Request) -> bool:
    wanted = gateway.settings.token_sha256
    if wanted is None:
        return True
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    given = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest()
    return hmac.compare_digest(given, wanted) and kind.lower() == "bearer"
