"""`python -m images`: build images (the default), try what was built, or build twice and compare."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from images import bases, catalogue, compare
from images.archive import Archive
from images.bases import NoDebian
from images.catalogue import UnknownImage
from images.engines import Engine, EngineFailed, NoEngine, engine
from images.make import OUTPUT, VARIANTS, Made, Maker, Options, Unfit
from trainwright.local.locks import locked
from trainwright.local.paths import cache
from trainwright.plan.types import Settings

MB = 1_000_000
WIDTH = 140


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """An empty value is as good as none, so that a Makefile may hand on variables that nobody set."""
    parser = argparse.ArgumentParser(prog="images", description=__doc__)
    parser.add_argument("what", nargs="?", default="build", choices=["build", "smoke", "twice"])
    parser.add_argument("--images", default="", help=f"names, separated by spaces (default: all of {' '.join(catalogue.IMAGES)})")
    parser.add_argument("--engine", default="", help="buildah or docker (default: the first that is there)")
    parser.add_argument("--registry", default="", help=f"default: {Settings.registry}")
    parser.add_argument("--tag", default="", help=f"default: {Settings.tag}")
    parser.add_argument(
        "--base", default="", help=f"base image, or 'debian' for one made of Debian packages (default: {bases.BASE})"
    )
    parser.add_argument("--builder", default="", help=f"image of the builder stages (default: {bases.BUILDER}, or Debian's)")
    parser.add_argument("--variant", default="", help=f"one of {', '.join(VARIANTS)} (default: {VARIANTS[0]})")
    parser.add_argument("--push", default="", help="push to the registry, too")
    parser.add_argument("--again", action="store_true", help="build what is unchanged, too")
    return parser.parse_args(words)


def options(given: argparse.Namespace) -> Options:
    """Raises ValueError."""
    variant = given.variant or VARIANTS[0]
    if variant not in VARIANTS:
        raise ValueError(f"VARIANT is '{variant}'; it can be: {', '.join(VARIANTS)}")
    tag = given.tag or Settings.tag
    if tag == "latest":
        raise ValueError("TAG is 'latest', which says of no image what it is; give a version")
    return Options(
        registry=given.registry or Settings.registry,
        tag=tag,
        base=given.base or bases.BASE,
        builder=given.builder,
        variant=variant,
        push=bool(given.push),
        again=given.again,
    )


def main() -> int:
    """Entry point."""
    given = arguments()
    try:
        wanted = catalogue.chosen(given.images.split())
        told, found = options(given), engine(given.engine)
        # All share one store, and each removes from it what it built.
        with locked(cache() / "images" / "lock", lambda: _say("waiting for another `make images` on this machine")):
            return _do(given.what, told, found, wanted)
    except (UnknownImage, ValueError, NoEngine, NoDebian, EngineFailed, Unfit) as error:
        return _report([str(error)], good="")


def _do(what: str, told: Options, found: Engine, wanted: Sequence[catalogue.Image]) -> int:
    if what == "twice":
        return _report(_twice(found, told, wanted), good="built twice, the same image both times")
    maker = Maker(found, told, _say)
    if what == "smoke":
        return _report(maker.trial(wanted), good="all images start as they must")
    _show(maker.make(wanted))
    return 0


def _twice(found: Engine, told: Options, wanted: Sequence[catalogue.Image]) -> list[str]:
    """Build images two times from nothing; what differs."""
    faults = []
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OUTPUT) as work:
        one, other = Path(work, "one"), Path(work, "other")
        for folder in (one, other):
            Maker(found, replace(told, again=True, push=False), _say, folder).make(wanted)
        for image in wanted:
            archives = [Archive(folder / f"{image.name}.tar") for folder in (one, other)]
            faults += [f"{image.name}: {line}" for line in compare.differences(*archives)[:50]]
    return faults


def _report(faults: Sequence[str], *, good: str) -> int:
    for fault in faults:
        print(f"images: {fault}", file=sys.stderr)  # noqa: T201
    if not faults:
        _say(good)
    return 1 if faults else 0


_BEGUN = time.monotonic()


def _say(line: str) -> None:
    print(f"images: {time.monotonic() - _BEGUN:5.0f} s  {line}", flush=True)  # noqa: T201


def _show(made: Sequence[tuple[Made, bool]]) -> None:
    table = Table("image", "archive", "unpacked", "built in", "saved in", "digest", box=None)
    for one, fresh in made:
        times = (f"{one.seconds:.0f} s", f"{one.save_seconds:.0f} s") if fresh else ("unchanged", "")
        table.add_row(
            one.reference,
            f"{one.archive / MB:,.0f} MB",
            f"{one.unpacked / MB:,.0f} MB",
            *times,
            one.digest.removeprefix("sha256:")[:12],
        )
    Console(width=WIDTH).print(table)
    print(f"images: archives and lists of their contents (CycloneDX) are in {OUTPUT}")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
