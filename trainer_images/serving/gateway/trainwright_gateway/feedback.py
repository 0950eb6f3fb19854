"""`POST /feedback`: the right answer to an earlier request, by the request's id.

The id says which gateway has answered, by its address, and when; so any gateway takes any label, and hands it to the right one.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import re
import time
from collections import Counter
from typing import Any

import aiohttp

from trainwright_gateway.monitor import Monitor, NotWatching
from trainwright_gateway.proxy import Answer, problem
from trainwright_gateway.routes import Routes
from trainwright_gateway.upstreams import said, url

PORT = 8080
FORWARDED = "x-trainwright-forwarded"
PEER_WITHIN = 10.0
_ID = re.compile(r"(?P<instance>[0-9a-f]{8}|[0-9a-f]{32})-(?P<time>[0-9a-f]{1,12})-(?P<number>[0-9a-f]{1,16})")


class Ids:
    """Makes the ids of one gateway's requests: its address, milliseconds of the clock, a number."""

    def __init__(self, address: str) -> None:
        self.instance = ipaddress.ip_address(address).packed.hex()
        self._numbers = itertools.count()

    def make(self) -> str:
        return f"{self.instance}-{int(time.time() * 1000):x}-{next(self._numbers):x}"


class Feedback:
    """Takes labels. `counts` is by result."""

    def __init__(self, ids: Ids, monitor: Monitor, session: aiohttp.ClientSession) -> None:
        self._ids = ids
        self._monitor = monitor
        self._session = session
        self._since = time.time()
        self.counts: Counter[str] = Counter()

    async def take(self, body: bytes, routes: Routes | None, *, forwarded: bool) -> Answer:
        result, answer = await self._take(body, routes, forwarded=forwarded)
        self.counts[result] += 1
        return answer

    async def _take(self, body: bytes, routes: Routes | None, *, forwarded: bool) -> tuple[str, Answer]:
        try:
            found = json.loads(body)
        except (ValueError, RecursionError) as error:
            return "invalid", problem(400, f"the body is no JSON: {error}")
        if not isinstance(found, dict) or set(found) != {"id", "label"}:
            given = ", ".join(map(repr, sorted(found))) if isinstance(found, dict) else type(found).__name__
            return "invalid", problem(
                400, f'the body must be {{"id": "<x-request-id of the answer>", "label": …}}, not {given or "empty"}'
            )
        name = found["id"]
        parts = _ID.fullmatch(name) if isinstance(name, str) else None
        if parts is None:
            return "invalid", problem(400, f"id: {name!r:.80} is no x-request-id of an answer")
        if parts["instance"] != self._ids.instance:
            return await self._forward(name, parts["instance"], body, routes, forwarded=forwarded)
        when = int(parts["time"], 16) / 1000
        if routes is not None and when < time.time() - routes.sync.monitoring.label_window_seconds:
            seconds = routes.sync.monitoring.label_window_seconds
            return "late", problem(410, f"id {name!r} is older than {seconds:g} s: labels are taken for so long")
        if when < self._since:
            return "unknown", problem(
                404, f"id {name!r} is from before this gateway was started; what it answered then is forgotten"
            )
        return await self._own(name, found["label"])

    async def _own(self, name: str, label: Any) -> tuple[str, Answer]:
        try:
            found = await self._monitor.label(name, label)
        except NotWatching as error:
            return "failed", problem(503, f"labels can't be taken now: {error}", retry_after=1)
        if found["status"] != 200:
            return found["result"], problem(found["status"], found["error"])
        content = json.dumps({"id": name, "rows": found["rows"]}).encode()
        return "accepted", Answer(status=200, body=content, headers={"content-type": "application/json"}, version=None)

    async def _forward(
        self, name: str, instance: str, body: bytes, routes: Routes | None, *, forwarded: bool
    ) -> tuple[str, Answer]:
        peers = {ipaddress.ip_address(str(one)).packed.hex(): str(one) for one in routes.sync.peers} if routes else {}
        if forwarded or instance not in peers:
            return "unknown", problem(404, f"id {name!r} is of a gateway that isn't known here, or is no more")
        try:
            async with self._session.post(
                url(peers[instance], PORT, "/feedback"),
                data=body,
                headers={"content-type": "application/json", FORWARDED: "1"},
                timeout=aiohttp.ClientTimeout(total=PEER_WITHIN),
            ) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            return "failed", problem(
                503, f"the gateway on {peers[instance]}, whose id this is, can't be asked: {said(error)}", retry_after=1
            )
        headers = {"content-type": answer.headers.get("content-type", "application/json")}
        return "forwarded", Answer(status=answer.status, body=content, headers=headers, version=None)
