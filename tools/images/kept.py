"""The last archive of each image, kept in the cache of this machine: another checkout with the same inputs builds nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from trainwright.local.paths import cache

SUFFIXES = (".tar", ".cdx.json", ".json")  # the note comes last: with it the rest is whole


def folder() -> Path:
    return cache() / "images" / "archives"


def keep(name: str, output: Path) -> None:
    """Keep what was made in `output`, in place of what was kept of that image before."""
    _hand_over(name, output, folder())


def fetch(name: str, output: Path) -> None:
    """Put what is kept of the image in `output`."""
    if (folder() / f"{name}.json").exists():
        _hand_over(name, folder(), output)


def _hand_over(name: str, here: Path, there: Path) -> None:
    there.mkdir(parents=True, exist_ok=True)
    for suffix in reversed(SUFFIXES):
        (there / f"{name}{suffix}").unlink(missing_ok=True)
    for suffix in SUFFIXES:
        source, target = here / f"{name}{suffix}", there / f"{name}{suffix}"
        try:
            os.link(source, target)
        except OSError:  # another file system
            shutil.copyfile(source, target)
