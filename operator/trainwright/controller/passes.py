"""What every pass has around it, whatever kind it is over: it is counted and timed, and a conflict is looked at anew."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

from trainwright.cluster.port import Cluster, ClusterError, Conflict, NotFound
from trainwright.controller.logs import JOB
from trainwright.controller.metrics import Metrics
from trainwright.controller.store import Store

log = logging.getLogger(__name__)

# Whoever was quicker may write again in a moment.
CONFLICT_RETRY_SECONDS = 0.05

Work = Callable[[str], Awaitable[float | None]]


class Passes:
    """Passes over the objects of `store`."""

    def __init__(self, cluster: Cluster, store: Store, metrics: Metrics) -> None:
        self._cluster = cluster
        self._store = store
        self._metrics = metrics

    async def run(self, key: str, work: Work) -> float | None:
        """One pass; returns in how many seconds another is wanted. Raises what the API raised, after logging it."""
        started = time.monotonic()
        JOB.set(key)
        result = "error"
        try:
            later = await work(key)
            result = "ok"
        except Conflict:
            # Somebody else changed the object while we decided; look again at what it is now.
            result = "conflict"
            later = await self._refresh(key)
        except ClusterError as error:
            log.warning("%s", error)
            raise
        except Exception:
            log.exception("the pass failed")
            raise
        finally:
            self._metrics.reconciles.labels(result).inc()
            self._metrics.reconcile_seconds.observe(time.monotonic() - started)
        return later

    async def _refresh(self, key: str) -> float:
        namespace, name = key.split("/", 1)
        try:
            self._store.put(await self._cluster.get(self._store.resource, name, namespace))
        except NotFound:
            self._store.drop(namespace, name)
        return CONFLICT_RETRY_SECONDS
