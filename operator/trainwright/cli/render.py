"""What a job looks like in a terminal: one view, used by `status` and, live, by `run` and `submit --follow`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trainwright.api.job import read_status
from trainwright.api.status import LastRestart, Phase, TrainingJobStatus
from trainwright.observe.times import seconds
from trainwright.plan.accounting import goodput, so_far

COLOURS = {
    Phase.QUEUED: "yellow",
    Phase.STARTING: "cyan",
    Phase.RUNNING: "blue",
    Phase.RESTARTING: "magenta",
    Phase.SUCCEEDED: "green",
    Phase.FAILED: "red",
}
EVIDENCE_LINES = 12
WIDE = 120


def duration(length: float) -> str:
    """`4s`, `2m10s`, `3h05m`, `2d4h`."""
    whole = max(0, int(length))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"


def since(time: str | None) -> str:
    """How long ago an RFC 3339 time was; `-` for none."""
    when = seconds(time)
    return "-" if when is None else duration(datetime.now(UTC).timestamp() - when)


def phase_text(status: TrainingJobStatus) -> Text:
    return (
        Text(status.phase.value, style=f"bold {COLOURS[status.phase]}")
        if status.phase
        else Text("not seen by an operator yet", "dim")
    )


def job_view(raw: dict[str, Any], events: list[dict[str, Any]] | None = None) -> RenderableType:
    """One job: phase and reason, progress, metrics, checkpoint, restarts, timeline."""
    status = read_status(raw)
    name = f"{raw['metadata'].get('namespace', 'default')}/{raw['metadata']['name']}"
    title = Text.assemble((name, "bold"), "  ", phase_text(status))
    if status.reason:
        title.append(f"  {status.reason}")
    parts: list[RenderableType] = [title]
    if bar := _bar(status):
        parts.append(bar)
    parts.append(_facts(status))
    if status.restarts.last:
        parts.append(_evidence(status.restarts.last))
    if events:
        parts += [Text("timeline", "bold"), _timeline(events)]
    return Group(*parts)


def _bar(status: TrainingJobStatus) -> RenderableType | None:
    progress = status.progress
    if progress is None or progress.percent is None:
        return None
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    eta = f"eta {duration(progress.eta_seconds)}" if progress.eta_seconds and status.phase is Phase.RUNNING else ""
    grid.add_row(ProgressBar(total=100, completed=progress.percent, width=32), Text(f"{progress.summary} {eta}".strip()))
    return grid


def _facts(status: TrainingJobStatus) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    rows: list[tuple[str, str]] = []
    if status.workers:
        rows.append(("workers", f"{status.workers.ready}  attempt {status.attempt or 1}"))
    if status.progress:
        rate = f"  {status.progress.samples_per_second:.0f} samples/s" if status.progress.samples_per_second else ""
        resumed = f"  resumed from step {status.progress.resumed_from}" if status.progress.resumed_from else ""
        epoch = "-" if status.progress.epoch is None else str(status.progress.epoch)
        rows.append(("epoch", f"{epoch}{rate}{resumed}"))
        if status.progress.straggler and not status.finished:
            rows.append(("straggler", status.progress.straggler))
    if status.metrics:
        rows.append(("metrics", "  ".join(f"{name}={value:.4g}" for name, value in status.metrics.items())))
    if status.checkpoint:
        rows.append(("checkpoint", f"step {status.checkpoint.step}, {since(status.checkpoint.time)} ago"))
        if status.checkpoint.path:
            rows.append(("", status.checkpoint.path))
    restarts = status.restarts
    if restarts.total:
        rows.append(("restarts", f"{restarts.total} ({restarts.failure} failures, {restarts.infrastructure} infrastructure)"))
    if status.phase_since:
        rows.append(("time", _time(status)))
    if model := status.model:
        number = f" version {model.version}" if model.version else ""
        rows.append(("model", f"{model.deployment}{number}: {model.state}" + (f" ({model.reason})" if model.reason else "")))
    for row in rows:
        grid.add_row(row[0], Text(row[1], overflow="fold"))
    return grid


def _time(status: TrainingJobStatus) -> str:
    spent = so_far(status, datetime.now(UTC).timestamp())
    parts = {
        "queued": spent.queued_seconds,
        "starting": spent.starting_seconds,
        "productive": spent.productive_seconds,
        "lost": spent.lost_seconds,
        "suspended": spent.suspended_seconds,
    }
    ratio = goodput(spent)
    shown = "  ".join(f"{name} {duration(length)}" for name, length in parts.items() if length)
    shown += f"  goodput {ratio:.0f}%" if ratio is not None else ""
    shown += f"  {status.gpu_hours:.2f} GPU hours" if status.gpu_hours else ""
    return shown + (f"  cost {status.cost:.2f}" if status.cost else "")


def _evidence(last: LastRestart) -> RenderableType:
    who = f"rank {last.rank} in {last.pod}" if last.rank is not None else last.pod
    how = f"signal {last.signal}" if last.signal else f"exit code {last.exit_code}" if last.exit_code is not None else ""
    head = Text(f"last failure: {last.cause}, attempt {last.attempt}, {who}" + (f", {how}" if how else ""), "bold")
    lines = (last.evidence or "").splitlines()[-EVIDENCE_LINES:]
    return Group(head, Text("\n".join(f"  {line}" for line in lines), "dim")) if lines else head


def _timeline(events: list[dict[str, Any]]) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True, justify="right")
    grid.add_column(no_wrap=True)
    grid.add_column()
    for event in sorted(events, key=lambda event: event.get("lastTimestamp") or ""):
        style = "yellow" if event.get("type") == "Warning" else ""
        first_line = (event.get("message") or "").splitlines()[:1]
        grid.add_row(f"{since(event.get('lastTimestamp'))} ago", Text(event.get("reason", ""), style), Text("".join(first_line)))
    return grid
