"""What it takes to publish a large artifact, beside a copy of it that is flushed to the same disk."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.gateway import python_of
from bench.results import Figure
from bench.training import TOOLS
from trainwright.local import environments
from trainwright.local.paths import checkout

SIZE = 1 << 30
QUICK_SIZE = 1 << 28
FILE = "model.joblib"
FIGURES = {"publish", "publish-verify", "publish-memory"}


@dataclass(frozen=True)
class Ended:
    """A command that has ended well: what it printed, its time, and the most memory that it had."""

    output: str
    seconds: float
    peak_bytes: int


async def measure(*, quick: bool, say: Callable[[str], None]) -> list[Figure]:
    """`verify` and `publish` as the Jobs run them, Python's start included; `cp` and a flush in turns with them."""
    await environments.ensure(checkout() / "trainer_images" / "serving" / "publisher", say)
    return await asyncio.to_thread(_measure, QUICK_SIZE if quick else SIZE, 3, say)


def _measure(size: int, repeats: int, say: Callable[[str], None]) -> list[Figure]:
    folder = checkout() / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    verified, published, copied, peaks = [], [], [], []
    with tempfile.TemporaryDirectory(dir=folder) as directory:
        artifact = Path(directory) / "artifact"
        _run("python", "-m", "bench.serving.large", str(artifact), str(size))
        for repeat in range(repeats):
            copied.append(_copied(artifact / FILE, Path(directory) / "copy"))
            checked = _run("trainwright-publisher", "verify", "--source", str(artifact), "--server", "sklearn")
            models = Path(directory) / f"models-{repeat}"
            models.mkdir()
            words = ["--source", str(artifact), "--server", "sklearn", "--digest", json.loads(checked.output)["digest"]]
            done = _run("trainwright-publisher", "publish", *words, "--model", "m", "--version", "1", "--models", str(models))
            shutil.rmtree(models)
            verified.append(checked.seconds)
            published.append(done.seconds)
            peaks.append(max(checked.peak_bytes, done.peak_bytes) / 1e6)
            speeds = ", ".join(f"{size / 1e6 / one[-1]:.0f}" for one in (published, verified, copied))
            say(f"  {size / 1e6:.0f} MB; publish, verify, cp and flush: {speeds} MB a second")
    return [
        Figure(name="publish", samples=published, floor=copied, notes={"bytes": size}),
        Figure(name="publish-verify", samples=verified, floor=copied, notes={"bytes": size}),
        Figure(name="publish-memory", samples=peaks, unit="MB"),
    ]


def _copied(source: Path, target: Path) -> float:
    """Seconds of a copy until it is on the disk."""
    began = time.perf_counter()
    subprocess.run(["cp", source, target], check=True)
    for path in (target, target.parent):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    seconds = time.perf_counter() - began
    target.unlink()
    return seconds


def _run(program: str, *arguments: str) -> Ended:
    """A program of the publisher's environment; raises RuntimeError with what it said when it fails."""
    environment = {**os.environ, "PYTHONPATH": str(TOOLS), "TRAINWRIGHT_TERMINATION_LOG": os.devnull}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen([python_of("publisher") / program, *arguments], stdout=output, stderr=said, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        for stream in (output, said):
            stream.seek(0)
        if process.returncode != 0:
            words = said.read()[-2000:].decode(errors="replace")
            raise RuntimeError(f"{program} {' '.join(arguments)} ended with code {process.returncode}: {words}")
        # Of Linux: kilobytes.
        return Ended(output.read().decode(), seconds, usage.ru_maxrss * 1024)
