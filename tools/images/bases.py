"""The images that ours stand on: official ones by name, or (`BASE=debian`) two made here from Debian's packages."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from images.engines import Engine, EngineFailed
from trainwright.local.paths import cache

BASE = "docker.io/library/python:3.11-slim-bookworm"
BUILDER = "docker.io/library/python:3.11-bookworm"
DEBIAN = "debian"
SUITE = "bookworm"
EPOCH = 1767225600  # 2026-01-01: newer files get this time
# Wheels link to the C++ and OpenMP libraries; without names of protocols and zones of time, Python's own tests of them fail.
RUNS = ("python3", "ca-certificates", "libstdc++6", "libgomp1", "netbase", "tzdata")
BUILDS = ("python3", "python3-venv", "ca-certificates", "libstdc++6", "libgomp1", "g++", "binutils", "make")
_DPKG = ("path-exclude=/usr/share/man/*", "path-exclude=/usr/share/locale/*", "path-exclude=/usr/share/doc/*")
_KEPT = ("path-include=/usr/share/doc/*/copyright",)
# Nobody in a container gains rights by running a program.
_HOOK = 'find "$1" -xdev -type f -perm /6000 -exec chmod a-s {} +'


class NoDebian(RuntimeError):
    """A base of Debian packages can't be made; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """`identity`: what the engine calls this very image."""

    reference: str
    identity: str


def base(engine: Engine, wanted: str, say: Callable[[str], None]) -> Base:
    """The image that ours run on, `wanted` by name or `debian`; fetched or made unless it is here."""
    return _debian(engine, "base", RUNS, say) if wanted == DEBIAN else _named(engine, wanted, say)


def builder(engine: Engine, wanted: str, say: Callable[[str], None]) -> Base:
    """The image that ours are built in; it has a compiler."""
    return _debian(engine, "builder", BUILDS, say) if wanted == DEBIAN else _named(engine, wanted, say)


def _named(engine: Engine, reference: str, say: Callable[[str], None]) -> Base:
    if (identity := engine.identity(reference)) is None:
        say(f"fetching {reference}")
        engine.pull(reference)
        identity = engine.identity(reference) or ""
    return Base(reference=reference, identity=identity)


def _debian(engine: Engine, kind: str, packages: tuple[str, ...], say: Callable[[str], None]) -> Base:
    recipe = json.dumps([SUITE, EPOCH, packages, _DPKG, _KEPT, _HOOK])
    reference = f"localhost/trainwright-debian-{kind}:{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if (identity := engine.identity(reference)) is None:
        say(f"making the {kind} image from Debian packages (half a minute)")
        folder = cache() / "images"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            tar = Path(work) / f"{kind}.tar"
            _bootstrap(packages, tar)
            engine.make_base(tar, reference, epoch=EPOCH)
        identity = engine.identity(reference) or ""
    return Base(reference=reference, identity=identity)


def _bootstrap(packages: tuple[str, ...], tar: Path) -> None:
    if shutil.which("mmdebstrap") is None:
        raise NoDebian("BASE=debian needs mmdebstrap; on Debian and Ubuntu: apt-get install mmdebstrap")
    options = [f"--dpkgopt={option}" for option in (*_DPKG, *_KEPT)]
    command = ["mmdebstrap", "--quiet", "--variant=essential", f"--include={','.join(packages)}", *options]
    command += [f"--customize-hook={_HOOK}", SUITE, str(tar)]
    if mirror := os.environ.get("DEBIAN_MIRROR"):
        command.append(mirror)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise EngineFailed(f"mmdebstrap ended with {done.returncode}:\n" + "\n".join(done.stderr.strip().splitlines()[-15:]))
