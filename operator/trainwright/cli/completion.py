"""Shell completion: words of the cluster, quickly or not at all.

Whatever goes wrong gives no words: a traceback in the middle of somebody's command line helps nobody. What asks a cluster is
imported by who asks it: most keystrokes are about commands and options.
"""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TYPE_CHECKING

import typer

from trainwright.cli.app import app
from trainwright.cluster.port import MODEL_DEPLOYMENTS, NAMESPACES, TRAINING_JOBS

if TYPE_CHECKING:
    from trainwright.cluster.kube import KubeCluster

PATIENCE_SECONDS = 1.5


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def script(shell: Shell) -> None:
    """Print the completion script of a shell."""
    os.environ["_TRAINWRIGHT_COMPLETE"] = f"source_{shell.value}"
    app(args=[], prog_name="trainwright")


def complete_jobs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the jobs in the namespace that the command line names so far."""

    async def names(cluster: KubeCluster) -> list[str]:
        listed = await cluster.list(TRAINING_JOBS, ctx.params.get("namespace") or cluster.namespace)
        return [raw["metadata"]["name"] for raw in listed.items]

    return _starting(incomplete, _ask(ctx, names))


def complete_deployments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the ModelDeployments in the namespace that the command line names so far."""

    async def names(cluster: KubeCluster) -> list[str]:
        listed = await cluster.list(MODEL_DEPLOYMENTS, ctx.params.get("namespace") or cluster.namespace)
        return [raw["metadata"]["name"] for raw in listed.items]

    return _starting(incomplete, _ask(ctx, names))


def complete_namespaces(ctx: typer.Context, incomplete: str) -> list[str]:
    async def names(cluster: KubeCluster) -> list[str]:
        return [raw["metadata"]["name"] for raw in (await cluster.list(NAMESPACES)).items]

    return _starting(incomplete, _ask(ctx, names))


def complete_contexts(ctx: typer.Context, incomplete: str) -> list[str]:
    try:
        from trainwright.cli.connect import choose_kubeconfig
        from trainwright.cluster.kube import KubeCluster

        found = KubeCluster.contexts(choose_kubeconfig(ctx.params.get("kubeconfig"), None, quiet=True))
    except Exception:
        return []
    return _starting(incomplete, list(found))


def complete_fields(incomplete: str) -> list[str]:
    from trainwright.cli.fields import paths

    return [path for path in paths() if path.startswith(incomplete)]


def _ask(ctx: typer.Context, names: Callable[[KubeCluster], Awaitable[list[str]]]) -> list[str]:
    import asyncio

    async def ask() -> list[str]:
        from trainwright.cli.connect import connected

        async with connected(ctx.params.get("kubeconfig"), ctx.params.get("context"), quiet=True) as cluster:
            return await names(cluster)

    try:
        return asyncio.run(asyncio.wait_for(ask(), PATIENCE_SECONDS))
    except Exception:
        return []


def _starting(incomplete: str, names: list[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
