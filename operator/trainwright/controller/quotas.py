"""A copy of all namespaces' ResourceQuotas for `capacity`, as long as it may be had.

Nobody waits for it: without the right to list them, gangs are decided on as if there were none, and the API server refuses what
is beyond one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from trainwright.cluster.port import RESOURCE_QUOTAS, Cluster, ClusterError, Forbidden, Object
from trainwright.controller.store import Store
from trainwright.schedulers.capacity.quotas import Quota, read_quota

log = logging.getLogger(__name__)

FORBIDDEN_RETRY_SECONDS = 60.0
RETRY_SECONDS = 2.0


class Quotas:
    """`on_change` is called when one allows, uses or is for something else than before. `asked`: an answer has come."""

    def __init__(self, cluster: Cluster, *, on_change: Callable[[], None]) -> None:
        self.store = Store(cluster, RESOURCE_QUOTAS, on_change=self._changed)
        self.asked = asyncio.Event()
        self._on_change = on_change
        self._read: dict[tuple[str, str], Quota] = {}
        self._known = True

    def all(self) -> list[Quota]:
        """What is known of them; nothing once they may be looked at no more."""
        return list(self._read.values()) if self._known else []

    async def run(self) -> None:
        """Work until cancelled."""
        while not await self._listed():
            self.asked.set()
            await asyncio.sleep(RETRY_SECONDS if self._known else FORBIDDEN_RETRY_SECONDS)
        self.asked.set()
        await self.store.run()

    async def relist(self) -> None:
        """Compare with a list, if there has been one."""
        if self.store.synced.is_set():
            await self._listed()

    async def _listed(self) -> bool:
        try:
            await self.store.relist()
        except ClusterError as error:
            forbidden = isinstance(error, Forbidden)
            if self._known or not forbidden:
                log.warning("capacity: quotas are left to the API server: %s", error)
            self._become(known=self._known and not forbidden)
            return False
        self._become(known=True)
        return True

    def _become(self, *, known: bool) -> None:
        if known is not self._known:
            self._known = known
            self._on_change()

    def _changed(self, raw: Object) -> None:
        key = raw["metadata"].get("namespace", ""), raw["metadata"]["name"]
        there = self.store.get(*key)
        now = None if there is None else read_quota(there)
        if now == self._read.get(key):
            return
        if now is None:
            del self._read[key]
        else:
            self._read[key] = now
        self._on_change()
