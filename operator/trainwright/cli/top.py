"""`top`: all jobs and the cluster's GPUs, live; with `--gpus` who holds them and who waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from trainwright.cli.app import Output, UserError, emit, out, show
from trainwright.cli.connect import connected
from trainwright.cli.gpu_tables import gpu_table
from trainwright.cli.gpus import GpuView, gpu_view
from trainwright.cli.overview import Overview, overview
from trainwright.cli.tables import top_table
from trainwright.cluster.port import NODES, PODS, PRIORITY_CLASSES, TRAINING_JOBS, Cluster, Forbidden, Object, Resource
from trainwright.controller import store

REFRESH_SECONDS = 1.0
STALE_SECONDS = 15.0
# Lines of the screen that are not jobs: the head, the column titles, the remark on what is hidden.
FRAME_LINES = 6
LINES_OF_QUEUED = 3


def top(
    namespace: str | None,
    kubeconfig: Path | None,
    context: str | None,
    *,
    gpus: bool,
    everywhere: bool,
    output: Output,
    once: bool,
) -> None:
    if everywhere and namespace:
        raise UserError("--all-namespaces and --namespace exclude each other")
    asyncio.run(_top(namespace, kubeconfig, context, gpus=gpus, everywhere=everywhere, output=output, once=once))


async def _top(
    namespace: str | None,
    kubeconfig: Path | None,
    context: str | None,
    *,
    gpus: bool,
    everywhere: bool,
    output: Output,
    once: bool,
) -> None:
    async with connected(kubeconfig, context) as cluster:
        where = None if everywhere else namespace or cluster.namespace
        if gpus and await _if_allowed(cluster, TRAINING_JOBS) is not None:
            # One queue for all: of a part of it nobody could tell the order.
            where = None
        if gpus:
            await _present(cluster, where, await _gpus(cluster), output, once=once)
        else:
            await _present(cluster, where, _jobs(namespaces=everywhere), output, once=once)


class Facts(Protocol):
    """What is shown, as data."""

    def wire(self) -> dict[str, Any]: ...


Shown = TypeVar("Shown", bound=Facts)


@dataclass(frozen=True)
class _View(Generic[Shown]):
    """`facts`: of jobs, and of nodes and pods where they may be listed; `drawn`: in so many lines, or (None) as it takes."""

    facts: Callable[[list[Object], list[Object] | None, list[Object] | None], Shown]
    drawn: Callable[[Shown, int | None], RenderableType]


async def _present(cluster: Cluster, where: str | None, view: _View[Shown], output: Output, *, once: bool) -> None:
    if output is not Output.TABLE:
        emit((await look(cluster, where, view.facts)).wire(), output)
    elif once or not out.is_terminal:
        show(view.drawn(await look(cluster, where, view.facts), None))
    else:
        await _live(cluster, where, view)


def _jobs(*, namespaces: bool) -> _View[Overview]:
    def drawn(now: Overview, lines: int | None) -> RenderableType:
        room = None if lines is None else lines - min(2 * len(now.queue), out.height // 3)
        return top_table(now, width=out.width, namespaces=namespaces, limit=room)

    return _View(lambda jobs, nodes, pods: overview(jobs, nodes, pods, time.time()), drawn)


async def _gpus(cluster: Cluster) -> _View[GpuView]:
    classes = await _if_allowed(cluster, PRIORITY_CLASSES) or []

    def drawn(now: GpuView, lines: int | None) -> RenderableType:
        held = sum(max(1, len(node.holders)) for node in now.nodes or ())
        return gpu_table(now, limit=None if lines is None else (lines - held) // LINES_OF_QUEUED)

    return _View(lambda jobs, nodes, pods: gpu_view(jobs, nodes, pods, classes, time.time()), drawn)


async def look(
    cluster: Cluster,
    namespace: str | None,
    facts: Callable[[list[Object], list[Object] | None, list[Object] | None], Shown],
) -> Shown:
    """One look at everything. What belongs to the whole cluster is left out where we may not see it."""
    jobs = (await cluster.list(TRAINING_JOBS, namespace)).items
    nodes, pods = await _if_allowed(cluster, NODES), await _if_allowed(cluster, PODS)
    if pods is None and namespace is not None:
        return facts(jobs, None, await _if_allowed(cluster, PODS, namespace))
    return facts(jobs, nodes, pods)


async def _if_allowed(cluster: Cluster, resource: Resource, namespace: str | None = None) -> list[Object] | None:
    try:
        return (await cluster.list(resource, namespace)).items
    except Forbidden:
        return None


async def _live(cluster: Cluster, namespace: str | None, view: _View[Shown]) -> None:
    """Show what watches bring until Ctrl-C; nodes and pods only where they may be listed."""
    whole = await _if_allowed(cluster, NODES) is not None and await _if_allowed(cluster, PODS) is not None
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
                now = view.facts(jobs.all(), nodes.all() if whole else None, pods.all() if whole else None)
                shown = view.drawn(now, out.height - FRAME_LINES)
                clock = Text(f"{datetime.now().astimezone():%H:%M:%S}  {namespace or 'all namespaces'}", "dim")
                live.update(Group(clock, *troubles.lines(), shown), refresh=True)
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
