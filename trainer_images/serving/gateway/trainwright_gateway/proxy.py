"""A client's request on its way to a server and back: tried again where it may succeed, counted as the client saw it.

Bodies are read whole, up to the limit, and answers too: only so can a request be sent a second time when a server dies over it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from trainwright_gateway.routes import Routes
from trainwright_gateway.servers import Call, Server, not_finite
from trainwright_gateway.sync import Version
from trainwright_gateway.upstreams import Target, Upstreams, said, url

VERSION = "x-trainwright-version"
REQUEST = "x-request-id"
ROUTE = "x-trainwright-route"
"""The version that an HTTPRoute has chosen by the same weights as ours."""
CONNECT_WITHIN = 2.0
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 1.0
TRIED_AGAIN = frozenset({502, 503, 504})
_OURS = frozenset({
    # Of one connection only (RFC 9110, 7.6.1), or made anew for the next.
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "host", "content-length", "expect",
    # aiohttp has unpacked the request; answers are looked into, so servers mustn't pack them.
    "content-encoding", "accept-encoding",
    VERSION, REQUEST, ROUTE,
})  # fmt: skip

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a client gets. `reached` is False when no server has answered at all, and the words are the gateway's."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    version: int | None
    reached: bool = True


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the watcher may look into: one prediction that was answered well."""

    id: str
    version: Version
    time: float
    asked: bytes
    answered: bytes


Counted = Callable[[Version, float, int, bool], None]
"""Of a chosen version: seconds, the status it came to (0: none at all), whether the answer had numbers that aren't finite."""


def problem(status: int, message: str, *, version: int | None = None, retry_after: int | None = None) -> Answer:
    """An answer in the gateway's own words."""
    headers = {"content-type": "application/json; charset=utf-8"}
    if retry_after is not None:
        headers["retry-after"] = str(retry_after)
    body = json.dumps({"error": message}, ensure_ascii=False).encode()
    return Answer(status=status, body=body, headers=headers, version=version, reached=False)


