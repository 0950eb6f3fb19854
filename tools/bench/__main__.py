"""`python -m bench [--quick] [--only GROUP …]`: measure, show, compare with `ranges.toml`; status 1 when a bound is broken."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from rich.console import Console

from bench import cost, gateway, publish, queue, recipes, recovery, report, start, training, week
from bench.results import Figure, passed, read_ranges, rows
from bench.world import World, world
from trainwright.local import environments
from trainwright.local.binaries import ControlPlaneUnavailable
from trainwright.local.paths import checkout

GROUPS = (
    "start",
    "growth",
    "cost",
    "step",
    "checkpoint",
    "recovery",
    "startup",
    "quality",
    "gateway",
    "publish",
    "queue",
    "week",
)
WHOLE = ("start", "growth", "cost", "queue", "step", "checkpoint", "recovery")
IN_WORLD = ("start", "growth", "cost", "queue")
QUICK = ("start", "cost", "step", "checkpoint")

# A table of this width is read in a log too.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def say(text: str) -> None:
    console.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {text}", soft_wrap=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", default=os.environ.get("BENCH") == "quick", help="less than 3 minutes")
    parser.add_argument("--only", nargs="+", choices=GROUPS, metavar="GROUP", help=f"some of {', '.join(GROUPS)}")
    parser.add_argument(
        "--shared-machine",
        action="store_true",
        help="others work on this machine: figures of time are shown and not judged, counts are",
    )
    return parser.parse_args()


async def measure(groups: tuple[str, ...], figures: list[Figure], *, quick: bool) -> None:
    """Add the figures of these groups as they come, so that those that came before an interruption are kept."""
    if any(group in IN_WORLD for group in groups):
        say("a control plane with simulated nodes")
        async with world(say) as there:
            await _in_world(there, groups, figures, quick=quick)
    if "step" in groups:
        say("a step, or a fit, under the runtime beside the same bare")
        figures += await training.steps(quick=quick, say=say)
        figures.append(await training.telling(quick=quick, say=say))
    if {"checkpoint", "recovery"} & set(groups):
        await environments.ensure(checkout() / "trainer_images" / "torch", say)
    if "checkpoint" in groups:
        say("a checkpoint of 200 MB beside torch.save")
        figures.append(await training.checkpoint(repeats=5 if quick else 11, say=say))
    if "recovery" in groups:
        say("a worker is killed on the local twin")
        figures.append(await recovery.recovery(repeats=3, say=say))
    if "gateway" in groups:
        say("a gateway in front of its server, beside the server asked directly, in turns")
        figures += await gateway.measure(quick=quick, say=say)
    if "publish" in groups:
        say("an artifact of 1 GB is published, beside a copy")
        figures += await publish.measure(quick=quick, say=say)
    if "week" in groups:
        say("a simulated week of a cluster under three ways to share its GPUs")
        folder = checkout() / "build" / "bench"
        figures += await asyncio.to_thread(week.measure, folder, seeds=1 if quick else 2)
        say(f"drawn in {(await week.draw(folder, say)).relative_to(checkout())}")
    if asked := {"startup", "quality"} & set(groups):
        repeats = 1 if quick else 3
        await recipes.measure(figures, quality="quality" in asked, startup="startup" in asked, repeats=repeats, say=say)


async def _in_world(there: World, groups: tuple[str, ...], figures: list[Figure], *, quick: bool) -> None:
    await start.warm_up(there)
    if "start" in groups:
        say("gangs and many jobs beside bare pods, in turns (pods created/running/status)")
        figures += await start.gang(there, 100, repeats=3 if quick else 5)
        figures += [] if quick else await start.gang(there, 500, repeats=3)
        figures += await start.many(there, 100, repeats=2 if quick else 3)
    if "cost" in groups:
        say("requests of whole lives")
        figures += await cost.requests(there, jobs=10 if quick else 20)
        if not quick:
            say("memory and CPU of the operator")
            figures += await cost.burden(there, jobs=300, seconds=30)
            say("a scrape of the operator")
            figures += await cost.scrapes(there, jobs=500)
    if "queue" in groups:
        say("a full cluster, and a queue")
        figures += await queue.queue(there, 100)
        figures += [] if quick else await queue.queue(there, 1000)
    if "growth" in groups:
        say("how it grows")
        figures += await start.growth(there)


async def run(options: argparse.Namespace) -> int:
    groups = tuple(options.only or (QUICK if options.quick else WHOLE))
    about = report.machine() | {"quick": options.quick, "groups": groups}
    figures: list[Figure] = []
    try:
        await measure(groups, figures, quick=options.quick)
    finally:
        about["loadAfter"] = os.getloadavg()
        known = read_ranges(Path(__file__).with_name("ranges.toml").read_text())
        names = {figure.name for figure in figures}
        expected = [one for one in known if one.name in names or (one.group in groups and (one.quick or not options.quick))]
        table = rows([one.for_information() if options.shared_machine and one.timed else one for one in expected], figures)
        report.show(console, table)
        path = report.write(checkout() / "build" / "bench", table, about)
        loads = ", ".join(f"{load:.1f}" for load in (about["loadBefore"][0], about["loadAfter"][0]))
        console.print(f"{about['cores']} cores; load average before and after: {loads}")
        console.print(f"all samples are in {path.relative_to(checkout())}")
    return 0 if passed(table) else 1


def main() -> None:
    # SIGTERM ends it as Ctrl-C does, also under a shell that had its background jobs ignore Ctrl-C: what was started is stopped.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        sys.exit(asyncio.run(run(arguments())))
    except KeyboardInterrupt:
        console.print("stopped")
        sys.exit(130)
    except ControlPlaneUnavailable as error:
        sys.exit(f"bench: {error}")


if __name__ == "__main__":
    main()
