"""`trainwright-torchserve`: TorchServe with one published version, and nothing else.

An archive runs code as it is loaded, so it is compared with its record first, and the record with what the operator says.
Then TorchServe is started on a socket of its own; when the model answers there, the pod's port is opened (`gate.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import tempfile
from pathlib import Path

import psutil

from trainwright_runtime.exits import say
from trainwright_runtime.serving.environment import CLIENTS_PORT, InvalidServerEnvironment, ServerEnvironment
from trainwright_runtime.serving.record import Layout, NotWhatWasPublished, require
from trainwright_torchserve import probe, settings
from trainwright_torchserve.gate import Gate

EXIT_REFUSED = 3
DRAIN_SECONDS = 20.0
"""How long requests that are being answered may take when the server is asked to end."""
STOP_SECONDS = 5.0
LOOK_SECONDS = 0.1
PR_SET_PDEATHSIG = 1
MAX_FOLDER = 50
"""Characters of the path of a temporary folder: sockets lie in it, whose whole paths have at most 107."""
_libc = ctypes.CDLL(None)


def main() -> None:
    """Entry point of `trainwright-torchserve`."""
    try:
        environment = ServerEnvironment.read()
        layout = Layout(environment.models)
        require(layout, version=environment.version, server="torchserve", expected=environment.record)
    except (InvalidServerEnvironment, NotWhatWasPublished, OSError) as fault:
        say(str(fault))
        raise SystemExit(EXIT_REFUSED) from None
    with tempfile.TemporaryDirectory(prefix="trainwright-", dir=_short_folder()) as folder:
        raise SystemExit(asyncio.run(serve(environment, layout, Path(folder))))


def _short_folder() -> str | None:
    """Where temporary files may lie; None for the usual place."""
    usual, short = tempfile.gettempdir(), "/tmp"  # noqa: S108 - a folder is made in it that is ours alone
    return short if len(usual) > MAX_FOLDER and os.access(short, os.W_OK) else None


async def serve(environment: ServerEnvironment, layout: Layout, folder: Path) -> int:
    """Serve until this process is asked to end, or TorchServe does; returns the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    command, socket = settings.write(folder, environment, layout.version(environment.version))
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=_variables(environment, folder), stdin=asyncio.subprocess.DEVNULL, preexec_fn=_die_with_parent
    )
    gate = Gate(str(socket))
    ended = loop.create_task(process.wait())
    asked = loop.create_task(stop.wait())
    ready = loop.create_task(probe.until_it_answers(socket, environment.model, layout.record(environment.version)))
    spoilt = loop.create_task(probe.until_unhealthy(socket))
    failing = loop.create_task(probe.until_loading_fails(process.pid, environment.workers))
    try:
        await asyncio.wait({ready, failing, spoilt, ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            failing.cancel()
            ready.result()
            await gate.open(environment.address, CLIENTS_PORT)
            say(f"version {environment.version} of {environment.model} answers on {environment.address}:{CLIENTS_PORT}")
            await asyncio.wait({spoilt, ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        if asked.done():
            await _drain(gate)
            return 0
        if ended.done():
            say(f"TorchServe ended by itself with code {process.returncode}")
        else:
            say("TorchServe's workers can't load the model, or have died too often; what they wrote of it is above")
    except probe.NeverAnswers as fault:
        say(str(fault))
    except OSError as error:
        say(f"{environment.address}:{CLIENTS_PORT} can't be listened on: {error.strerror}")
    finally:
        gate.close()
        for task in (ready, failing, spoilt, ended, asked):
            task.cancel()
        await _end(process)
    return 1


def _variables(environment: ServerEnvironment, folder: Path) -> dict[str, str]:
    """TorchServe takes settings from variables of its own too; only ours are to count."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TS_")}
    own = {"LOG_LOCATION": str(folder / "logs"), "METRICS_LOCATION": str(folder / "logs"), "TMPDIR": str(folder)}
    own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    if "OMP_NUM_THREADS" not in kept:
        own["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // environment.workers))
    return {**kept, **own}


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


async def _drain(gate: Gate) -> None:
    gate.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while gate.waiting:  # noqa: ASYNC110 - it is asked for in no other place
                await asyncio.sleep(LOOK_SECONDS)


async def _end(java: asyncio.subprocess.Process) -> None:
    """End TorchServe and everything that it has started; what doesn't go by itself is killed."""
    workers: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        workers = psutil.Process(java.pid).children(recursive=True)
        java.terminate()
    try:
        await asyncio.wait_for(java.wait(), STOP_SECONDS)
    except TimeoutError:
        java.kill()
        await java.wait()
    _, left = await asyncio.to_thread(psutil.wait_procs, workers, 1.0)
    for worker in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()


if __name__ == "__main__":
    main()
