"""What `trainwright publish FOLDER` talks to: one artifact comes in over HTTP, in pieces, and the process ends.

The sender proves itself by a token of which this process knows the hash alone, in a header of its own: an API server that
hands requests on keeps `Authorization` for itself. The other way round, `GET /hello` shows a sender who tried an address that
it is this pod, and no stranger with its address in another network, before it is sent anything.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from trainwright_publisher.artifact import File
from trainwright_publisher.incoming import Incoming, OutOfPlace
from trainwright_publisher.refusal import Failed, Reason, Refused
from trainwright_runtime.exits import say

PORT = 8080
TOKEN_HEADER = "x-trainwright-token"  # noqa: S105 - its name
MAX_BODY_BYTES = 64 << 20
LOOK_SECONDS = 0.5

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Announced(BaseModel):
    """What is about to come: the manifest's text, and files that it doesn't name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    manifest: str
    others: Mapping[str, File] = {}


class Receiver:
    """Takes one artifact. `keep`: folders beside it that somebody still waits for."""

    def __init__(self, into: Path, *, token_sha256: str, keep: Sequence[str] = ()) -> None:
        self._into = into
        self._token = token_sha256
        self._keep = keep
        self._incoming: Incoming | None = None
        self._checking: asyncio.Task[None] | None = None
        self._one = asyncio.Lock()
        self._heard = asyncio.get_running_loop().time()
        self.done = asyncio.Event()

    @property
    def idle(self) -> float:
        """For how many seconds nobody has asked for anything."""
        busy = self._one.locked() or (self._checking is not None and not self._checking.done())
        return 0.0 if busy else asyncio.get_running_loop().time() - self._heard

    @property
    def received(self) -> int:
        return self._incoming.size if self._incoming else 0

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._guarded])
        app.router.add_get("/hello", self._hello)
        app.router.add_get("/state", self._state)
        app.router.add_put("/announce", self._announce)
        app.router.add_put("/files/{number:[0-9]{1,9}}", self._piece)
        app.router.add_put("/finish", self._finish)
        return app

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path != "/hello":
            given = hashlib.sha256(request.headers.get(TOKEN_HEADER, "").encode("utf-8", "surrogateescape")).hexdigest()
            if not hmac.compare_digest(given, self._token):
                return _problem(401, f"this wants its one-time token in {TOKEN_HEADER}")
        self._heard = asyncio.get_running_loop().time()
        try:
            return await handler(request)
        except Refused as refusal:
            return _problem(422, str(refusal), reason=str(refusal.reason))
        except Failed as fault:
            return _problem(409, str(fault))
        except OSError as fault:
            return _problem(507, str(fault))
        finally:
            self._heard = asyncio.get_running_loop().time()

    async def _hello(self, request: web.Request) -> web.Response:
        challenge = request.query.get("challenge", "")
        proof = hmac.new(self._token.encode(), challenge.encode(), hashlib.sha256).hexdigest()
        return web.json_response({"proof": proof})

    async def _announce(self, request: web.Request) -> web.Response:
        try:
            announced = Announced.model_validate_json(await request.read())
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise Refused(Reason.DAMAGED, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        async with self._one:
            if self._checking is not None:
                await asyncio.wait([self._checking])
            self._incoming = Incoming(self._into, announced.manifest.encode(), announced.others)
            self._checking = asyncio.create_task(asyncio.to_thread(self._incoming.check, self._keep))
        return await self._state(request)

    async def _state(self, _: web.Request) -> web.Response:
        """`ready`: what lies here has been looked at; `missing`: how much there is of files that aren't whole, by number."""
        if self._incoming is None or self._checking is None:
            raise Failed("nothing has been announced yet")
        if not self._checking.done():
            return web.json_response({"ready": False, "missing": {}})
        await self._checking
        return web.json_response({"ready": True, "missing": self._incoming.missing()})

    async def _piece(self, request: web.Request) -> web.Response:
        incoming = await self._checked()
        number, offset = int(request.match_info["number"]), request.query.get("offset", "")
        if number >= len(incoming.wanted) or not offset.isdecimal():
            return _problem(400, f"number must be below {len(incoming.wanted)}, and offset a number of bytes")
        content = await request.read()
        async with self._one:
            try:
                whole = await asyncio.to_thread(incoming.add, number, int(offset), content)
            except OutOfPlace as fault:
                return web.json_response({"error": str(fault), "have": fault.have}, status=416)
        return web.json_response({"whole": whole})

    async def _finish(self, _: web.Request) -> web.Response:
        incoming = await self._checked()
        async with self._one:
            await asyncio.to_thread(incoming.finish)
        self.done.set()
        return web.json_response({"ok": True})

    async def _checked(self) -> Incoming:
        if self._incoming is None or self._checking is None:
            raise Failed("nothing has been announced yet")
        await self._checking
        return self._incoming


async def receive(into: Path, *, address: str, token_sha256: str, keep: Sequence[str], idle: float) -> dict[str, Any]:
    """Take one artifact; the last words. Raises `Failed` when told to end, or when nobody comes for `idle` seconds."""
    receiver = Receiver(into, token_sha256=token_sha256, keep=keep)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    runner = web.AppRunner(receiver.application(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, PORT).start()
        say(f"waiting for sha256:{into.name} on {address}:{PORT}")
        while not receiver.done.is_set():
            if ended.is_set():
                raise Failed("told to end before all had come; what is here is kept")
            if receiver.idle > idle:
                raise Failed(f"nobody has come for {idle:g} s; what is here is kept")
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        # Lets the last answer out.
        await runner.cleanup()
    return {"ok": True, "digest": f"sha256:{into.name}", "bytes": receiver.received}


def _problem(status: int, message: str, **more: str) -> web.Response:
    return web.json_response({"error": message, **more}, status=status)