class Proxy:
    """Sends requests on.

    By version, `retries` counts what was sent more than once, and `fallbacks` what the live version answered in its place.
    """

    def __init__(
        self,
        server: Server,
        upstreams: Upstreams,
        session: aiohttp.ClientSession,
        *,
        current: Callable[[], Routes | None],
        counted: Counted,
        seen: Callable[[Seen], None],
    ) -> None:
        self._server = server
        self._upstreams = upstreams
        self._session = session
        self._current = current
        self._counted = counted
        self._seen = seen
        self.retries: dict[int, int] = {}
        self.fallbacks: dict[int, int] = {}
        self.in_flight: dict[int, int] = {}

    async def answer(self, request: web.BaseRequest, call: Call, body: bytes, routes: Routes, name: str) -> Answer:
        """`name` is the request's id."""
        pinned = request.headers.get(VERSION, None if call.version is None else str(call.version))
        if pinned is not None:
            version = _named(routes, pinned.strip())
            if version is None:
                known = ", ".join(map(str, sorted(routes.versions))) or "none"
                return problem(404, f"{VERSION} is {pinned!r:.40}; {routes.model} has the versions {known}")
        else:
            version = routes.suggested(request.headers.get(ROUTE)) or routes.choose(
                request.headers.get(routes.sticky) if routes.sticky else None
            )
            if version is None:
                return problem(503, f"{routes.model} has no live version yet", retry_after=1)
        answer = await self._of(version, request, call, body, routes, name)
        # By now another version may be live: that of a switch in between.
        routes = self._current() or routes
        live = routes.live
        if pinned is None and call.version is None and live is not None and version.version != live.version and _failed(answer):
            log.warning(
                "version %s didn't answer (%s), version %s did in its place", version.version, answer.status, live.version
            )
            if call.predicts:
                self.fallbacks[version.version] = self.fallbacks.get(version.version, 0) + 1
            answer = await self._of(live, request, call, body, routes, name)
        return answer

    async def _of(self, version: Version, request: web.BaseRequest, call: Call, body: bytes, routes: Routes, name: str) -> Answer:
        """The answer of one version, counted as its."""
        number = version.version
        self.in_flight[number] = self.in_flight.get(number, 0) + 1
        began = time.perf_counter()
        try:
            answer = await self._persist(version, request, call, body, routes, name)
        finally:
            self.in_flight[number] -= 1
        if call.predicts:
            good = answer.status < 400
            self._counted(
                version, time.perf_counter() - began, answer.status if answer.reached else 0, good and not_finite(answer.body)
            )
            if good:
                self._seen(Seen(id=name, version=version, time=time.time(), asked=body, answered=answer.body))
        return answer

    async def _persist(
        self, version: Version, request: web.BaseRequest, call: Call, body: bytes, routes: Routes, name: str
    ) -> Answer:
        """Until there is an answer, or nothing more to try.

        `retries` limits how often servers are given the request again that took it and failed. While no address is reachable
        nothing is sent: the live version's requests wait for one to come back, a candidate's go to the live version.
        """
        deadline = time.monotonic() + routes.sync.timeout_seconds
        headers = _forwarded(request.headers)
        headers[REQUEST] = name
        target_path = self._server.path(call, version.version) + (f"?{request.query_string}" if request.query_string else "")
        sent, pause = 0, FIRST_PAUSE
        tried: set[str] = set()
        last: Answer | None = None
        while (left := deadline - time.monotonic()) > 0:
            target = self._upstreams.pick(version, tried)
            if target is None:
                if not self._is_live(version):
                    break
                await self._upstreams.change(left)
                continue
            if tried:
                self.retries[version.version] = self.retries.get(version.version, 0) + 1
            tried.add(target.host)
            found = await self._send(target, request.method, target_path, headers, body, left)
            if isinstance(found, Answer) and found.status not in TRIED_AGAIN and not self._unloaded(found, target):
                return found
            if found is not None:
                last, sent = found, sent + 1
            if sent > routes.sync.retries or (last is not None and not last.reached and last.status == 504):
                break
            await asyncio.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(pause * 2, LONGEST_PAUSE)
        if last is not None and (last.reached or last.status == 504):
            return last
        why = self._upstreams.why_not(version) or (json.loads(last.body)["error"] if last else "") or "no answer"
        return problem(
            503, f"version {version.version} of {routes.model} doesn't answer: {why}", version=version.version, retry_after=1
        )

    async def _send(
        self, target: Target, method: str, path: str, headers: CIMultiDict[str], body: bytes, left: float
    ) -> Answer | None:
        """None when nothing was sent, since there was no connection."""
        timeout = aiohttp.ClientTimeout(total=left, sock_connect=min(left, CONNECT_WITHIN))
        try:
            with self._upstreams.using(target):
                async with self._session.request(
                    method, url(target.host, self._server.port, path), data=body or None, headers=headers, timeout=timeout,
                    allow_redirects=False,
                ) as answer:  # fmt: skip
                    content = await answer.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            self._upstreams.failed(target, said(error))
            return None
        except TimeoutError:
            return problem(504, f"version {target.version} gave no answer in time", version=target.version)
        except (aiohttp.ClientError, OSError) as error:
            self._upstreams.failed(target, said(error))
            return problem(502, said(error), version=target.version)
        return Answer(status=answer.status, body=content, headers=_forwarded(answer.headers), version=target.version)

    def _is_live(self, version: Version) -> bool:
        routes = self._current()
        return routes is not None and routes.live is not None and routes.live.version == version.version

    def _unloaded(self, answer: Answer, target: Target) -> bool:
        """Whether a server says that it lacks the version itself, as TF Serving does while it loads after a restart."""
        if self._server.name != "tfserving" or answer.status != 404 or b"ervable" not in answer.body:
            return False
        self._upstreams.failed(target, "the server doesn't have it loaded")
        return True


def _failed(answer: Answer) -> bool:
    """Whether another version should be asked: the server is away or overloaded, or silent. A 500 is the model's own answer."""
    return not answer.reached or answer.status in TRIED_AGAIN


def _named(routes: Routes, name: str) -> Version | None:
    return routes.versions.get(int(name)) if name.isascii() and name.isdigit() and len(name) < 19 else None


def _forwarded(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """The headers without those that are of one connection, by their own list too."""
    named = {one.strip().lower() for one in headers.get("connection", "").split(",")}
    return CIMultiDict(
        (name, value) for name, value in headers.items() if (low := name.lower()) not in _OURS and low not in named
    )
