"""A process node on a cluster in memory: processes are real, and pods are bound by the test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from support.waiting import eventually
from trainwright.cluster.memory import MemoryCluster
from trainwright.cluster.port import PODS, ClusterError, Object
from trainwright.local.cgroups import LEAF, PREFIX, Groups
from trainwright.local.gpus import Gpus
from trainwright.local.node import ProcessNode


class Unreliable(MemoryCluster):
    """An in-memory cluster whose API server can be away for reads and writes; watches stay open and silent.

    `groups`: where its nodes make cgroups.
    """

    away = False
    groups: Groups | None = None

    def _check(self) -> None:
        if self.away:
            raise ClusterError("connection refused", status=0)

    async def get(self, *args: Any, **kwargs: Any) -> Object:
        self._check()
        return await super().get(*args, **kwargs)

    async def create(self, *args: Any, **kwargs: Any) -> Object:
        self._check()
        return await super().create(*args, **kwargs)

    async def apply(self, *args: Any, **kwargs: Any) -> Object:
        self._check()
        return await super().apply(*args, **kwargs)

    async def patch(self, *args: Any, **kwargs: Any) -> Object:
        self._check()
        return await super().patch(*args, **kwargs)

    async def delete(self, *args: Any, **kwargs: Any) -> None:
        self._check()
        await super().delete(*args, **kwargs)


def cgroups_left(groups: Groups) -> list[str]:
    return [path.name for path in groups.path.iterdir() if path.name.startswith(PREFIX) and path.name != LEAF]


@contextlib.asynccontextmanager
async def running_node(cluster: Unreliable, state: Path, *, gpus: Gpus | None = None) -> AsyncIterator[asyncio.Task[None]]:
    gpus = gpus or Gpus(real=[], pretended=0)
    node = ProcessNode(cluster, name="n", state=state, prefix="127.231.7", gpus=gpus, groups=cluster.groups)
    task = asyncio.create_task(node.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def pod(name: str, script: str, *, container: dict[str, Any] | None = None, **spec: Any) -> Object:
    main = {"name": "main", "image": "example", "command": ["sh", "-c", script], **(container or {})}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": "n", "restartPolicy": "Never", "containers": [main], **spec},
    }


async def state_of(cluster: MemoryCluster, name: str, kind: str) -> dict[str, Any]:
    async def there() -> dict[str, Any]:
        status = (await cluster.get(PODS, name, "default"))["status"]
        found: dict[str, Any] = status.get("containerStatuses", [{"state": {}}])[0]["state"].get(kind)
        return found

    found: dict[str, Any] = await eventually(there, within=15, what=f"{name} is {kind}")
    return found


async def log_of(state: Path, cluster: MemoryCluster, name: str) -> str:
    uid = (await cluster.get(PODS, name, "default"))["metadata"]["uid"]
    return (state / "pods" / uid / "log").read_text()
