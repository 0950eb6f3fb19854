"""One operator at a time: a Lease that the working one renews, and the others wait for.

Who leads is decided by the API server's optimistic concurrency, and time by each replica's own monotonic clock: a lease is
free when its holder has not renewed it for as long as the lease says, counted from when that was *seen*. A leader that can't
renew in time ends its process before anybody else may take over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from trainwright.cluster.port import LEASES, AlreadyExists, Cluster, ClusterError, Conflict, NotFound, Object
from trainwright.observe.times import rfc3339_micro

log = logging.getLogger(__name__)

LEASE_SECONDS = 15
RENEW_WITHIN_SECONDS = 10.0
RETRY_SECONDS = 2.0


class LeadershipLost(RuntimeError):
    """The lease could not be renewed in time, or somebody else holds it now."""


class Leader:
    """`identity` tells the replicas apart, as a pod's name does."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        name: str,
        namespace: str,
        identity: str,
        lease_seconds: int = LEASE_SECONDS,
        renew_within: float = RENEW_WITHIN_SECONDS,
        retry: float = RETRY_SECONDS,
    ) -> None:
        self._cluster = cluster
        self._name = name
        self._namespace = namespace
        self._identity = identity
        self._lease_seconds = lease_seconds
        self._renew_within = renew_within
        self._retry = retry
        self._seen: tuple[Any, Any] = (None, None)
        self._seen_at = 0.0
        self.leads = False

    async def acquire(self) -> None:
        """Return when this replica leads."""
        told = ""
        while not await self._try():
            holder = str(self._seen[0])
            if holder != told:
                log.info("%s leads; this replica (%s) stands by", holder, self._identity)
                told = holder
            await asyncio.sleep(self._retry)
        self.leads = True
        log.info("%s leads", self._identity)

    async def hold(self) -> None:
        """Renew for ever. Raises `LeadershipLost`."""
        renewed = self._now()
        while True:
            await asyncio.sleep(self._retry)
            try:
                async with asyncio.timeout(max(0.1, renewed + self._renew_within - self._now())):
                    held = await self._try()
            except TimeoutError:
                held = None
            if held:
                renewed = self._now()
            elif held is False:
                self.leads = False
                raise LeadershipLost(f"the lease {self._namespace}/{self._name} belongs to {self._seen[0]} now")
            if self._now() - renewed >= self._renew_within:
                self.leads = False
                raise LeadershipLost(f"the lease {self._namespace}/{self._name} was not renewed for {self._renew_within:.0f} s")

    async def release(self) -> None:
        """Let the next one begin at once."""
        if not self.leads:
            return
        self.leads = False
        try:
            lease = await self._cluster.get(LEASES, self._name, self._namespace)
            if lease["spec"].get("holderIdentity") == self._identity:
                await self._write(
                    lease, {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": rfc3339_micro(time.time())}
                )
        except ClusterError as error:
            log.info("the lease was not given back: %s", error)

    async def _try(self) -> bool | None:
        """Whether this replica leads now; None when nobody could be asked."""
        try:
            return await self._renewed()
        except (AlreadyExists, Conflict):
            return False
        except ClusterError as error:
            log.warning("lease %s/%s: %s", self._namespace, self._name, error)
            return None

    async def _renewed(self) -> bool:
        """Take the lease, or renew it, unless somebody else has it."""
        try:
            lease = await self._cluster.get(LEASES, self._name, self._namespace)
            spec = lease.get("spec", {})
            holder, seen = spec.get("holderIdentity"), (spec.get("holderIdentity"), spec.get("renewTime"))
            if seen != self._seen:
                self._seen, self._seen_at = seen, self._now()
            if holder not in ("", None, self._identity) and self._now() < self._seen_at + spec.get("leaseDurationSeconds", 0):
                return False
            await self._write(lease, self._claim(spec))
        except NotFound:
            await self._create()
        return True

    async def _create(self) -> Object:
        lease = {"metadata": {"name": self._name, "namespace": self._namespace}, "spec": self._claim({})}
        return await self._cluster.create(LEASES, {"apiVersion": LEASES.api_version, "kind": LEASES.kind, **lease})

    async def _write(self, lease: Object, spec: dict[str, Any]) -> Object:
        patch = {"metadata": {"resourceVersion": lease["metadata"]["resourceVersion"]}, "spec": spec}
        return await self._cluster.patch(LEASES, self._name, self._namespace, patch)

    def _claim(self, before: dict[str, Any]) -> dict[str, Any]:
        """What the lease says once it is ours; when its holder changes, that is counted."""
        now = rfc3339_micro(time.time())
        mine = {"holderIdentity": self._identity, "leaseDurationSeconds": self._lease_seconds, "renewTime": now}
        if before.get("holderIdentity") == self._identity:
            return mine
        return mine | {"acquireTime": now, "leaseTransitions": int(before.get("leaseTransitions", -1)) + 1}

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
