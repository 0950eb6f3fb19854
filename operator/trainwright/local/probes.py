"""Probes of a container, as a kubelet makes them: startup first, then readiness and liveness for as long as it runs."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

Object = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a container's probes are made: its address, and how a program of an `exec` probe is started there."""

    address: str
    environment: dict[str, str]
    directory: str


class Probes:
    """`on_ready` is told when readiness changes; `on_dead` once, in words, when the container is to be killed."""

    def __init__(
        self,
        container: Object,
        place: Place,
        *,
        on_ready: Callable[[bool], Awaitable[None]],
        on_dead: Callable[[str], None],
    ) -> None:
        self._container = container
        self._place = place
        self._on_ready = on_ready
        self._on_dead = on_dead

    @staticmethod
    def asked(container: Object) -> bool:
        """Whether a container that has just started is not ready yet."""
        return "readinessProbe" in container or "startupProbe" in container

    async def run(self) -> None:
        """Probe until cancelled, or until the container is given up."""
        if (startup := self._container.get("startupProbe")) and not await self._until(startup, succeeded=True):
            self._on_dead("it did not start in time: its startup probe failed")
            return
        async with asyncio.TaskGroup() as group:
            if readiness := self._container.get("readinessProbe"):
                group.create_task(self._readiness(readiness))
            else:
                await self._on_ready(True)
            if liveness := self._container.get("livenessProbe"):
                group.create_task(self._liveness(liveness))

    async def _readiness(self, probe: Object) -> None:
        while True:
            await self._until(probe, succeeded=True, give_up=False)
            await self._on_ready(True)
            await self._until(probe, succeeded=False)
            await self._on_ready(False)

    async def _liveness(self, probe: Object) -> None:
        await self._until(probe, succeeded=False)
        self._on_dead("its liveness probe failed")

    async def _until(self, probe: Object, *, succeeded: bool, give_up: bool = True) -> bool:
        """Probe until that has happened as often in a row as asked for. Waiting for success, False after too many failures."""
        wanted = probe.get("successThreshold", 1) if succeeded else probe.get("failureThreshold", 3)
        limit = probe.get("failureThreshold", 3)
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        in_row = failures = 0
        while True:
            good = await self._probe(probe)
            in_row = in_row + 1 if good is succeeded else 0
            failures = 0 if good else failures + 1
            if in_row >= wanted:
                return True
            if succeeded and give_up and failures >= limit:
                return False
            await asyncio.sleep(probe.get("periodSeconds", 10))

    async def _probe(self, probe: Object) -> bool:
        try:
            async with asyncio.timeout(probe.get("timeoutSeconds", 1)):
                if get := probe.get("httpGet"):
                    return await self._get(get)
                if socket := probe.get("tcpSocket"):
                    _, writer = await asyncio.open_connection(self._place.address, self._port(socket["port"]))
                    writer.close()
                    return True
                return await self._execute(probe.get("exec", {}).get("command", []))
        except (OSError, TimeoutError, aiohttp.ClientError):
            return False

    async def _get(self, get: Object) -> bool:
        url = f"{get.get('scheme', 'HTTP').lower()}://{self._place.address}:{self._port(get['port'])}{get.get('path', '/')}"
        headers = {one["name"]: one["value"] for one in get.get("httpHeaders", [])}
        async with aiohttp.ClientSession(trust_env=False) as session, session.get(url, headers=headers, ssl=False) as answer:
            return 200 <= answer.status < 400

    async def _execute(self, command: list[str]) -> bool:
        if not command:
            return False
        process = await asyncio.create_subprocess_exec(
            *command,
            env=self._place.environment,
            cwd=self._place.directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            return await process.wait() == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    def _port(self, port: int | str) -> int:
        """A number, or the name of one of the container's ports."""
        if isinstance(port, int) or re.fullmatch(r"\d+", port):
            return int(port)
        named = {one.get("name"): one["containerPort"] for one in self._container.get("ports", [])}
        return int(named.get(port, 0))
