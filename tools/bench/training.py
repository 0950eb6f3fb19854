"""What the runtime costs a training: a step, and a checkpoint; measured by the trainer image's own Python."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.results import Figure
from trainwright.local.addresses import free_port
from trainwright.local.paths import checkout

SCRIPTS = Path(__file__).with_name("trainer")
STEPS = 800


async def steps(*, ranks: Sequence[int], say: Callable[[str], None]) -> list[Figure]:
    """A step of a small CNN, alone and in a gang. Medians over steps that were taken in turns."""
    figures = []
    for count in ranks:
        port = free_port("127.0.0.1")
        measured = await _trainer("step.py", str(count), str(STEPS), str(port), threads=1)
        name = "step" if count == 1 else "step-gang"
        figure = Figure(
            name=name,
            samples=measured["managed"],
            floor=measured["bare"],
            notes={
                "ratioOfMedianCpu": statistics.median(measured["managedCpu"]) / statistics.median(measured["bareCpu"]),
                "ratioOfMeans": statistics.mean(measured["managed"]) / statistics.mean(measured["bare"]),
            },
        )
        say(f"  {count} rank(s): {figure.measured * 1e3:.3f} ms a step, bare {(figure.floor_measured or 0) * 1e3:.3f} ms")
        figures.append(figure)
    return figures


async def checkpoint(*, repeats: int, say: Callable[[str], None]) -> Figure:
    """How long training stands still for 200 MB, and how long `torch.save` takes for the same on the same disk.

    One thread, as a worker with a core or less has: with more, and a neighbour on one of their cores, every copied tensor
    waits for the slowest thread.
    """
    folder = checkout() / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as directory:
        measured = await _trainer("checkpoint.py", directory, str(repeats), threads=1)
    cpu = statistics.median(measured["blockedCpu"]) / statistics.median(measured["plainCpu"])
    notes = {**measured, "ratioOfMedianCpu": cpu}
    figure = Figure(name="checkpoint", samples=measured["blocked"], floor=measured["plain"], notes=notes)
    say(f"  blocked {figure.measured * 1e3:.0f} ms, torch.save {(figure.floor_measured or 0) * 1e3:.0f} ms; CPU alone {cpu:.2f}")
    return figure


async def _trainer(script: str, *arguments: str, threads: int) -> dict[str, Any]:
    """The JSON that a script prints. It ends with everything it started, whatever ends this."""
    process = await asyncio.create_subprocess_exec(
        checkout() / "trainer_images" / "torch" / ".venv" / "bin" / "python",
        SCRIPTS / script,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "GLOO_SOCKET_IFNAME": "lo"},
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.returncode != 0:
        raise RuntimeError(f"{script} ended with code {process.returncode}")
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answer
