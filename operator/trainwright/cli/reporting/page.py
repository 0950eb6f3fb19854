"""The report as one HTML file that needs nothing beside it: no script, no font, no address."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import yaml

from trainwright import __version__
from trainwright.api.status import Phase
from trainwright.cli.reporting import charts, workspace
from trainwright.cli.reporting.charts import Drawing, Frame, Key, Part
from trainwright.cli.reporting.facts import Facts
from trainwright.cli.reporting.pictures import Picture, Section
from trainwright.cli.reporting.sentences import Kind, account, length, number, percent, sentences, verdict
from trainwright.cli.reporting.timeline import Mark, Span
from trainwright.cluster.port import Object
from trainwright.observe.times import seconds

COLOURS = (
    *(f"c{number}" for number in range(charts.MOST_LINES)),
    *("queued", "starting", "running", "restarting", "suspended", "data", "saving", "waiting"),
)
MOST_MARKS = 10
"""Failures that are told below the line of time."""
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_?KEY", re.IGNORECASE)
_AMOUNT = re.compile(r"(\d) (ms|s|min|h|d)\b")
_BARS = {
    Kind.PRODUCTIVE: "running",
    Kind.COMPUTING: "running",
    Kind.BETWEEN: "c7",
    Kind.STRAGGLER: "waiting",
    Kind.DATA: "data",
    Kind.CHECKPOINTS: "saving",
    Kind.STARTUP: "c2",
    Kind.STARTING: "starting",
    Kind.QUEUED: "queued",
    Kind.LOST: "restarting",
    Kind.SUSPENDED: "suspended",
}
_SAID = {
    Kind.BETWEEN: "between steps: evaluation, saving the model",
    Kind.STARTUP: "starting processes, before the first step",
    Kind.LOST: "lost by failures: trained again, restarting",
}
_MEANINGS = {
    Phase.QUEUED: "waits for room on nodes",
    Phase.STARTING: "pods have a node and do not run yet",
    Phase.RUNNING: "all workers run",
    Phase.RESTARTING: "a worker failed, and the gang stops",
    Phase.SUSPENDED: "set aside on request",
}


@dataclass(frozen=True, kw_only=True)
class Content:
    """All that the page shows. `remarks`: sentences on where things come from, or why they are missing."""

    facts: Facts
    raw: Object
    events: Sequence[Mapping[str, Any]]
    spans: Sequence[Span]
    marks: Sequence[Mark]
    pictures: Sequence[Picture]
    remarks: Sequence[str]
    sources: str
    told: str = ""


def render(content: Content) -> str:
    """The page's HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["whole"] = _whole
    facts = content.facts
    last = facts.status.restarts.last
    html: str = environment.get_template("report.html.j2").render(
        facts=facts,
        subtitle=_subtitle(facts),
        verdict=verdict(facts),
        sentences=sentences(facts),
        told=content.told,
        headlines=_headlines(facts),
        colours=COLOURS,
        bars=[bar for bar in (_phases(content), _time(facts), _startup(facts)) if bar],
        remarks=content.remarks,
        sections=_sections(content),
        evidence=last.evidence if last else None,
        events=_events(content),
        spec=_yaml(_without_secrets(content.raw["spec"])),
        status=_yaml(content.raw.get("status") or {}),
        footer=f"Times begin with the job's submission, {_date(facts.created)}; dashed lines are failures. "
        f"Made {_date(facts.now)} by trainwright {__version__} {content.sources}.",
    )
    return html


def _subtitle(facts: Facts) -> str:
    gpus = f", {facts.gpus} GPU{'s' * (facts.gpus != 1)}" if facts.gpus else ""
    return f"{facts.framework}, {facts.workers} worker{'s' * (facts.workers != 1)}{gpus} · submitted {_date(facts.created)}"


def _headlines(facts: Facts) -> list[tuple[str, str]]:
    status, progress = facts.status, facts.status.progress
    found = [("from submission to end" if status.finished else "since its submission", length(facts.length))]
    if facts.goodput is not None and facts.ran:
        found.append(("goodput: productive share", f"{facts.goodput:.0f}%"))
    if facts.ran:
        found.append(("restarts", str(status.restarts.total)))
    if progress and progress.percent is not None and not status.finished:
        found.append(("of its steps are done", f"{progress.percent:.0f}%"))
    main = facts.main_metric
    if main and status.metrics and main in status.metrics:
        found.append((main, number(status.metrics[main])))
    if facts.gpu_hours:
        price = f", {facts.cost:,.2f} {facts.steps.currency or 'in cost'}" if facts.cost else ""
        found.append((f"GPU hours{price}", f"{facts.gpu_hours:,.2f}"))
    elif facts.cost:
        found.append((f"cost{f' in {facts.steps.currency}' if facts.steps.currency else ''}", f"{facts.cost:,.2f}"))
    return found


def _phases(content: Content) -> dict[str, Any] | None:
    if not content.spans:
        return None
    facts = content.facts
    frame = Frame(begin=facts.created, end=max(facts.end, facts.created + 1), origin=facts.created, marks=content.marks)
    sums: dict[Phase, float] = {}
    for span in content.spans:
        sums[span.phase] = sums.get(span.phase, 0.0) + span.end - span.begin
    said = {phase.value: f"{_MEANINGS[phase]}, {length(amount)}" for phase, amount in sums.items()}
    keys = [Key(colour=phase.value.lower(), name=phase.value, value=length(amount)) for phase, amount in sums.items()]
    listed = [f"{_clock(mark.at - facts.created)}: {mark.text}" for mark in content.marks[:MOST_MARKS]]
    more = len(content.marks) - MOST_MARKS
    return {
        "title": "Phases",
        "help": "From submission to " + ("the end" if facts.status.finished else "now") + "; failures are numbered.",
        "drawing": Drawing(
            svg=charts.phases(content.spans, frame, said), keys=keys, remark=f"and {more} more failures" if more > 0 else ""
        ),
        "listed": listed,
    }


