"""Commands on the local twin: `up`, `down`, `status`, `kubeconfig`."""

from __future__ import annotations

import asyncio
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from trainwright.cli.app import UserError, app, err, out
from trainwright.cli.connect import Context, Kubeconfig, Namespace, connected
from trainwright.cli.jobs import show_job
from trainwright.cli.render import as_json, jobs_table
from trainwright.cluster.port import TRAINING_JOBS, ClusterError, Object
from trainwright.local.binaries import ControlPlaneUnavailable
from trainwright.local.paths import NotACheckout
from trainwright.local.twin import DEFAULT, Twin, TwinFailed, TwinStatus, running_kubeconfig, twins

Name = Annotated[str, typer.Option("--name", help="Name of the twin; several can run side by side.")]


class Output(StrEnum):
    """How to print."""

    TEXT = "text"
    JSON = "json"


@app.command()
def up(
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", min=1, max=50, help="Number of nodes (default: as before; 1 at first).", show_default=False),
    ] = None,
    gpus_per_node: Annotated[
        int | None,
        typer.Option(
            "--gpus-per-node",
            min=0,
            max=64,
            help="GPUs to pretend on a node, where there are no real ones (default: as before; 0 at first).",
            show_default=False,
        ),
    ] = None,
    name: Name = DEFAULT,
) -> None:
    """Start a real control plane on this machine, with nodes made of processes, and the operator."""
    started = time.monotonic()
    with err.status("starting") as spinner:

        def progress(text: str) -> None:
            if err.is_terminal:
                spinner.update(text)
            else:
                err.print(text)

        try:
            kubeconfig = asyncio.run(Twin(name).up(nodes=nodes, gpus_per_node=gpus_per_node, progress=progress))
        except (ControlPlaneUnavailable, TwinFailed, NotACheckout) as error:
            raise UserError(str(error)) from None
    there = asyncio.run(Twin(name).status())
    has = there.nodes if there is not None else {}
    counted = f"{len(has)} node{'s' if len(has) != 1 else ''}, {sum(has.values())} GPUs"
    out.print(f"[green]up[/] in {time.monotonic() - started:.1f} s: {counted}")
    kubectl = Twin(name).kubectl
    shown = "kubectl" if kubectl.startswith("/usr") else kubectl
    out.print(f"\n  export KUBECONFIG={kubeconfig}", soft_wrap=True)
    out.print(f"  {shown} apply -f manifests/samples/digits.yaml", soft_wrap=True)
    out.print("  trainwright status digits --follow")


@app.command()
def down(name: Name = DEFAULT) -> None:
    """Stop the twin, its jobs included, and remove all that it kept: cluster, workspaces, logs."""
    with err.status("stopping"):
        was_up = Twin(name).down()
    out.print("down; nothing is left" if was_up else f"twin {name} was not up")


@app.command()
def kubeconfig(name: Name = DEFAULT) -> None:
    """Print the path of the twin's kubeconfig: export KUBECONFIG=$(trainwright kubeconfig)."""
    path = running_kubeconfig(name)
    if path is None:
        there = f"; there are: {', '.join(twins())}" if twins() else ""
        raise UserError(f"twin {name} is not up{there}. Start it with `trainwright up`")
    sys.stdout.write(f"{path}\n")


@app.command()
def status(
    job: Annotated[str | None, typer.Argument(help="Name of a job (default: the twin and all jobs).", show_default=False)] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the job ends.")] = False,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print.")] = Output.TEXT,
    name: Name = DEFAULT,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show one job, with progress, restarts and their causes; or, without a job, the twin and all jobs."""
    if job is not None:
        if follow and output is Output.JSON:
            raise UserError("--follow and --output json exclude each other")
        if not asyncio.run(show_job(job, namespace, kubeconfig, context, follow=follow, output=output.value)):
            raise typer.Exit(1)
        return
    if follow:
        raise UserError("--follow needs the name of a job")
    there = asyncio.run(Twin(name).status())
    jobs = asyncio.run(_jobs(kubeconfig, context)) if there or kubeconfig or context else []
    if output is Output.JSON:
        twin = None if there is None else {"name": there.name, "processes": there.processes, "nodes": there.nodes}
        sys.stdout.write(as_json({"twin": twin, "jobs": jobs}) + "\n")
        return
    if there is None:
        out.print(f"twin {name} is not up; start it with `trainwright up`")
    else:
        out.print(_twin_view(there))
    if jobs:
        out.print()
        out.print(jobs_table(jobs, width=out.width))


async def _jobs(kubeconfig: Path | None, context: str | None) -> list[Object]:
    """All jobs; none while the API server or the CRD isn't there."""
    try:
        async with connected(kubeconfig, context) as cluster:
            return (await cluster.list(TRAINING_JOBS)).items
    except ClusterError:
        return []


def _twin_view(there: TwinStatus) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
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
