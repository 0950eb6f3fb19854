"""One job of a cluster: found by its name, and followed until it ends."""

from __future__ import annotations

import difflib
import sys
from collections.abc import AsyncIterator
from typing import Any

from rich.live import Live

from trainwright.api.job import read_status
from trainwright.api.status import Phase
from trainwright.cli.app import UserError, out
from trainwright.cli.errors import no_such_kind
from trainwright.cli.render import job_view
from trainwright.cluster.port import TRAINING_JOBS, Cluster, Gone, NotFound, Object, WatchType

NAMES_SHOWN = 10


async def get_job(cluster: Cluster, name: str, namespace: str) -> Object:
    """The job of that name. Raises `UserError` with the names that come close, or those that there are."""
    try:
        return await cluster.get(TRAINING_JOBS, name, namespace)
    except NotFound as error:
        if no_such_kind(error):
            raise
    everywhere = (await cluster.list(TRAINING_JOBS, namespace)).items
    names = sorted(raw["metadata"]["name"] for raw in everywhere)
    close = difflib.get_close_matches(name, names, n=3)
    if close:
        hint = f"did you mean {' or '.join(close)}?"
    elif names:
        hint = f"there are: {', '.join(names[:NAMES_SHOWN])}{' …' if len(names) > NAMES_SHOWN else ''}"
    else:
        hint = "there are none; `trainwright status -A` shows those of all namespaces"
    raise UserError(f"no TrainingJob {name} in namespace {namespace}; {hint}")


async def changes(cluster: Cluster, name: str, namespace: str) -> AsyncIterator[Object]:
    """A job now and at every change, until it is deleted."""
    while True:
        listed = await cluster.list(TRAINING_JOBS, namespace)
        now = next((raw for raw in listed.items if raw["metadata"]["name"] == name), None)
        if now is None:
            return
        yield now
        version = listed.resource_version
        try:
            async for event in cluster.watch(TRAINING_JOBS, namespace, resource_version=version):
                if event.object["metadata"].get("name") != name or event.type is WatchType.BOOKMARK:
                    continue
                if event.type is WatchType.DELETED:
                    return
                yield event.object
        except Gone:
            continue


async def follow_job(cluster: Cluster, name: str, namespace: str) -> bool:
    """Show a job until it ends; whether it succeeded. Without a terminal: a line for every change of phase or reason."""
    phase: Phase | None = None
    said = ""
    with Live(console=out, refresh_per_second=8, transient=False) if out.is_terminal else _Quiet() as live:
        async for raw in changes(cluster, name, namespace):
            status = read_status(raw)
            phase = status.phase
            live.update(job_view(raw))
            line = f"{phase or 'New'}: {status.reason or ''}".rstrip(": ")
            if isinstance(live, _Quiet) and line != said:
                sys.stdout.write(f"{name} {line}\n")
                sys.stdout.flush()
                said = line
            if status.finished:
                break
        else:
            raise UserError(f"job {name} was deleted")
    return phase is Phase.SUCCEEDED


class _Quiet:
    """Stands in for a live display where there is no terminal."""

    def __enter__(self) -> _Quiet:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, _: Any) -> None:
        return None