def _time(facts: Facts) -> dict[str, Any] | None:
    """The account of the job's time."""
    spent = account(facts)
    drawn = _bar(
        [Part(colour=colour, name=_SAID.get(kind, kind.value), seconds=spent.get(kind, 0)) for kind, colour in _BARS.items()]
    )
    help_ = "All of its time since submission. What steps waited for is measured, and an average over ranks."
    if Kind.COMPUTING not in spent:
        help_ = "All of its time since submission. Productive: all workers ran, and what they trained was not lost."
    return {"title": "Where the time went", "help": help_, "drawing": drawn, "listed": []} if drawn else None


def _startup(facts: Facts) -> dict[str, Any] | None:
    parts = sorted(facts.steps.startup.items(), key=lambda one: -one[1])
    named, others = parts[: charts.MOST_LINES - 1], sum(amount for _, amount in parts[charts.MOST_LINES - 1 :])
    named += [("others", others)] if others else []
    drawn = _bar([Part(colour=f"c{place}", name=name, seconds=amount) for place, (name, amount) in enumerate(named)])
    said = "From the start of a worker's process to its first step: slowest rank, latest attempt."
    return {"title": "Start", "help": said, "drawing": drawn, "listed": []} if drawn else None


def _bar(parts: Sequence[Part]) -> Drawing | None:
    parts = [part for part in parts if part.seconds > 0]
    whole = sum(part.seconds for part in parts)
    if whole <= 0 or len(parts) < 2:
        return None
    values = [f"{length(part.seconds)} ({percent(part.seconds / whole)})" for part in parts]
    texts = [replace(part, name=f"{part.name}: {value}") for part, value in zip(parts, values, strict=True)]
    keys = [Key(colour=part.colour, name=part.name, value=value) for part, value in zip(parts, values, strict=True)]
    return Drawing(svg=charts.bar(texts), keys=keys)


def _sections(content: Content) -> list[dict[str, Any]]:
    facts = content.facts
    times = [at for picture in content.pictures for points in picture.lines.values() for at, _ in points]
    if times:
        begin, end = max(facts.created, min(times)), max(min(times) + 1, min(max(times), facts.end + 1))
        frame = Frame(begin=begin, end=end, origin=facts.created, marks=content.marks)
    found: list[dict[str, Any]] = []
    nowhere: list[tuple[str, str]] = []
    for section in Section:
        mine = [picture for picture in content.pictures if picture.wanted.section is section]
        clipped = [replace(picture, lines=_inside(picture, frame)) if picture.lines else picture for picture in mine]
        figures = [
            {"title": picture.wanted.title, "help": _help(picture), "drawing": charts.plot(picture, frame)}
            for picture in clipped
            if picture.lines
        ]
        missing = [(picture.wanted.title, picture.missing) for picture in clipped if picture.missing]
        if figures:
            found.append({"title": section.value, "figures": figures, "missing": _together(missing)})
        else:
            nowhere += [
                (f"{section.value}: {title.lower()}" if section is Section.GPUS else title, why) for title, why in missing
            ]
    if nowhere:
        found.append({"title": "Not shown", "figures": [], "missing": _together(nowhere)})
    return found


def _inside(picture: Picture, frame: Frame) -> dict[str, list[tuple[float, float]]]:
    """Without what was scraped after the job's end."""
    clipped = {name: [one for one in points if frame.begin <= one[0] <= frame.end] for name, points in picture.lines.items()}
    return {name: points for name, points in clipped.items() if points}


def _help(picture: Picture) -> str:
    return f"{workspace.HELP[picture.wanted.title]} From the workspace." if picture.source else picture.wanted.help


def _together(missing: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """What is missing for one reason in one line: titles, and the reason."""
    titles: dict[str, list[str]] = {}
    for title, why in missing:
        titles.setdefault(why, []).append(title)
    return [(", ".join(group), why) for why, group in titles.items()]


def _events(content: Content) -> list[tuple[str, str, str]]:
    found = []
    for event in content.events:
        at = seconds(event.get("lastTimestamp") or event.get("firstTimestamp"))
        message = "".join((event.get("message") or "").splitlines()[:1])
        found.append((at or 0.0, event.get("reason") or "", message))
    return [(_clock(at - content.facts.created) if at else "", reason, message) for at, reason, message in sorted(found)]


def _without_secrets(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec as it may be passed on: plain values of variables that are named like secrets are left out."""
    shown = [
        {**one, "value": "(not shown)"}
        if isinstance(one, dict) and "value" in one and _SECRET.search(str(one.get("name")))
        else one
        for one in spec.get("env") or []
    ]
    return {**spec, "env": shown} if shown else dict(spec)


def _whole(text: str) -> str:
    """A number stays on one line with its unit."""
    return _AMOUNT.sub("\\1\u00a0\\2", text)


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False, width=110)
    return text


def _clock(amount: float) -> str:
    return length(amount) if amount >= 0 else f"{length(-amount)} before"


def _date(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S} UTC"
