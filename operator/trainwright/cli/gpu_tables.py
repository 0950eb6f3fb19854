"""GPUs in a terminal: a line for each holder on each node, and the queue with each one's reason in full."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trainwright.cli.gpus import GpuNode, GpuView, Holder, Queued
from trainwright.cli.render import COLOURS, duration


def gpu_table(view: GpuView, *, limit: int | None = None) -> RenderableType:
    """What `top --gpus` shows; of the queue `limit` at most."""
    parts: list[RenderableType] = [_summary(view), Text("")]
    if view.nodes is not None:
        parts.append(_nodes(view.nodes) if view.nodes else Text("no node has GPUs", "dim"))
        parts.append(Text(""))
    parts.append(Text("queue", "bold"))
    shown = view.queue if limit is None else view.queue[: max(1, limit)]
    parts += _queue(shown) if shown else [Text("nobody waits", "dim")]
    if hidden := len(view.queue) - len(shown):
        parts.append(Text(f"… and {hidden} more", "dim"))
    return Group(*parts)


def _summary(view: GpuView) -> Text:
    if view.total is None:
        return Text("GPUs: you may not list this cluster's nodes and pods", "dim")
    return Text(f"GPUs {view.total.in_use} of {view.total.capacity} in use", "bold")


def _nodes(nodes: Iterable[GpuNode]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("NODE", overflow="fold")
    for title in ("GPUS", "FREE"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("HELD BY", overflow="fold")
    table.add_column("GPUS", justify="right", no_wrap=True)
    table.add_column("PHASE", no_wrap=True)
    table.add_column("ENDS", no_wrap=True)
    for node in nodes:
        first: list[Text | str] = [Text(node.name), str(node.gpus), Text(node.away, "yellow") if node.away else str(node.free)]
        for holder in node.holders or (None,):
            table.add_row(*first, *(_cells(holder) if holder else ("", "", "", "")))
            first = ["", "", ""]
    return table


def _cells(holder: Holder) -> tuple[Text, str, Text, str]:
    phase = holder.phase
    if holder.job is None:
        return Text(f"pod {holder.namespace}/{holder.pod}"), str(holder.gpus), Text(""), "-"
    workers = f" worker{'s' if len(holder.workers) > 1 else ''} {spans(holder.workers)}" if holder.workers else ""
    state = Text(phase.value, COLOURS.get(phase, "")) if phase else Text("")
    return Text(f"{holder.namespace}/{holder.job}{workers}"), str(holder.gpus), state, about(holder.ends_in)


def _queue(queue: Iterable[Queued]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for number, one in enumerate(queue, 1):
        gpus = "GPU" if one.gpus == 1 else "GPUs"
        needs = f"{one.workers} × {one.gpus} {gpus}" if one.workers > 1 else f"{one.gpus} {gpus}"
        line = Text(f"{number}. {one.row.namespace}/{one.row.name}", "bold")
        line.append(f"  {needs}", "")
        if one.queue:
            line.append(f"  queue {one.queue}", "")
        if one.priority:
            line.append(f"  priority {one.priority}", "")
        line.append(f"  starts {about(one.starts_in)}", "")
        parts += [line, Padding(Text(one.row.reason), (0, 0, 0, 3))]
    return parts


def about(length: float | None) -> str:
    """An expectation, or that there is none: `~5m00s`, `-`."""
    return "-" if length is None else f"~{duration(length)}"


def spans(numbers: Iterable[int]) -> str:
    """`0-2, 5`."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in found)
