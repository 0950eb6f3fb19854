"""A job whose scheduler and kubelet are played by a test, on any adapter of the port, with an operator that comes and goes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from support.builders import job
from support.operating import operating
from support.pods import ScriptedKubelet
from support.schedulers import ScriptedScheduler, install, kinds, policy
from support.waiting import eventually
from trainwright.api.scheduling import ProviderName
from trainwright.cluster.memory import MemoryCluster
from trainwright.cluster.port import TRAINING_JOBS, Cluster, Object
from trainwright.controller.operator import Operator


class Played:
    """A job, its operator, and the two that are played."""

    def __init__(self, cluster: Cluster, provider: ProviderName, namespace: str) -> None:
        self.cluster = cluster
        self.provider = provider
        self.namespace = namespace
        self.scheduler = ScriptedScheduler(cluster, provider, namespace)
        self.kubelet = ScriptedKubelet(cluster, namespace, bind=isinstance(cluster, MemoryCluster))

    @contextlib.asynccontextmanager
    async def operating(self, cluster: Any = None) -> AsyncIterator[Operator]:
        options = {"discovery_seconds": 0.2, "serving": False}
        # Kueue's provider reads what belongs to no namespace.
        namespace = None if self.provider is ProviderName.KUEUE else self.namespace
        async with operating(cluster or self.cluster, namespace=namespace, **options) as operator:
            yield operator

    async def submit(self, **fields: Any) -> None:
        made = job().namespace(self.namespace).workers(2).run_policy(**policy(self.provider, **fields))
        await self.cluster.create(TRAINING_JOBS, made.build())

    async def change(self, **fields: Any) -> None:
        await self.cluster.patch(TRAINING_JOBS, "digits", self.namespace, {"spec": {"runPolicy": fields}})

    async def status(self) -> Object:
        found: Object = (await self.cluster.get(TRAINING_JOBS, "digits", self.namespace)).get("status") or {}
        return found

    async def until(self, holds: Callable[[Object], Any], what: str) -> Object:
        last: Object = {}

        async def reached() -> Object | None:
            nonlocal last
            last = await self.status()
            return last if holds(last) else None

        try:
            found: Object = await eventually(reached, within=20)
        except AssertionError:
            raise AssertionError(f"not in time: {what}; last seen: {last}") from None
        return found

    async def phase(self, wanted: str) -> Object:
        return await self.until(lambda status: status.get("phase") == wanted, wanted)

    async def pods(self, count: int, attempt: int = 1) -> list[Object]:
        async def there() -> list[Object] | None:
            found = [pod for pod in await self.kubelet.pods("digits") if f"-a{attempt}-" in pod["metadata"]["name"]]
            return found if len(found) == count else None

        found: list[Object] = await eventually(there, within=20, what=f"{count} pods of attempt {attempt}") if count else []
        return found

    async def run(self) -> None:
        await self.kubelet.run_all("digits")
        await self.phase("Running")

    async def confirm(self, until: Callable[[], Awaitable[bool]], what: str) -> None:
        """Let the kubelet end what is to go, until something holds."""

        async def done() -> bool:
            await self.kubelet.confirm_deletions("digits")
            return await until()

        await eventually(done, within=20, what=what)

    async def no_groups(self) -> bool:
        return not await self.scheduler.names()


async def playing(provider: ProviderName, cluster: Cluster, namespace: str) -> Played:
    """With the scheduler's kinds; without them the test is skipped."""
    if isinstance(cluster, MemoryCluster):
        cluster._served = (*cluster._served, *kinds(provider))
    elif provider is not ProviderName.NATIVE:
        try:
            await install(cluster, provider)
        except FileNotFoundError as missing:
            pytest.skip(str(missing))
    return Played(cluster, provider, namespace)
