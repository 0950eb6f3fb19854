"""Which cluster a command talks to, chosen as kubectl does, with the running twin as the last resort but one.

Order: --kubeconfig or --context, KUBECONFIG, the twin that is up on this machine, ~/.kube/config.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from trainwright.cli.app import UserError, err
from trainwright.cluster.kube import KubeCluster
from trainwright.local.twin import running_kubeconfig

Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the job.")]
Kubeconfig = Annotated[
    Path | None, typer.Option("--kubeconfig", help="Kubeconfig to use (default: KUBECONFIG, the twin, ~/.kube/config).")
]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig to use.")]


def choose_kubeconfig(kubeconfig: Path | None, context: str | None) -> Path | None:
    """The kubeconfig to use; None leaves the choice to the client's defaults. Raises `UserError` for a file that isn't there."""
    if kubeconfig is not None:
        if not kubeconfig.exists():
            raise UserError(f"--kubeconfig {kubeconfig}: no such file")
        return kubeconfig
    if context is not None or os.environ.get("KUBECONFIG") or "KUBERNETES_SERVICE_HOST" in os.environ:
        return None
    twin = running_kubeconfig()
    if twin is not None:
        err.print(f"[dim]using the local twin ({twin})[/]", soft_wrap=True)
        return twin
    if not (Path.home() / ".kube" / "config").exists():
        raise UserError(
            "no cluster: start one with `trainwright up`, set KUBECONFIG, or run without one: `trainwright run job.yaml`"
        )
    return None


@asynccontextmanager
async def connected(kubeconfig: Path | None, context: str | None) -> AsyncIterator[KubeCluster]:
    """A cluster for the length of the block."""
    cluster = await KubeCluster.connect(kubeconfig=choose_kubeconfig(kubeconfig, context), context=context)
    try:
        yield cluster
    finally:
        await cluster.close()
