"""The addresses of each version: which of them answer, by asking the servers' own status API all the time.

A request that fails on an address says so here, and the address is asked at once; until it does, requests go elsewhere or wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterator

import aiohttp
from yarl import URL

from trainwright_gateway.servers import Server
from trainwright_gateway.sync import Sync, Version

ASK_EVERY = 1.0
ASK_SOON = 0.05
"""Seconds until an address that doesn't answer is asked again: at first, doubling up to ASK_EVERY."""
ANSWER_WITHIN = 5.0
SILENCES = 2
"""A busy server may be slow to say that it is there: so many times without an answer in time make an address unreachable."""

log = logging.getLogger(__name__)


def url(host: str, port: int, path: str) -> URL:
    """`path` is taken as it is, its escapes included."""
    return URL(f"http://{f'[{host}]' if ':' in host else host}:{port}{path}", encoded=True)


class Target:
    """One version on one address. Counts as reachable until it is known that it isn't; `asked` says whether anything is known."""

    def __init__(self, version: int, host: str) -> None:
        self.version = version
        self.host = host
        self.reachable = True
        self.asked = False
        self.why: str | None = None
        self.in_flight = 0
        self.wake = asyncio.Event()

    @property
    def available(self) -> bool:
        return self.asked and self.reachable


class Upstreams:
    """All targets. One task a target asks for its state; `changed` is set and replaced whenever one of them changes."""

    def __init__(self, server: Server, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._session = session
        self._targets: dict[tuple[int, str], Target] = {}
        self._tasks: dict[tuple[int, str], asyncio.Task[None]] = {}
        self._model = ""
        self._versions: dict[int, Version] = {}
        self._turn = 0
        self._changed = asyncio.Event()

    def follow(self, sync: Sync) -> None:
        """Know the targets of this sync and no others. Requests that are on their way to others finish there."""
        wanted = {(one.version, host) for one in sync.versions for host in one.hosts}
        self._versions = {one.version: one for one in sync.versions}
        kept = wanted if sync.model == self._model else set()
        self._model = sync.model
        for key in set(self._targets) - kept:
            self._tasks.pop(key).cancel()
            del self._targets[key]
        for key in wanted - set(self._targets):
            self._targets[key] = Target(*key)
            self._tasks[key] = asyncio.create_task(self._keep_asking(sync.model, self._targets[key]))
        self._tell()

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def of(self, version: Version) -> list[Target]:
        """The version's targets by the newest sync, whose addresses may be others than those that a request began with."""
        version = self._versions.get(version.version, version)
        keys = ((version.version, host) for host in version.hosts)
        return [self._targets[key] for key in keys if key in self._targets]

    def pick(self, version: Version, but: set[str]) -> Target | None:
        """The next of the version's reachable targets in turn, one that isn't among `but` if there is one."""
        reachable = [one for one in self.of(version) if one.reachable]
        if not reachable:
            return None
        fresh = [one for one in reachable if one.host not in but] or reachable
        self._turn += 1
        return fresh[self._turn % len(fresh)]

    def why_not(self, version: Version) -> str | None:
        """Why no target of the version is available; None when one is."""
        targets = self.of(version)
        if any(one.available for one in targets):
            return None
        if not targets:
            return "it has no address yet"
        return "; ".join(f"{one.host}: {one.why or 'not asked yet'}" for one in targets)

    @contextlib.contextmanager
    def using(self, target: Target) -> Iterator[None]:
        """A request is on its way to the target."""
        target.in_flight += 1
        try:
            yield
        finally:
            target.in_flight -= 1

    def failed(self, target: Target, why: str) -> None:
        """A request met with this on the target."""
        self._set(target, why)
        target.wake.set()

    async def change(self, within: float) -> None:
        """Return when anything about any target has changed, or when the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._changed.wait()

    async def _keep_asking(self, model: str, target: Target) -> None:
        wait, silences = ASK_SOON, 0
        path = url(target.host, self._server.port, self._server.status(model, target.version))
        while True:
            target.wake.clear()
            try:
                async with self._session.get(path, timeout=aiohttp.ClientTimeout(total=ANSWER_WITHIN)) as answer:
                    why = self._server.not_ready(answer.status, await answer.read())
            except TimeoutError:
                silences += 1
                why = target.why if silences < SILENCES and target.reachable else f"no answer within {ANSWER_WITHIN:g} s"
            except (aiohttp.ClientError, OSError) as error:
                why = said(error)
            else:
                silences = 0
            target.asked = True
            self._set(target, why)
            wait = ASK_EVERY if target.reachable else min(wait * 2, ASK_EVERY)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await target.wake.wait()
                    wait = ASK_SOON

    def _set(self, target: Target, why: str | None) -> None:
        reachable = why is None
        if reachable != target.reachable:
            said_of = "answers" if reachable else f"doesn't answer: {why}"
            log.info("version %s on %s %s", target.version, target.host, said_of)
        target.reachable, target.why = reachable, why
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def said(error: BaseException) -> str:
    """What a connection's error says, in a few words."""
    match error:
        case aiohttp.ClientConnectorError(os_error=OSError(errno=int(number))):
            return os.strerror(number).lower()
        case aiohttp.ServerDisconnectedError():
            return "the server closed the connection"
        case TimeoutError():
            return "no answer in time"
    return str(error) or type(error).__name__
