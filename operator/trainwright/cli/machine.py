"""What `doctor` looks at on this machine: whether `trainwright up` and `run` work well. Other clusters need none."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil

from trainwright.cli.findings import Finding, ok, warning
from trainwright.local import binaries
from trainwright.local.gpus import real_gpus
from trainwright.local.paths import NotACheckout, cache, checkout, home

GIB = 2**30
# The control plane, the operator and a node take 0.6 GiB, a small torch worker about as much (docs/measurements.md).
MEMORY_BYTES = 2 * GIB
# torch with CUDA takes 5.3 GB on disk, the programs of a control plane 0.5 GB.
DISK_BYTES = 8 * GIB


def machine() -> list[Finding]:
    """All findings."""
    return [programs(), memory(psutil.virtual_memory().available), disk(cache(), home()), own_gpus()]


def programs() -> Finding:
    """Whether `trainwright up` can start at once, or what it does first."""
    try:
        checkout()
    except NotACheckout as error:
        return warning("programs", str(error), "only needed for the local twin; other clusters need none of it")
    there = binaries.there()
    missing = [tool.name for tool in binaries.TOOLS if tool.name not in there]
    if not missing:
        return ok("programs", f"all there: {', '.join(there)}")
    go = shutil.which("go")
    how = f"builds them with {go}" if go else "builds them with the Go toolchain of its Python package"
    return warning("programs", f"not there yet: {', '.join(missing)}", f"`trainwright up` downloads or {how}: some minutes, once")


def memory(available: int) -> Finding:
    """`available`: bytes that can be had without swapping."""
    said = f"{available / GIB:.1f} GiB available"
    if available < MEMORY_BYTES:
        return warning("memory", f"{said}; a twin with a small job takes about {MEMORY_BYTES // GIB}", "close something large")
    return ok("memory", said)


def disk(*folders: Path) -> Finding:
    """Room where programs, trainers and workspaces go."""
    room = {_existing(folder): shutil.disk_usage(_existing(folder)).free for folder in folders}
    folder, free = min(room.items(), key=lambda item: item[1])
    said = f"{free / GIB:.0f} GiB free at {folder}"
    if free < DISK_BYTES:
        return warning(
            "disk", f"{said}; torch and a control plane take {DISK_BYTES // GIB}", "make room, or set TRAINWRIGHT_HOME"
        )
    return ok("disk", said)


def own_gpus() -> Finding:
    found = len(real_gpus())
    if found:
        return ok("own gpus", f"{found} in this machine")
    return ok("own gpus", "none in this machine; the twin can pretend some (--gpus-per-node)")


def _existing(path: Path) -> Path:
    """The folder, or the first above it that is there."""
    return next(one for one in (path, *path.parents) if one.exists())
