"""Many jobs in a terminal: a line each, and under it in full why the ones that wait do so, and why the others failed.

Nothing is cut: names and reasons are folded, and below 120 columns numbers are shortened (percent for steps, 1.2k for 1,234).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trainwright.api.status import Phase
from trainwright.cli.overview import Overview, Row
from trainwright.cli.render import COLOURS, WIDE, duration

NAME_WIDTH, METRIC_WIDTH = 12, 22


def phase_cell(phase: Phase | None) -> Text:
    return Text(phase.value, style=f"bold {COLOURS.get(phase, '')}".rstrip()) if phase else Text("New", "dim")


def jobs_table(rows: Iterable[Row], *, width: int, namespaces: bool) -> RenderableType:
    """What `status` shows of all jobs: the columns of `kubectl get tj`."""
    rows = list(rows)
    table = _table(["NAME", "PHASE", "WORKERS", "PROGRESS", "METRIC", "RESTARTS", "AGE"], width=width, fold=_least(rows))
    for row in rows:
        table.add_row(
            _name(row, namespaces=namespaces),
            phase_cell(row.phase),
            f"{row.ready}/{row.desired}",
            row.progress,
            Text(row.metric),
            str(row.restarts),
            _age(row),
        )
    return Group(table, *reasons(rows, width=width, namespaces=namespaces))


def top_table(view: Overview, *, width: int, namespaces: bool, limit: int | None = None) -> RenderableType:
    """What `top` shows: GPUs and counts, a line a job (`limit` at most), then the queue and what failed."""
    narrow = width < WIDE
    words = ["NAME", "PHASE", "READY", "DONE", "SPEED", "METRIC", "GOOD", "AGE"]
    if not narrow:
        words = ["NAME", "PHASE", "WORKERS", "GPUS", "PROGRESS", "SAMPLES/S", "METRIC", "GOODPUT", "RESTARTS", "AGE"]
    table = _table(words, width=width, fold=_least(view.rows))
    shown = view.rows if limit is None else view.rows[: max(1, limit)]
    for row in shown:
        rate = row.samples_per_second
        good = "" if row.goodput is None else f"{row.goodput:.0f}%"
        front: list[Text | str] = [_name(row, namespaces=namespaces), phase_cell(row.phase), f"{row.ready}/{row.desired}"]
        if narrow:
            done = f"{row.percent:.0f}%" if row.percent is not None else row.progress
            cells: list[Text | str] = [done, "" if rate is None else f"{short(rate)}/s", Text(row.metric), good, _age(row)]
        else:
            speed = "" if rate is None else f"{rate:,.0f}"
            cells = [str(row.gpus or ""), row.progress, speed, Text(row.metric), good, str(row.restarts or ""), _age(row)]
        table.add_row(*front, *cells)
    parts: list[RenderableType] = [summary(view), Text("")]
    parts.append(table if view.rows else Text("no jobs", "dim"))
    if hidden := len(view.rows) - len(shown):
        parts.append(Text(f"… and {hidden} more", "dim"))
    return Group(*parts, *reasons(shown, width=width, namespaces=namespaces))


def summary(view: Overview) -> Text:
    """`GPUs 6 of 8 in use   3 Running, 1 Queued`."""
    text = Text()
    if view.gpus is None:
        text.append("GPUs: you may not list this cluster's nodes and pods", "dim")
    elif view.gpus.capacity:
        text.append(f"GPUs {view.gpus.in_use} of {view.gpus.capacity} in use", "bold")
    else:
        text.append("no GPUs", "dim")
    if view.gpus and view.gpus.not_ready:
        text.append(f" ({', '.join(view.gpus.not_ready)} not ready)", "yellow")
    counts: dict[str, int] = {}
    for row in view.rows:
        word = row.phase.value if row.phase else "New"
        counts[word] = counts.get(word, 0) + 1
    text.append("   " + ", ".join(f"{count} {word}" for word, count in counts.items()))
    return text


def reasons(rows: Sequence[Row], *, width: int, namespaces: bool) -> list[RenderableType]:
    """In full, why jobs wait (the oldest first) and why others failed."""
    waiting = sorted((row for row in rows if row.waits), key=lambda row: -(row.age_seconds or 0))
    failed = [row for row in rows if row.phase is Phase.FAILED and row.reason]
    parts: list[RenderableType] = []
    for title, group in (("waiting", waiting), ("failed", failed)):
        if not group:
            continue
        parts += [Text(""), Text(title, "bold")]
        names = [_name(row, namespaces=namespaces) for row in group]
        if max(len(name) for name in names) > width // 4:
            for name, row in zip(names, group, strict=True):
                parts += [name, Padding(Text(row.reason), (0, 0, 0, 2))]
            continue
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for name, row in zip(names, group, strict=True):
            grid.add_row(name, Text(row.reason))
        parts.append(grid)
    return parts


def short(number: float) -> str:
    """`7`, `950`, `1.2k`, `34k`, `2.5M`: at most four characters up to a billion."""
    for factor, unit in ((1e6, "M"), (1e3, "k")):
        if number >= factor * 0.9995:
            scaled = number / factor
            return f"{scaled:.1f}{unit}" if scaled < 9.95 else f"{scaled:.0f}{unit}"
    return f"{number:.1f}" if 0 < number < 9.95 else f"{number:.0f}"


def _table(words: Sequence[str], *, width: int, fold: Mapping[str, int]) -> Table:
    """`fold`: columns that give way where there is no room, each with its least width."""
    table = Table(box=None, pad_edge=False, padding=(0, 2 if width >= WIDE else 1, 0, 0), header_style="bold")
    for word in words:
        if word in fold:
            table.add_column(word, overflow="fold", min_width=fold[word])
        else:
            table.add_column(word, no_wrap=True)
    return table


def _least(rows: Iterable[Row]) -> dict[str, int]:
    """Names give way before metrics do: half a number misleads."""
    metric = max((len(row.metric) for row in rows), default=0)
    return {"NAME": NAME_WIDTH, "METRIC": min(metric, METRIC_WIDTH)}


def _name(row: Row, *, namespaces: bool) -> Text:
    return Text(f"{row.namespace}/{row.name}" if namespaces else row.name)


def _age(row: Row) -> str:
    return "-" if row.age_seconds is None else duration(row.age_seconds)
