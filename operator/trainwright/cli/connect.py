"""Which cluster a command talks to, chosen as kubectl does, with the running twin as the last resort but one.

Order: --kubeconfig or --context, KUBECONFIG, the twin that is up on this machine, ~/.kube/config.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rich.markup import escape

from trainwright.cli.app import UserError, note
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import ClusterError
from trainwright.local.twin import running_kubeconfig


def choose_kubeconfig(kubeconfig: Path | None, context: str | None, *, quiet: bool = False) -> Path | None:
    """The kubeconfig to use; None leaves the choice to the client's defaults. Raises `UserError` for a file that isn't there."""
    if kubeconfig is not None:
        if not kubeconfig.exists():
            raise UserError(f"--kubeconfig {kubeconfig}: no such file")
        return kubeconfig
    if named := os.environ.get("KUBECONFIG"):
        if not any(Path(one).expanduser().exists() for one in named.split(os.pathsep) if one):
            raise UserError(f"KUBECONFIG names {named}, which is not there; unset it, or name one that is")
        return None
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return None
    own = Path.home() / ".kube" / "config"
    if context is not None:
        if not own.exists():
            raise UserError(f"--context {context}: there is no kubeconfig to find it in; set KUBECONFIG or --kubeconfig")
        return None
    twin = running_kubeconfig()
    if twin is not None:
        if not quiet:
            note(f"using the local twin ({escape(str(twin))})")
        return twin
    if not own.exists():
        raise UserError(
            "no cluster: start one with `trainwright up`, set KUBECONFIG, or run without one: `trainwright run job.yaml`"
        )
    return None


@asynccontextmanager
async def connected(kubeconfig: Path | None, context: str | None, *, quiet: bool = False) -> AsyncIterator[KubeCluster]:
    """A cluster for the length of the block. Raises `UserError` for a kubeconfig or a context that will not do."""
    chosen = choose_kubeconfig(kubeconfig, context, quiet=quiet)
    try:
        cluster = await KubeCluster.connect(kubeconfig=chosen, context=context)
    except ClusterError as error:
        raise UserError(str(error)) from None
    try:
        yield cluster
    finally:
        await cluster.close()
