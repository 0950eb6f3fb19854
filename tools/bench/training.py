"""What the runtime costs a training: a step or a fit, and a checkpoint; measured by each trainer image's own Python."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.results import Figure
from trainwright.local import environments
from trainwright.local.addresses import free_port
from trainwright.local.paths import checkout

TOOLS = Path(__file__).parents[1]
STEPS = 2000
QUICK_STEPS = 800
SEARCHES = 12


@dataclass(frozen=True, kw_only=True)
class Pace:
    """One loop, bare and under the runtime in turns: which image's Python runs which script, and how often."""

    name: str
    image: str
    script: str
    turns: int = STEPS
    what: str = "a step"
    quick: bool = False
    ranks: int = 1
    """Only torch's script starts several, and it alone is told."""

    def arguments(self, *, quick: bool) -> tuple[str, ...]:
        turns = str(min(self.turns, QUICK_STEPS) if quick else self.turns)
        return (turns,) if self.image != "torch" else (str(self.ranks), turns, str(free_port("127.0.0.1")))


PACES = (
    Pace(name="step", image="torch", script="torch_step", quick=True),
    Pace(name="step-gang", image="torch", script="torch_step", ranks=2, turns=QUICK_STEPS, what="a step of two ranks"),
    Pace(name="step-horovod", image="horovod", script="horovod_step"),
    Pace(name="step-jax", image="jax", script="jax_step"),
    Pace(name="step-tensorflow", image="tensorflow", script="tensorflow_step"),
    Pace(name="fit-sklearn", image="sklearn", script="sklearn_fit", turns=SEARCHES, what="a search and the last fit"),
)


async def steps(*, quick: bool, say: Callable[[str], None]) -> list[Figure]:
    """What a step or a fit takes under the runtime, beside the same without. Medians over turns."""
    figures = []
    for pace in PACES:
        if quick and not pace.quick:
            continue
        await environments.ensure(checkout() / "trainer_images" / pace.image, say)
        measured = await _trainer(pace.image, pace.script, *pace.arguments(quick=quick), threads=1)
        pairs = zip(measured["managed"], measured["bare"], strict=True)
        figure = Figure(
            name=pace.name,
            samples=measured["managed"],
            floor=measured["bare"],
            notes={
                "ratioOfMedianCpu": statistics.median(measured["managedCpu"]) / statistics.median(measured["bareCpu"]),
                "ratioOfMeans": statistics.mean(measured["managed"]) / statistics.mean(measured["bare"]),
                "medianOfRatios": statistics.median(managed / bare for managed, bare in pairs),
            },
        )
        floor = figure.floor_measured or 0
        say(
            f"  {pace.image}: {figure.measured * 1e3:.3f} ms {pace.what}, bare {floor * 1e3:.3f} ms; "
            f"{(figure.measured - floor) * 1e6:.0f} µs more; CPU alone {figure.notes['ratioOfMedianCpu']:.3f}"
        )
        figures.append(figure)
    return figures


async def telling(*, quick: bool, say: Callable[[str], None]) -> Figure:
    """The share of a step that goes into telling how the training goes: status, metrics, progress."""
    await environments.ensure(checkout() / "trainer_images" / "torch", say)
    measured = await _trainer("torch", "torch_telling", str(QUICK_STEPS if quick else STEPS), threads=1)
    costs = [told - silent for told, silent in zip(measured["told"], measured["silent"], strict=True)]
    step = statistics.mean(measured["step"])
    figure = Figure(name="telling", samples=[cost / step for cost in costs], unit="x", notes=measured)
    say(f"  telling: {statistics.median(costs) * 1e6:.1f} µs of a step of {step * 1e3:.1f} ms")
    return figure


async def checkpoint(*, repeats: int, say: Callable[[str], None]) -> Figure:
    """How long training stands still for 200 MB, and how long `torch.save` takes for the same on the same disk.

    One thread, as a worker with a core or less has: with more, and a neighbour on one of their cores, every copied tensor
    waits for the slowest thread.
    """
    folder = checkout() / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as directory:
        measured = await _trainer("torch", "checkpoint", directory, str(repeats), threads=1)
    cpu = statistics.median(measured["blockedCpu"]) / statistics.median(measured["plainCpu"])
    notes = {**measured, "ratioOfMedianCpu": cpu}
    figure = Figure(name="checkpoint", samples=measured["blocked"], floor=measured["plain"], notes=notes)
    say(f"  blocked {figure.measured * 1e3:.0f} ms, torch.save {(figure.floor_measured or 0) * 1e3:.0f} ms; CPU alone {cpu:.2f}")
    return figure


async def _trainer(image: str, script: str, *arguments: str, threads: int) -> dict[str, Any]:
    """The JSON that a script prints. It ends with everything it started, whatever ends this.

    Raises RuntimeError with the end of what it wrote, when it fails.
    """
    process = await asyncio.create_subprocess_exec(
        checkout() / "trainer_images" / image / ".venv" / "bin" / "python",
        "-m",
        f"bench.trainer.{script}",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(TOOLS)},
        start_new_session=True,
    )
    try:
        output, said = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.returncode != 0:
        raise RuntimeError(f"{script} ended with code {process.returncode}: {said.decode(errors='replace')[-2000:]}")
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answer
