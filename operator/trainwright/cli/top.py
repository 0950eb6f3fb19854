"""`top`: all jobs and the cluster's GPUs, live."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.text import Text

from trainwright.cli.app import Output, UserError, emit, out, show
from trainwright.cli.connect import connected
from trainwright.cli.overview import Overview, overview
from trainwright.cli.tables import top_table
from trainwright.cluster.port import NODES, PODS, TRAINING_JOBS, Cluster, Forbidden, Object, Resource
from trainwright.controller import store

REFRESH_SECONDS = 1.0
STALE_SECONDS = 15.0
# Lines of the screen that are not jobs: the head, the column titles, the remark on what is hidden.
FRAME_LINES = 6


def top(
    namespace: str | None, kubeconfig: Path | None, context: str | None, *, everywhere: bool, output: Output, once: bool
) -> None:
    if everywhere and namespace:
        raise UserError("--all-namespaces and --namespace exclude each other")
    asyncio.run(_top(namespace, kubeconfig, context, everywhere=everywhere, output=output, once=once))


async def _top(
    namespace: str | None, kubeconfig: Path | None, context: str | None, *, everywhere: bool, output: Output, once: bool
) -> None:
    async with connected(kubeconfig, context) as cluster:
        where = None if everywhere else namespace or cluster.namespace
        if output is not Output.TABLE:
            emit((await look(cluster, where)).wire(), output)
        elif once or not out.is_terminal:
            show(top_table(await look(cluster, where), width=out.width, namespaces=everywhere))
        else:
            await _live(cluster, where)


async def look(cluster: Cluster, namespace: str | None) -> Overview:
    """One look at everything. What belongs to the whole cluster is left out where we may not see it."""
    jobs = (await cluster.list(TRAINING_JOBS, namespace)).items
    nodes, pods = await _if_allowed(cluster, NODES), await _if_allowed(cluster, PODS)
    if pods is None and namespace is not None:
        own = await _if_allowed(cluster, PODS, namespace)
        return overview(jobs, None, own, time.time())
    return overview(jobs, nodes, pods, time.time())


async def _if_allowed(cluster: Cluster, resource: Resource, namespace: str | None = None) -> list[Object] | None:
    try:
        return (await cluster.list(resource, namespace)).items
    except Forbidden:
        return None


async def _live(cluster: Cluster, namespace: str | None) -> None:
    """Show what watches bring until Ctrl-C; nodes and pods only where one look has shown that we may."""
    whole = (await look(cluster, namespace)).gpus is not None
    jobs = store.Store(cluster, TRAINING_JOBS, namespace=namespace)
    nodes, pods = store.Store(cluster, NODES), store.Store(cluster, PODS)
    watched = [jobs, nodes, pods] if whole else [jobs]
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tasks = [asyncio.create_task(one.run()) for one in watched]
    try:
        for one in watched:
            await one.synced.wait()
        with _troubles() as troubles, Live(console=out, screen=True, auto_refresh=False) as live:
            while not stop.is_set():
                now = overview(jobs.all(), nodes.all() if whole else None, pods.all() if whole else None, time.time())
                room = out.height - FRAME_LINES - min(2 * len(now.queue), out.height // 3)
                view = top_table(now, width=out.width, namespaces=namespace is None, limit=room)
                clock = Text(f"{datetime.now().astimezone():%H:%M:%S}  {namespace or 'all namespaces'}", "dim")
                live.update(Group(clock, *troubles.lines(), view), refresh=True)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), REFRESH_SECONDS)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Troubles(logging.Handler):
    """The last thing that a watch complained of: a screen that stands still must say that it does."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._last: tuple[float, str] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self._last = (time.monotonic(), record.getMessage())

    def lines(self) -> list[Text]:
        if self._last is None or time.monotonic() - self._last[0] > STALE_SECONDS:
            return []
        return [Text(f"not up to date: {self._last[1]}", "yellow")]


@contextlib.contextmanager
def _troubles() -> Iterator[_Troubles]:
    handler = _Troubles()
    store.log.addHandler(handler)
    store.log.propagate = False
    try:
        yield handler
    finally:
        store.log.removeHandler(handler)
        store.log.propagate = True
