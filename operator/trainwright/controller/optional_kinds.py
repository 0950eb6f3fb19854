"""Kinds of others', which a cluster may have or not, and may get or lose while we run: HTTPRoutes, and what schedulers go by."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from trainwright.cluster.port import Resource
from trainwright.controller.store import Store
from trainwright.schedulers.objects import Api

log = logging.getLogger(__name__)

DISCOVERY_SECONDS = 10.0
IDLE_DISCOVERY_SECONDS = 300.0
# How often somebody who waits for a first list is told what is in its way.
TROUBLE_SECONDS = 5.0

Discover = Callable[[str], Awaitable[Mapping[str, tuple[str, ...]] | None]]
"""Kinds of an API group by version, as the cluster serves them; None when it can't be told just now."""


class OptionalKinds:
    """The kinds of one API. `stores` have their objects, by kind, while it is served, and are none otherwise.

    `version`: the one that is served and followed; `known`: whether the cluster has ever been heard on it. `on_change` is told
    when it has come or gone, and when all of it has been seen.
    """

    def __init__(self, api: Api, new_store: Callable[[Resource], Store], *, on_change: Callable[[], None] = lambda: None) -> None:
        self.api = api
        self.version: str | None = None
        self.known = False
        self.stores: dict[str, Store] = {}
        self._new_store = new_store
        self._on_change = on_change
        self._following: list[asyncio.Task[None]] = []

    @property
    def synced(self) -> bool:
        """Whether all there is of it has been seen once."""
        return all(store.synced.is_set() for store in self.stores.values())

    async def discover(self, discover: Discover) -> None:
        """Ask the cluster, and begin or cease to follow. Not knowing changes nothing."""
        found = await discover(self.api.group)
        if found is None:
            return
        version, was_known = self.api.served(found), self.known
        self.known = True
        if version == self.version and was_known:
            return
        if version != self.version:
            log.info("%s: %s", self.api.group, f"served as {version}" if version else "not served any more")
        self.stop()
        if version is not None:
            self.serve(version)
            self._following = [asyncio.create_task(store.run()) for store in self.stores.values()]
            self._following.append(asyncio.create_task(self._tell_when_synced()))
        self._on_change()

    def serve(self, version: str) -> None:
        """Have stores for this version, which somebody keeps fresh."""
        own = [Resource(kind, plural, self.api.group, version) for kind, plural in self.api.kinds.items()]
        reads = [Resource(one.kind, one.plural, one.group, one.version, namespaced=False) for one in self.api.reads]
        self.stores = {resource.kind: self._new_store(resource) for resource in (*own, *reads)}
        self.version, self.known = version, True

    @property
    def trouble(self) -> str:
        """Why something of it can't be read, in the API server's words; empty when nothing was said."""
        return next((store.trouble for store in self.stores.values() if store.trouble), "")

    async def _tell_when_synced(self) -> None:
        """Where there is nothing, its list wakes nobody; who waits for it must hear of it, and why it takes so long."""
        while not self.synced:
            waits = [store.synced.wait() for store in self.stores.values()]
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.gather(*waits), TROUBLE_SECONDS)
            self._on_change()

    def stop(self) -> None:
        """Follow no more."""
        for task in self._following:
            task.cancel()
        self._following = []
        self.stores = {}
        self.version = None


async def keep_asking(kinds: Sequence[OptionalKinds], discover: Discover, *, interval: float, asked: Callable[[], bool]) -> None:
    """Ask for these again and again until cancelled: every `interval` seconds while somebody wants one, otherwise seldom."""
    since = time.monotonic()
    try:
        while True:
            await asyncio.sleep(interval)
            if asked() or time.monotonic() - since > IDLE_DISCOVERY_SECONDS:
                since = time.monotonic()
                for one in kinds:
                    await one.discover(discover)
    finally:
        for one in kinds:
            one.stop()
