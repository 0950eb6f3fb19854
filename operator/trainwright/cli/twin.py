"""Commands on the local twin: `up`, `down`, `kubeconfig`."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Annotated

import typer

from trainwright.cli.app import LAPTOP, UserError, app, err, out
from trainwright.cli.options import TwinName
from trainwright.local.binaries import ControlPlaneUnavailable
from trainwright.local.paths import NotACheckout
from trainwright.local.twin import DEFAULT, Twin, TwinFailed, running_kubeconfig, twins


@app.command(rich_help_panel=LAPTOP)
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
    name: TwinName = DEFAULT,
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


@app.command(rich_help_panel=LAPTOP)
def down(name: TwinName = DEFAULT) -> None:
    """Stop the twin, its jobs included, and remove all that it kept: cluster, workspaces, logs."""
    with err.status("stopping"):
        was_up = Twin(name).down()
    out.print("down; nothing is left" if was_up else f"twin {name} was not up")


@app.command(rich_help_panel=LAPTOP)
def kubeconfig(name: TwinName = DEFAULT) -> None:
    """Print the path of the twin's kubeconfig: export KUBECONFIG=$(trainwright kubeconfig)."""
    path = running_kubeconfig(name)
    if path is None:
        there = f"; there are: {', '.join(twins())}" if twins() else ""
        raise UserError(f"twin {name} is not up{there}. Start it with `trainwright up`")
    sys.stdout.write(f"{path}\n")
