"""`trainwright run`: a job on this machine, without a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import typer
from rich.live import Live
from rich.text import Text

from trainwright.api.job import read_status
from trainwright.api.status import Phase, TrainingJobStatus
from trainwright.cli.app import UserError, err, note, out
from trainwright.cli.files import one_job
from trainwright.cli.render import job_view
from trainwright.cluster.port import MODEL_DEPLOYMENTS, TRAINING_JOBS, Object
from trainwright.local.paths import NotACheckout
from trainwright.local.runner import NAMESPACE, RUNNABLE, AlreadyRunning, LocalRun

LOG_SECONDS = 0.2


def run(file: Path, directory: Path, *, quiet: bool) -> None:
    job, others = one_job(file)
    served = [obj for obj in others if obj["kind"] == MODEL_DEPLOYMENTS.kind]
    others = [obj for obj in others if obj not in served]
    for obj in served:
        note(f"{obj['kind']} {obj['metadata']['name']} is left out: serving needs a cluster, such as that of `trainwright up`")
    for obj in others:
        if obj["kind"] not in RUNNABLE:
            raise UserError(
                f"{file}: a {obj['kind']} means nothing without a cluster; accepted beside the job are {', '.join(RUNNABLE)}"
            )
    try:
        code = asyncio.run(_run(job, others, directory, quiet=quiet))
    except (NotACheckout, AlreadyRunning) as error:
        raise UserError(str(error)) from None
    raise typer.Exit(code)


async def _run(job: Object, others: list[Object], directory: Path, *, quiet: bool) -> int:
    local = LocalRun(directory, job, others, progress=lambda text: err.print(f"[dim]{text}[/]", soft_wrap=True))
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, _interrupt, interrupted)
    loop.add_signal_handler(signal.SIGTERM, interrupted.set)
    status = TrainingJobStatus()
    async with local.running():
        with Live(console=out, refresh_per_second=8, transient=True) if out.is_terminal else contextlib.nullcontext() as live:
            watching = asyncio.create_task(_watch(local, live))
            logging = asyncio.create_task(_print_logs(local)) if not quiet else None
            stopping = asyncio.create_task(interrupted.wait())
            await asyncio.wait([watching, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not watching.done():
                err.print("stopping: workers save a checkpoint (Ctrl-C again: at once)")
                await local.stop()
                watching.cancel()
            elif logging is not None:
                # The last lines are written by the time the job has ended; give them one more turn of the printer.
                await asyncio.sleep(2 * LOG_SECONDS)
            for task in (logging, stopping):
                if task is not None:
                    task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                status = await watching
        raw = await local.cluster.get(TRAINING_JOBS, local.name, NAMESPACE)
    if interrupted.is_set():
        out.print(f"stopped; the same command goes on from the newest checkpoint in {local.workspace}", soft_wrap=True)
        return 130
    out.print(job_view(raw))
    out.print(f"results: {local.workspace}", soft_wrap=True)
    return 0 if status.phase is Phase.SUCCEEDED else 1


def _interrupt(interrupted: asyncio.Event) -> None:
    if interrupted.is_set():
        raise KeyboardInterrupt
    interrupted.set()


async def _watch(local: LocalRun, live: Live | None) -> TrainingJobStatus:
    """Show the job until it ends; its last status."""
    said = ""
    version = "0"
    raw = await local.cluster.get(TRAINING_JOBS, local.name, NAMESPACE)
    status = read_status(raw)
    async for event in local.cluster.watch(TRAINING_JOBS, NAMESPACE, resource_version=version):
        status = read_status(event.object)
        if live is not None:
            live.update(job_view(event.object))
        line = f"{status.phase or 'New'}: {status.reason or ''}".rstrip(": ")
        if live is None and line != said:
            out.print(Text(f"{local.name} {line}"), soft_wrap=True)
            said = line
        if status.finished:
            break
    return status


async def _print_logs(local: LocalRun) -> None:
    """Worker 0's log of every attempt, as it comes; above the live view where there is one."""
    printed: dict[str, int] = {}
    while True:
        for name, path in local.leader_logs():
            with contextlib.suppress(OSError), path.open("rb") as log:
                log.seek(printed.get(name, 0))
                whole, newline, _ = log.read().rpartition(b"\n")
                if newline:
                    printed[name] = printed.get(name, 0) + len(whole) + 1
                    out.print(Text(whole.decode(errors="replace")), soft_wrap=True)
        await asyncio.sleep(LOG_SECONDS)
