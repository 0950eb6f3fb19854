"""Many jobs in a terminal: a line each, and under it in full why the ones that wait do so, and why the others failed.

Nothing is cut: names and reasons are folded, and below 120 columns numbers are shortened (percent for steps, 1.2k for 1,234).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

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
    words = ["NAME", "PHASE", "WORKERS", "PROGRESS", "METRIC", "RESTARTS", "AGE"]
    table = _table(words, gap=2 if width >= WIDE else 1, fold=_least(rows))
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
    shown = view.rows if limit is None else view.rows[: max(1, limit)]
    columns, gap = _columns(shown, width=width, namespaces=namespaces)
    table = _table(list(columns), gap=gap, fold=_least(view.rows))
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    parts: list[RenderableType] = [summary(view), Text("")]
    parts.append(table if view.rows else Text("no jobs", "dim"))
    if hidden := len(view.rows) - len(shown):
        parts.append(Text(f"… and {hidden} more", "dim"))
    return Group(*parts, *reasons(shown, width=width, namespaces=namespaces))


def _columns(rows: Sequence[Row], *, width: int, namespaces: bool) -> tuple[dict[str, list[Text | str]], int]:
    """Cells by title of their column, and the blanks between two: those that are always there, and others as there is room."""
    narrow = width < WIDE
    left: dict[str, list[Text | str]] = {
        "NAME": [_name(row, namespaces=namespaces) for row in rows],
        "PHASE": [phase_cell(row.phase) for row in rows],
        "READY" if narrow else "WORKERS": [f"{row.ready}/{row.desired}" for row in rows],
    }
    if narrow:
        left["DONE"] = [f"{row.percent:.0f}%" if row.percent is not None else row.progress for row in rows]
        left["SPEED"] = [_speed(row, "{}/s", short) for row in rows]
    else:
        left["GPUS"] = [str(row.gpus or "") for row in rows]
        left["PROGRESS"] = [row.progress for row in rows]
        left["SAMPLES/S"] = [_speed(row, "{}", "{:,.0f}".format) for row in rows]
    left["METRIC"] = [Text(row.metric) for row in rows]
    left["GOOD" if narrow else "GOODPUT"] = ["" if row.goodput is None else f"{row.goodput:.0f}%" for row in rows]
    right: dict[str, list[Text | str]] = {"AGE": [_age(row) for row in rows]}
    restarts: list[Text | str] = [str(row.restarts or "") for row in rows]
    if not narrow:
        right = {"RESTARTS": restarts, **right}
    # What goes first when there is no room comes last.
    others: dict[str, list[Text | str]] = {
        "LOST": [duration(row.lost_seconds) if row.lost_seconds else "" for row in rows],
        "RESTARTS": restarts if narrow else [],
        "SAVED": ["" if row.checkpoint_age is None or row.finished else duration(row.checkpoint_age) for row in rows],
        "GPU-H": [f"{row.gpu_hours:,.2f}" if row.gpu_hours else "" for row in rows],
    }
    others = {title: cells for title, cells in others.items() if any(cells)}
    everything = {**left, **others, **right}
    gap = 2 if not narrow and _whole_width(everything, 2) <= width else 1
    chosen: dict[str, list[Text | str]] = {}
    for title, cells in others.items():
        if _whole_width({**left, **chosen, title: cells, **right}, gap) <= width:
            chosen[title] = cells
    return {**left, **chosen, **right}, gap


def _speed(row: Row, form: str, written: Callable[[float], str]) -> str:
    return "" if row.samples_per_second is None else form.format(written(row.samples_per_second))


def _whole_width(columns: Mapping[str, Sequence[Text | str]], gap: int) -> int:
    """Of a table whose cells are not folded."""
    least = {"NAME": NAME_WIDTH}
    return sum(max([len(title), least.get(title, 0), *map(len, cells)]) + gap for title, cells in columns.items()) - gap


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


def _table(words: Sequence[str], *, gap: int, fold: Mapping[str, int]) -> Table:
    """`fold`: columns that give way where there is no room, each with its least width."""
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
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
