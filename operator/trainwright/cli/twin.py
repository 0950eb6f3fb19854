"""Commands on the local twin: `up`, `down`, `kubeconfig`."""

from __future__ import annotations

import asyncio
import sys
import time

from trainwright.cli.app import UserError, err, out
from trainwright.local.binaries import ControlPlaneUnavailable
from trainwright.local.paths import NotACheckout, twins
from trainwright.local.twin import Twin, TwinFailed, running_kubeconfig


def up(name: str, *, nodes: int | None, gpus_per_node: int | None, monitoring: bool | None) -> None:
    started = time.monotonic()
    with err.status("starting") as spinner:

        def progress(text: str) -> None:
            if err.is_terminal:
                spinner.update(text)
            else:
                err.print(text)

        try:
            twin = Twin(name)
            kubeconfig = asyncio.run(twin.up(nodes=nodes, gpus_per_node=gpus_per_node, monitoring=monitoring, progress=progress))
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
    if url := Twin(name).prometheus_url:
        out.print(f"\nPrometheus: {url}", soft_wrap=True)


def down(name: str) -> None:
    with err.status("stopping"):
        was_up = Twin(name).down()
    out.print("down; nothing is left" if was_up else f"twin {name} was not up")


def kubeconfig(name: str) -> None:
    path = running_kubeconfig(name)
    if path is None:
        there = f"; there are: {', '.join(twins())}" if twins() else ""
        raise UserError(f"twin {name} is not up{there}. Start it with `trainwright up`")
    sys.stdout.write(f"{path}\n")
