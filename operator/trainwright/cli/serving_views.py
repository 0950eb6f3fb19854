"""What a served model looks like in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trainwright.api.deployment import read_status
from trainwright.api.deployment_status import DeploymentPhase, ModelDeploymentStatus, VersionState
from trainwright.cli.render import since
from trainwright.observe.times import seconds

COLOURS = {
    DeploymentPhase.EMPTY: "dim",
    DeploymentPhase.ROLLING_OUT: "cyan",
    DeploymentPhase.LIVE: "green",
    DeploymentPhase.DEGRADED: "red",
}
STATE_COLOURS = {
    VersionState.LIVE: "green",
    VersionState.CANDIDATE: "cyan",
    VersionState.REFUSED: "red",
    VersionState.ROLLED_BACK: "red",
}
METRICS_SHOWN = 2
EVENTS_SHOWN = 12


def deployments_table(raws: Sequence[dict[str, Any]]) -> RenderableType:
    """A line for each deployment, and under it what it waits for."""
    if not raws:
        return Text("no ModelDeployments; one is made with kubectl apply -f manifests/samples/serve-digits.yaml", "dim")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("NAME", "PHASE", "LIVE", "TRAFFIC", "SERVERS", "DRIFT", "AGE"):
        table.add_column(title, overflow="fold")
    for raw in raws:
        status = read_status(raw)
        table.add_row(
            raw["metadata"]["name"],
            _phase(status),
            str(status.live or "-"),
            status.traffic or "-",
            status.servers or "-",
            "-" if status.drift is None else f"{status.drift.score:.2f} {status.drift.feature}",
            since(raw["metadata"].get("creationTimestamp")),
        )
    waits = [Text(f"{raw['metadata']['name']}: {reason}", "dim") for raw in raws if (reason := read_status(raw).reason)]
    return Group(table, *waits)


def deployment_view(raw: dict[str, Any], events: Sequence[dict[str, Any]]) -> RenderableType:
    """One deployment: who serves, who is on the way and by which figures, drift, versions, timeline."""
    status = read_status(raw)
    name = f"{raw['metadata'].get('namespace', 'default')}/{raw['metadata']['name']}"
    title = Text.assemble((name, "bold"), "  ", _phase(status))
    if status.reason:
        title.append(f"  {status.reason}")
    parts: list[RenderableType] = [title, _facts(raw, status)]
    if status.versions:
        parts.append(_versions(status))
    if events:
        parts += [Text("timeline", "bold"), _timeline(events)]
    return Group(*parts)


def _phase(status: ModelDeploymentStatus) -> Text:
    if status.phase is None:
        return Text("not seen by an operator yet", "dim")
    return Text(status.phase.value, f"bold {COLOURS[status.phase]}")


def _facts(raw: dict[str, Any], status: ModelDeploymentStatus) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    rows: list[tuple[str, RenderableType | str | None]] = [
        ("server", raw["spec"]["server"]),
        ("traffic", status.traffic),
        ("servers", status.servers and f"{status.servers} ready, gateways {status.gateways}"),
        ("address", status.address),
        ("pinned", f"version {raw['spec']['pin']}" if raw["spec"].get("pin") else None),
    ]
    candidate = status.candidate
    if candidate is not None:
        rows.append(("candidate", f"version {candidate.version}: {candidate.step.value} for {since(candidate.since)}"))
        for one in candidate.figures or []:
            who = "new" if one.version == candidate.version else "live"
            bad = "-" if one.error_ratio is None else f"{one.error_ratio:.2%}"
            slow = "-" if one.p99_seconds is None else f"{one.p99_seconds * 1000:.1f} ms"
            rows.append((f"  {who} v{one.version}", f"{one.requests} requests, {bad} failed, p99 {slow}"))
        if candidate.drift is not None:
            rows.append(("  predictions", f"{candidate.drift:.2f} from the live version's"))
    if drift := status.drift:
        answers = "" if drift.prediction is None else f"; of its predictions {drift.prediction:.2f}"
        rows.append(("drift", f"PSI {drift.score:.2f} of {drift.feature}{answers} ({drift.samples} rows)"))
    if labels := status.labels:
        rows.append((labels.metric, f"{labels.value:.4g} on {labels.labelled} labels, {labels.coverage:.1%} of predictions"))
    for title, value in rows:
        if value:
            grid.add_row(title, value)
    return grid


def _versions(status: ModelDeploymentStatus) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("VERSION", "STATE", "SINCE", "FROM", "METRICS", "WHY"):
        table.add_column(title, overflow="fold", ratio=1 if title == "WHY" else None)
    for one in status.versions:
        metrics = list((one.metrics or {}).items())[:METRICS_SHOWN]
        table.add_row(
            str(one.version),
            Text(one.state.value, STATE_COLOURS.get(one.state, "")),
            since(one.since),
            one.job or one.offer.partition("/")[2],
            " ".join(f"{name}={value:.4g}" for name, value in metrics),
            one.reason or "",
        )
    return Padding(table, (1, 0, 0, 0))


def _timeline(events: Sequence[dict[str, Any]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    # Times of events have whole seconds; in which order they were made, their versions say.
    ordered = sorted(
        events, key=lambda event: (seconds(event.get("lastTimestamp")) or 0.0, int(event["metadata"]["resourceVersion"]))
    )
    for event in ordered[-EVENTS_SHOWN:]:
        colour = "yellow" if event.get("type") == "Warning" else ""
        grid.add_row(f"{since(event.get('lastTimestamp'))} ago", Text(event.get("reason", ""), colour), event.get("message", ""))
    return grid
