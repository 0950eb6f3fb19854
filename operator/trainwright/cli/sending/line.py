"""The line to the pod that takes an artifact: straight to its address where that leads to it, else through the API server."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
from typing import Any

import aiohttp

from trainwright.api.names import CLIENT_PORT
from trainwright.cluster.kube import POD_TIMEOUT_SECONDS, KubeCluster
from trainwright.cluster.port import ClusterError, NotFound

TOKEN_HEADER = "x-trainwright-token"  # noqa: S105 - its name
CONNECT_SECONDS = 2.0
TRIES = 6

Answer = tuple[int, dict[str, Any]]


class Line:
    """Make it with `open_line`."""

    def __init__(self, cluster: KubeCluster, pod: str, namespace: str, token: str) -> None:
        self._cluster = cluster
        self._pod, self._namespace = pod, namespace
        self._token = token
        self._direct: tuple[aiohttp.ClientSession, str] | None = None

    async def open(self, address: str) -> None:
        """Find the way. Raises `ClusterError`."""
        timeout = aiohttp.ClientTimeout(total=POD_TIMEOUT_SECONDS, sock_connect=CONNECT_SECONDS)
        session = aiohttp.ClientSession(timeout=timeout, trust_env=False)
        self._direct = (session, f"http://{address}:{CLIENT_PORT}")
        try:
            async with asyncio.timeout(2 * CONNECT_SECONDS):
                if await self._is_ours():
                    return
        except (ClusterError, TimeoutError):
            pass
        await self.close()
        if not await self._is_ours():
            raise ClusterError(f"pod {self._pod} does not answer as the receiver of an artifact does")

    async def close(self) -> None:
        if self._direct is not None:
            await self._direct[0].close()
            self._direct = None

    async def ask(self, method: str, path: str, data: bytes | None = None) -> Answer:
        """Its answer; asked again when there is none. Raises `ClusterError`."""
        for left in reversed(range(TRIES)):
            try:
                return await self._once(method, path, data, {TOKEN_HEADER: self._token})
            except NotFound:
                raise
            except ClusterError as error:
                if not left or 0 < error.status < 500:
                    raise
            await asyncio.sleep(2.0 ** (TRIES - 1 - left) / 4)
        raise AssertionError("the last try returns or raises")

    async def _is_ours(self) -> bool:
        """Whether who answers there knows what only this pod was told: an address may be somebody else's here."""
        challenge = secrets.token_hex(16)
        status, answer = await self._once("GET", f"/hello?challenge={challenge}", None, {})
        known = hashlib.sha256(self._token.encode()).hexdigest()
        wanted = hmac.new(known.encode(), challenge.encode(), hashlib.sha256).hexdigest()
        return status == 200 and hmac.compare_digest(str(answer.get("proof", "")), wanted)

    async def _once(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> Answer:
        if self._direct is None:
            status, content = await self._cluster.ask_pod(
                method, self._pod, self._namespace, CLIENT_PORT, path, data=data, headers=headers
            )
        else:
            session, place = self._direct
            try:
                async with session.request(method, f"{place}{path}", data=data, headers=headers) as response:
                    status, content = response.status, await response.read()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise ClusterError(f"no answer from {place}: {error or type(error).__name__}") from error
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ClusterError(f"pod {self._pod} answered {status} {content[:200].decode(errors='replace')}", status=status)
        return status, answer
