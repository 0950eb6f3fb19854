"""The table on the screen, and the same as JSON under build/bench."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.results import Row, Verdict

STYLES = {Verdict.WITHIN: "green", Verdict.BROKEN: "bold red", Verdict.NOT_MEASURED: "bold red", Verdict.FOR_INFORMATION: "dim"}


def show(console: Console, table: Sequence[Row]) -> None:
    """Print what was measured beside its floor, its bound and what was measured before."""
    shown = Table(header_style="bold")
    for column in ("case", "measured", "floor", "value", "spread", "bound", "before", "verdict"):
        shown.add_column(column, justify="left" if column in ("case", "verdict") else "right")
    for row in table:
        figure, limits = row.figure, row.range
        cells = ["", "", "", ""]
        if figure is not None:
            floor = figure.floor_measured
            low, high = figure.spread
            cells = [
                f"{figure.measured:.3g} {figure.unit}",
                "" if floor is None else f"{floor:.3g} {figure.unit}",
                f"{figure.value:.3g} {limits.unit}",
                f"{low:.3g} – {high:.3g}" if len(figure.samples) > 1 else "",
            ]
        before = "" if limits.measured is None else f"{limits.measured:g}"
        verdict = f"[{STYLES[row.verdict]}]{row.verdict}[/]"
        shown.add_row(limits.what, *cells, limits.bounds, before, verdict)
    console.print(shown)


def write(folder: Path, table: Sequence[Row], about: dict[str, Any]) -> Path:
    """Everything that was measured, with its notes; the path of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = [
        {
            "name": row.range.name,
            "what": row.range.what,
            "unit": row.range.unit,
            "bound": row.range.bound,
            "least": row.range.least,
            "verdict": row.verdict.value,
        }
        | (
            {}
            if row.figure is None
            else {
                "value": row.figure.value,
                "spread": row.figure.spread,
                "samples": list(row.figure.samples),
                "floor": list(row.figure.floor),
                "notes": dict(row.figure.notes),
            }
        )
        for row in table
    ]
    path = folder / f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps({**about, "cases": cases}, indent=1, default=str))
    return path


def machine() -> dict[str, Any]:
    """Where and when: figures without it are worth little."""
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "loadBefore": os.getloadavg(),
    }
