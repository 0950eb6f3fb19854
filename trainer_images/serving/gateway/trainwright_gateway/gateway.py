"""The gateway as a whole: what a sync changes, what is told of it, and what clients ask."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web

from trainwright_gateway import sync as syncs
from trainwright_gateway.checks import Checker
from trainwright_gateway.feedback import FORWARDED, Feedback, Ids
from trainwright_gateway.monitor import Monitor
from trainwright_gateway.proxy import REQUEST, VERSION, Answer, Proxy, problem
from trainwright_gateway.routes import Routes
from trainwright_gateway.servers import BY_NAME
from trainwright_gateway.settings import Settings
from trainwright_gateway.sync import Sync, Version
from trainwright_gateway.upstreams import Upstreams
from trainwright_gateway.windows import Windows

if TYPE_CHECKING:
    from trainwright_gateway.tfconfig import TfConfig

KEEP_ALIVE = 3.0
"""Seconds that an unused connection to a server is kept: less than servers keep it (uvicorn: 5), or requests meet its end."""

log = logging.getLogger(__name__)


class Gateway:
    """Made in a running loop. `since` is when."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.since = time.time()
        self.server = BY_NAME[settings.server]
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=30),
        )
        self.routes: Routes | None = None
        self.synced: float | None = None
        self.stopping = False
        self.in_flight = 0
        self.codes: Counter[tuple[int, str]] = Counter()
        self.windows = Windows()
        self.upstreams = Upstreams(self.server, self.session)
        self.checker = Checker(self.server, settings.models, self.upstreams, self.session)
        self.monitor = Monitor(settings.server, settings.models)
        self.ids = Ids(settings.address)
        self.feedback = Feedback(self.ids, self.monitor, self.session)
        self.proxy = Proxy(
            self.server,
            self.upstreams,
            self.session,
            current=lambda: self.routes,
            counted=self._counted,
            seen=self.monitor.seen,
        )
        self.tfconfig = _tfconfig(settings, self.session, self.proxy) if settings.server == "tfserving" else None

    def start(self) -> None:
        """Begin to watch, and with the last sync, if there is a file of it."""
        self.monitor.start()
        path = self.settings.routes
        if path is None or not path.exists():
            return
        try:
            self.follow(syncs.parse(path.read_bytes()))
        except (OSError, syncs.BadSync) as error:
            log.error("%s can't be used, so requests wait for a sync: %s", path, error)

    async def close(self) -> None:
        for part in (self.checker, self.tfconfig, self.monitor, self.upstreams):
            if part is not None:
                await part.close()
        await self.session.close()

    def follow(self, sync: Sync) -> None:
        """Do what the sync says; nothing at all if it says what the last one said."""
        self.synced = time.time()
        if self.routes is not None and self.routes.sync == sync:
            return
        routes = Routes(sync)
        self._log(routes)
        self.windows.follow(sync)
        self.upstreams.follow(sync)
        self.checker.follow(sync)
        self.monitor.follow(sync)
        if self.tfconfig is not None:
            self.tfconfig.follow(sync)
        self.routes = routes
        self._forget(routes)

    def _forget(self, routes: Routes) -> None:
        """What was counted of versions that are no more, or their series would stay for ever."""
        busy = {version for version, count in self.proxy.in_flight.items() if count}
        kept = busy | set(routes.versions)
        for counts in (self.windows.total, self.proxy.retries, self.proxy.fallbacks, self.proxy.in_flight):
            for version in set(counts) - kept:
                del counts[version]
        for version, code in [one for one in self.codes if one[0] not in kept]:
            del self.codes[version, code]

    def seen(self) -> dict[str, Any]:
        """What /sync answers."""
        routes, report = self.routes, self.monitor.report
        versions = {str(one.version): self._facts(one, report) for one in routes.versions.values()} if routes else {}
        monitoring = report["monitoring"]
        live = routes.live.version if routes and routes.live else None
        if monitoring is not None and monitoring["version"] != live:
            monitoring = None
        return {"instance": self.settings.name, "since": self.since, "versions": versions, "monitoring": monitoring}

    async def ask(self, request: web.BaseRequest, body: bytes) -> Answer:
        """A client's request on port 8080."""
        if request.path == "/feedback":
            if request.method != "POST":
                return problem(405, "/feedback takes POST")
            return await self.feedback.take(body, self.routes, forwarded=FORWARDED in request.headers)
        path = request.raw_path.partition("?")[0]
        call = self.server.call(path)
        if call is None:
            accepted = self.server.accepts.format(model=self.routes.model if self.routes else "<model>")
            return problem(404, f"{path!r:.200} is no path of {self.server.name}; accepted are {accepted}, and /feedback")
        if self.routes is None:
            return problem(503, "the gateway hasn't been told any version yet", retry_after=1)
        if call.model != self.routes.model:
            return problem(404, f"there is no model {call.model!r:.100} here; this is {self.routes.model!r}")
        name = self.ids.make()
        answer = await self.proxy.answer(request, call, body, self.routes, name)
        headers = {**answer.headers, REQUEST: name}
        if answer.version is not None:
            headers[VERSION] = str(answer.version)
        return Answer(status=answer.status, body=answer.body, headers=headers, version=answer.version, reached=answer.reached)

    async def drained(self, within: float) -> None:
        """Return when no request is in flight, or when the time is over."""
        deadline = time.monotonic() + within
        while self.in_flight and time.monotonic() < deadline:  # noqa: ASYNC110 - a count that every request changes
            await asyncio.sleep(0.02)

    def _counted(self, version: Version, seconds: float, status: int, not_finite: bool) -> None:
        self.codes[version.version, f"{status // 100}xx" if status else "none"] += 1
        self.windows.add(version.version, seconds, failed=status == 0 or status >= 500, not_finite=not_finite)

    def _facts(self, version: Version, report: dict[str, Any]) -> dict[str, Any]:
        check = self.checker.result(version.version)
        window = self.windows.open[version.version]
        watched = report["windows"].get(str(version.version), {})
        why = self.upstreams.why_not(version)
        return {
            "available": why is None,
            "why": why,
            "warmed": check.warmed,
            "smoke": check.facts(),
            "window": window.facts(watched.get("predictions") if watched.get("id") == window.id else None),
        }

    def _log(self, routes: Routes) -> None:
        shares = ", ".join(
            f"{one.version} ({one.role}, {routes.share(one):.0%}, {len(one.hosts)} addresses)" for one in routes.versions.values()
        )
        log.info("%s: versions %s", routes.model, shares or "none")


def _tfconfig(settings: Settings, session: aiohttp.ClientSession, proxy: Proxy) -> TfConfig:
    from trainwright_gateway.tfconfig import TfConfig  # noqa: PLC0415 - gRPC is for this server only

    return TfConfig(settings.models, session, proxy.in_flight)
