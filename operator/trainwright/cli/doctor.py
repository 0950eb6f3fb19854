"""`doctor`: is everything as it must be, and if not, what to do."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from trainwright.cli.app import Output, UserError, emit, show
from trainwright.cli.checks import TwinOperator, inspect
from trainwright.cli.connect import choose_kubeconfig, connected
from trainwright.cli.findings import Finding, Level, problem
from trainwright.cli.machine import machine
from trainwright.local.paths import state_of, twins
from trainwright.local.twin import Twin

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}


def doctor(namespace: str | None, kubeconfig: Path | None, context: str | None, *, output: Output) -> None:
    findings = [*asyncio.run(_cluster(namespace, kubeconfig, context)), *machine()]
    problems = sum(one.level is Level.PROBLEM for one in findings)
    warnings = sum(one.level is Level.WARNING for one in findings)
    if output is Output.TABLE:
        show(_view(findings))
    else:
        emit({"problems": problems, "warnings": warnings, "findings": [one.wire() for one in findings]}, output)
    if problems:
        raise typer.Exit(1)


async def _cluster(namespace: str | None, kubeconfig: Path | None, context: str | None) -> list[Finding]:
    try:
        async with connected(kubeconfig, context) as cluster:
            twin_operator = _twin_behind(kubeconfig, context)
            return await inspect(cluster, namespace or cluster.namespace, twin_operator=twin_operator)
    except UserError as error:
        return [problem("cluster", "none is chosen, or the choice will not do", str(error))]


def _twin_behind(kubeconfig: Path | None, context: str | None) -> TwinOperator | None:
    """How to ask the operator of the twin whose kubeconfig is in use; None where it is no twin's."""
    chosen = choose_kubeconfig(kubeconfig, context, quiet=True) or Path(os.environ.get("KUBECONFIG") or "/")
    name = next((name for name in twins() if (state_of(name) / "kubeconfig").resolve() == chosen.resolve()), None)
    return Twin(name).operator_healthy if name else None


def _view(findings: list[Finding]) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for one in findings:
        grid.add_row(Text(one.level.value, _STYLES[one.level]), one.check, Text(one.message))
        if one.fix:
            grid.add_row("", "", Text(f"→ {one.fix}", "cyan"))
    return grid
