"""Shell completion: words of the cluster, quickly or not at all.

Whatever goes wrong gives no words: a traceback in the middle of somebody's command line helps nobody.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Annotated

import typer

from trainwright.cli.app import LEARN, app
from trainwright.cli.connect import choose_kubeconfig, connected
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import NAMESPACES, TRAINING_JOBS

PATIENCE_SECONDS = 1.5


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command(rich_help_panel=LEARN)
def completion(shell: Annotated[Shell, typer.Argument(help="Your shell.", show_default=False)]) -> None:
    """Print the completion script of a shell: source <(trainwright completion bash)."""
    os.environ["_TRAINWRIGHT_COMPLETE"] = f"source_{shell.value}"
    app(args=[], prog_name="trainwright")


def complete_jobs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the jobs in the namespace that the command line names so far."""

    async def names(cluster: KubeCluster) -> list[str]:
        listed = await cluster.list(TRAINING_JOBS, ctx.params.get("namespace") or cluster.namespace)
        return [raw["metadata"]["name"] for raw in listed.items]

    return _starting(incomplete, _ask(ctx, names))


def complete_namespaces(ctx: typer.Context, incomplete: str) -> list[str]:
    async def names(cluster: KubeCluster) -> list[str]:
        return [raw["metadata"]["name"] for raw in (await cluster.list(NAMESPACES)).items]

    return _starting(incomplete, _ask(ctx, names))


def complete_contexts(ctx: typer.Context, incomplete: str) -> list[str]:
    try:
        found = KubeCluster.contexts(choose_kubeconfig(ctx.params.get("kubeconfig"), None, quiet=True))
    except Exception:
        return []
    return _starting(incomplete, list(found))


def _ask(ctx: typer.Context, names: Callable[[KubeCluster], Awaitable[list[str]]]) -> list[str]:
    async def ask() -> list[str]:
        async with connected(ctx.params.get("kubeconfig"), ctx.params.get("context"), quiet=True) as cluster:
            return await names(cluster)

    try:
        return asyncio.run(asyncio.wait_for(ask(), PATIENCE_SECONDS))
    except Exception:
        return []


def _starting(incomplete: str, names: list[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
