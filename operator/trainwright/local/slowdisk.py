"""Keep a disk really busy for a while: writers beside a job's workspace flush what they write, so that its own wait.

Without root nobody can slow a disk down for some processes only, so it is slow for all of them. The scratch files have no names:
however this process ends, the kernel gives their room back.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import mmap
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MIB = 2**20
PROBE_BYTES = 4096
PROBES_BEFORE = 30
# The probes are few beside the writers: they are to measure the load, not to be it.
PROBE_PAUSE_SECONDS = 0.1
SAY_SECONDS = 2.0


class NoRoom(RuntimeError):
    """The scratch files would fill the disk, or nearly so."""


@dataclass(frozen=True)
class Load:
    """How hard to press: `writers` at once, each going round in a file of `file_bytes`, `block_bytes` between two flushes.

    `spare_bytes` stay free on the disk beside the files.
    """

    writers: int = 4
    file_bytes: int = 64 * MIB
    block_bytes: int = 16 * MIB
    spare_bytes: int = 1024 * MIB


@dataclass(frozen=True)
class Slowed:
    """What a small flushed write took, in seconds (on average), before and while the disk was busy."""

    before: float
    during: float

    def __str__(self) -> str:
        return (
            f"a flushed write of {PROBE_BYTES // 1024} KiB took {self.during * 1000:.2f} ms instead of "
            f"{self.before * 1000:.2f} ms ({self.during / self.before:.1f} times as long)"
        )


async def slow_down(folder: Path, *, seconds: float, say: Callable[[str], None], load: Load | None = None) -> Slowed:
    """Keep the file system of `folder` busy for so long. Raises `NoRoom`, and OSError when the disk refuses."""
    with _scratch(folder) as probed:
        took = [await asyncio.to_thread(probe, probed) for _ in range(PROBES_BEFORE)]
        before = statistics.fmean(took)
        say(f"a flushed write takes {before * 1000:.2f} ms; the disk gets busy")
        took.clear()
        started = said = time.monotonic()
        async with busy(folder, load or Load()) as failed:
            while (now := time.monotonic()) < started + seconds or not took:
                failed()
                took.append(await asyncio.to_thread(probe, probed))
                if now > said + SAY_SECONDS:
                    said = now
                    say(f"{now - started:.0f} of {seconds:g} s: a flushed write takes {took[-1] * 1000:.2f} ms")
                await asyncio.sleep(min(PROBE_PAUSE_SECONDS, max(0.0, started + seconds - time.monotonic())))
    return Slowed(before, statistics.fmean(took))


@contextlib.asynccontextmanager
async def busy(folder: Path, load: Load) -> AsyncIterator[Callable[[], None]]:
    """Writers at work as long as the block runs; what is given raises what has stopped one of them. Raises `NoRoom`."""
    wanted = load.writers * load.file_bytes
    free = shutil.disk_usage(folder).free
    if free < wanted + load.spare_bytes:
        raise NoRoom(
            f"{free // MIB} MiB are free where {folder} lies; the scratch files take {wanted // MIB} MiB "
            f"and {load.spare_bytes // MIB} MiB must stay free beside them"
        )
    stop = threading.Event()
    with contextlib.ExitStack() as held:
        files = [held.enter_context(_scratch(folder)) for _ in range(load.writers)]
        pool = held.enter_context(ThreadPoolExecutor(load.writers))
        held.callback(stop.set)
        writers = [pool.submit(_write, file, load, stop) for file in files]
        yield lambda: _raise_of(writers)


def probe(file: IO[bytes]) -> float:
    """Seconds that a small write takes from the call until the disk has it, its place in the file included."""
    started = time.perf_counter()
    os.pwrite(file.fileno(), bytes(PROBE_BYTES), 0)
    os.fsync(file.fileno())
    return time.perf_counter() - started


def _write(file: IO[bytes], load: Load, stop: threading.Event) -> None:
    """Round and round in one file, past the page cache where the file system allows that."""
    number = file.fileno()
    # All of its room at once: a disk that has too little says so before anything is slow.
    os.posix_fallocate(number, 0, load.file_bytes)
    with contextlib.suppress(OSError):
        fcntl.fcntl(number, fcntl.F_SETFL, fcntl.fcntl(number, fcntl.F_GETFL) | os.O_DIRECT)
    # Writes past the page cache want memory that begins with a page.
    with mmap.mmap(-1, load.block_bytes) as block:
        offset = 0
        while not stop.is_set():
            os.pwrite(number, block, offset)
            os.fdatasync(number)
            offset = (offset + load.block_bytes) % load.file_bytes


def _raise_of(writers: list[Future[None]]) -> None:
    for writer in writers:
        if writer.done():
            writer.result()


def _scratch(folder: Path) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=folder, buffering=0)
