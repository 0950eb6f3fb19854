"""A client that does nothing but create: the floor that the operator is compared with, and the user who submits jobs.

A process of its own, as the operator is, so that both share the machine in the same way. `python -m bench.driver` reads from
stdin a line with a kind and objects, says `ready` when its connections are open, and on the next line creates all of them, 32
requests in flight; then it says `done`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import Object, Resource
from trainwright.controller.execute import CONCURRENCY


class Driver:
    """The other end, for cases: `async with loaded(...) as driver`, then `go`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._used_before = 0.0

    async def go(self) -> None:
        """Start creating; returns at once."""
        await self._write("go")

    async def done(self) -> None:
        """Wait until everything is created. Raises RuntimeError with the driver's last line when it could not be."""
        await self._expect("done")

    def cpu_seconds(self) -> float:
        """CPU used since it was ready."""
        return self._used() - self._used_before

    async def ready(self, work: str) -> None:
        """Hand it its work, and wait until it may start."""
        await self._write(work)
        await self._expect("ready")
        self._used_before = self._used()

    def _used(self) -> float:
        return sum(psutil.Process(self._process.pid).cpu_times()[:2])

    async def _write(self, line: str) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        self._process.stdin.write(f"{line}\n".encode())
        await self._process.stdin.drain()

    async def _expect(self, word: str) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        line = (await self._process.stdout.readline()).decode().strip()
        if line != word:
            raise RuntimeError(f"the driver said {line or 'nothing'!r} instead of {word!r}")


@contextlib.asynccontextmanager
async def loaded(kubeconfig: Path, resource: Resource, objects: list[Object]) -> AsyncIterator[Driver]:
    """A driver with its objects and open connections."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.driver",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONPATH": str(Path(__file__).parents[1])},
        start_new_session=True,
    )
    try:
        driver = Driver(process)
        await driver.ready(json.dumps({"resource": asdict(resource), "objects": objects}))
        yield driver
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def serve() -> None:
    """The driver's life."""
    work: dict[str, Any] = json.loads(await _line())
    resource = Resource(**work["resource"])
    cluster = await KubeCluster.connect()
    limit = asyncio.Semaphore(CONCURRENCY)

    async def create(obj: Object) -> None:
        async with limit:
            await cluster.create(resource, obj)

    try:
        await asyncio.gather(*(cluster.ready() for _ in range(CONCURRENCY)))
        _say("ready")
        await _line()
        await asyncio.gather(*(create(obj) for obj in work["objects"]))
        _say("done")
        await _line()
    finally:
        await cluster.close()


async def _line() -> str:
    return await asyncio.to_thread(sys.stdin.readline)


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve())
