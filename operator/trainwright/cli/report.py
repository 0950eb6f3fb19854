"""`report`: one job as one HTML file, from Prometheus where one answers, from its workspace, and from its status in any case."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.markup import escape

from trainwright.cli.app import UserError, note, out, whole
from trainwright.cli.connect import choose_kubeconfig, connected
from trainwright.cli.follow import get_job
from trainwright.cli.reporting import prom, timeline, workspace
from trainwright.cli.reporting.facts import Facts, facts_of
from trainwright.cli.reporting.page import Content, render
from trainwright.cli.reporting.pictures import WANTED, Picture, Section, Wanted
from trainwright.cli.status import events_of
from trainwright.cluster.port import Cluster, Object
from trainwright.local.paths import home
from trainwright.local.twin import Twin

VARIABLE = "TRAINWRIGHT_PROMETHEUS"


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What was asked for. `prometheus` and `folder`: None to find them."""

    prometheus: str | None
    folder: Path | None


def report(
    job: str,
    namespace: str | None,
    kubeconfig: Path | None,
    context: str | None,
    *,
    output: Path | None,
    sources: Sources,
    show: bool,
) -> None:
    if show and str(output) == "-":
        raise UserError("--open needs a file to open; leave out --output -")
    if sources.folder is not None and not sources.folder.is_dir():
        raise UserError(f"--workspace {sources.folder}: no such folder")
    html = asyncio.run(_report(job, namespace, kubeconfig, context, sources))
    if str(output) == "-":
        sys.stdout.write(html)
        return
    path = output or Path(f"{job}-report.html")
    _write(path, html)
    out.print(escape(str(path)), soft_wrap=True)
    if show:
        webbrowser.open(path.resolve().as_uri())


async def _report(job: str, namespace: str | None, kubeconfig: Path | None, context: str | None, sources: Sources) -> str:
    url = sources.prometheus or twin_prometheus(kubeconfig, context) or os.environ.get(VARIABLE) or None
    async with connected(kubeconfig, context) as cluster:
        raw = whole(await get_job(cluster, job, namespace or cluster.namespace))
        events = await events_of(cluster, raw)
        return await page_of(cluster, raw, events, url=url, folder=sources.folder, now=time.time())


def twin_prometheus(kubeconfig: Path | None, context: str | None) -> str | None:
    """The Prometheus of the twin that the command talks to, if it talks to one that has one."""
    chosen = choose_kubeconfig(kubeconfig, context, quiet=True)
    if chosen is None and (named := os.environ.get("KUBECONFIG")):
        chosen = Path(named.split(os.pathsep)[0]).expanduser()
    if chosen is None or chosen.resolve().parent.parent != (home() / "twins").resolve():
        return None
    return Twin(chosen.resolve().parent.name).prometheus_url


async def page_of(
    cluster: Cluster, raw: Object, events: Sequence[Mapping[str, object]], *, url: str | None, folder: Path | None, now: float
) -> str:
    """The page of a job as the API has it; what can't be had is said on the page, and on stderr."""
    facts = facts_of(raw, now=now)
    kept, no_prometheus = await _kept(url, facts)
    place, no_workspace = (folder, "") if folder is not None else await workspace.place(cluster, raw)
    found = workspace.found(place, facts) if place else workspace.Found()
    facts = replace(facts, steps=kept.steps)
    if no_prometheus:
        note(f"no Prometheus: {escape(no_prometheus)}")
    return render(
        Content(
            facts=facts,
            raw=raw,
            events=events,
            spans=timeline.spans(facts, events, kept.changes),
            marks=timeline.marks(facts, events, kept.attempts),
            pictures=[_picture(wanted, facts, kept, found, no_workspace) for wanted in WANTED],
            remarks=_remarks(facts, no_prometheus, no_workspace, found),
            sources=_sources(url if kept.knows_job else None, found),
            told=found.told,
        )
    )


async def _kept(url: str | None, facts: Facts) -> tuple[prom.Kept, str]:
    """What Prometheus has; or nothing, and why."""
    if url is None:
        return prom.Kept(), f"none is known; name one with --prometheus or {VARIABLE}"
    try:
        kept = await prom.kept(url, facts)
    except prom.PrometheusError as error:
        return prom.Kept(), f"{prom.plain(url)}: {error}"
    if not kept.knows_job:
        return (
            kept,
            f"{prom.plain(url)} knows nothing of {facts.namespace}/{facts.name}: it scrapes another cluster, or came later",
        )
    return kept, ""


def _picture(wanted: Wanted, facts: Facts, kept: prom.Kept, found: workspace.Found, no_workspace: str) -> Picture:
    if lines := kept.lines.get(wanted.title):
        return Picture(wanted=wanted, lines=lines)
    if lines := found.lines.get(wanted.title):
        return Picture(wanted=wanted, lines=lines, source=workspace.SOURCE)
    if wanted.rare:
        return Picture(wanted=wanted, lines={})
    if not facts.ran:
        why = "no worker has run" + ("" if facts.status.finished else " yet")
    elif wanted.section is Section.GPUS and not facts.gpus:
        why = "the job asked for none"
    elif kept.knows_job:
        why = wanted.absent if kept.knows_workers else "Prometheus has nothing of its workers: none was scraped while it ran"
    elif no_workspace:
        why = "it takes a Prometheus or the workspace, and there is neither" if _in_workspace(wanted) else "it takes a Prometheus"
    else:
        why = f"{wanted.absent}, or not in the workspace" if _in_workspace(wanted) else "only a Prometheus has it"
    return Picture(wanted=wanted, lines={}, missing=why)


def _in_workspace(wanted: Wanted) -> bool:
    return wanted.title in workspace.HELP


def _remarks(facts: Facts, no_prometheus: str, no_workspace: str, found: workspace.Found) -> list[str]:
    """Why the page lacks what it lacks; nothing of a job that hasn't run, since there is nothing to lack."""
    if not no_prometheus or not facts.ran:
        return []
    rest = f"The pictures come from the job's workspace: {found.holds}." if found.holds else ""
    rest = rest or f"Nor is there a workspace to draw from: {no_workspace or 'it holds nothing that can be drawn'}."
    return [
        f"No figures of a Prometheus ({no_prometheus}): nothing of single ranks, of what steps waited for, and of GPUs. {rest}"
    ]


def _sources(url: str | None, found: workspace.Found) -> str:
    parts = ["the job's status and events"] + ([f"Prometheus at {prom.plain(url)}"] if url else [])
    parts += ["its workspace"] if found.holds else []
    return f"from {', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else f"from {parts[0]}"


def _write(path: Path, text: str) -> None:
    """Aside, then renamed: nobody reads half a page."""
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False) as stream:
            aside = Path(stream.name)
            try:
                stream.write(text)
                stream.flush()
                aside.chmod(0o644)
                aside.replace(path)
            except BaseException:
                aside.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UserError(f"--output {path}: {error.strerror or error}") from None
