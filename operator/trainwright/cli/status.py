"""`status`: one job as a whole, live if wanted; or the twin and all jobs."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import typer
from rich.table import Table

from trainwright.api.job import read_status
from trainwright.api.status import Phase
from trainwright.cli.app import Output, UserError, emit, note, out, show, whole
from trainwright.cli.connect import connected
from trainwright.cli.follow import follow_job, get_job
from trainwright.cli.overview import overview
from trainwright.cli.render import job_view
from trainwright.cli.tables import jobs_table
from trainwright.cluster.port import EVENTS, TRAINING_JOBS, Cluster, ClusterError, Object
from trainwright.local.paths import DEFAULT
from trainwright.local.twin import Twin, TwinStatus, running_kubeconfig


def status(
    job: str | None,
    name: str,
    namespace: str | None,
    kubeconfig: Path | None,
    context: str | None,
    *,
    follow: bool,
    everywhere: bool,
    output: Output,
) -> None:
    if everywhere and (job or namespace):
        raise UserError("--all-namespaces goes with neither a job nor --namespace")
    if follow and job is None:
        raise UserError("--follow needs the name of a job")
    if follow and output is not Output.TABLE:
        raise UserError("--follow and --output exclude each other")
    if name != DEFAULT and kubeconfig is None and context is None:
        kubeconfig = running_kubeconfig(name)
    if job is not None:
        if not asyncio.run(_show_job(job, namespace, kubeconfig, context, follow=follow, output=output)):
            raise typer.Exit(1)
        return
    asyncio.run(_show_all(name, None if everywhere else namespace, kubeconfig, context, everywhere=everywhere, output=output))


async def _show_job(
    name: str, namespace: str | None, kubeconfig: Path | None, context: str | None, *, follow: bool, output: Output
) -> bool:
    """Print one job; with `follow` until it ends. Whether it has not failed."""
    async with connected(kubeconfig, context) as cluster:
        namespace = namespace or cluster.namespace
        raw = await get_job(cluster, name, namespace)
        if output is not Output.TABLE:
            emit(whole(raw), output)
        elif follow:
            return await follow_job(cluster, name, namespace)
        else:
            show(job_view(raw, await events_of(cluster, raw)))
        return read_status(raw).phase is not Phase.FAILED


async def _show_all(
    name: str, namespace: str | None, kubeconfig: Path | None, context: str | None, *, everywhere: bool, output: Output
) -> None:
    there = await Twin(name).status()
    jobs: list[Object] = []
    asked = False
    try:
        async with connected(kubeconfig, context, quiet=True) as cluster:
            namespace = None if everywhere else namespace or cluster.namespace
            jobs = (await cluster.list(TRAINING_JOBS, namespace)).items
            asked = True
    except UserError:
        # No cluster at all: the twin's part of the answer says how to get one.
        if kubeconfig or context:
            raise
    except ClusterError as error:
        note(f"no jobs to show: {error}")
    if output is not Output.TABLE:
        twin = None if there is None else {"name": there.name, "processes": there.processes, "nodes": there.nodes}
        emit({"twin": twin, "jobs": [whole(raw) for raw in jobs]}, output)
        return
    if there is not None:
        show(_twin_view(there))
    elif not asked:
        out.print(f"twin {name} is not up; start it with `trainwright up`")
    if asked and not jobs:
        note("no jobs at all" if everywhere else f"no jobs in namespace {namespace}; -A shows those of all namespaces")
    if jobs:
        if there is not None:
            out.print()
        show(jobs_table(overview(jobs, None, None, time.time()).rows, width=out.width, namespaces=everywhere))


async def events_of(cluster: Cluster, raw: Object) -> list[Object]:
    """The events of a job; none where they may not be listed."""
    uid = raw["metadata"]["uid"]
    try:
        listed = await cluster.list(EVENTS, raw["metadata"]["namespace"])
    except ClusterError:
        return []
    return [event for event in listed.items if event.get("involvedObject", {}).get("uid") == uid]


def _twin_view(there: TwinStatus) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    alive = [process for process, runs in there.processes.items() if runs]
    dead = [process for process, runs in there.processes.items() if not runs]
    grid.add_row("twin", there.name)
    grid.add_row("running", ", ".join(alive) or "nothing")
    if dead:
        grid.add_row("[red]dead[/]", f"{', '.join(dead)} (logs in {there.state / 'logs'}; `trainwright up` starts them again)")
    for node, gpus in there.nodes.items():
        grid.add_row(node, f"{gpus} GPUs")
    grid.add_row("kubeconfig", str(there.kubeconfig))
    grid.add_row("kubectl", there.kubectl)
    return grid
