"""`trainwright chaos`: break a part of the local twin and watch the job survive."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated

import typer

from trainwright.cli.app import LAPTOP, UserError, app, note, out
from trainwright.cli.options import Job, Namespace, TwinName
from trainwright.local.paths import DEFAULT

if TYPE_CHECKING:
    from trainwright.local.chaos import Chaos

chaos = typer.Typer(no_args_is_help=True, help="Break a part of the local twin on purpose, and see what becomes of a job.")
app.add_typer(chaos, name="chaos", rich_help_panel=LAPTOP)

Worker = Annotated[int, typer.Option("--worker", "-w", min=0, help="Index of the worker.")]
DEFAULT_NAMESPACE = "default"
Seconds = Annotated[float, typer.Option("--for", min=0.1, metavar="SECONDS", help="How long.")]


def _do(name: str, fault: Callable[[Chaos], Coroutine[None, None, str]]) -> None:
    """Do that to the twin of that name. What breaks things is imported now: --help and completion need none of it."""
    import asyncio  # noqa: PLC0415

    from trainwright.local.chaos import Chaos, NothingToBreak  # noqa: PLC0415
    from trainwright.local.twin import Twin  # noqa: PLC0415

    try:
        out.print(asyncio.run(fault(Chaos(Twin(name)))), soft_wrap=True)
    except NothingToBreak as error:
        raise UserError(str(error)) from None


@chaos.command("kill-worker")
def kill_worker(job: Job, worker: Worker = 0, namespace: Namespace = None, name: TwinName = DEFAULT) -> None:
    """SIGKILL to every process of a worker."""
    _do(name, lambda chaos: chaos.kill_worker(job, namespace or DEFAULT_NAMESPACE, worker))


@chaos.command("hang-worker")
def hang_worker(
    job: Job, worker: Worker = 0, seconds: Seconds = 10, namespace: Namespace = None, name: TwinName = DEFAULT
) -> None:
    """A worker stands still for a while, neither dead nor alive."""
    _do(name, lambda chaos: chaos.hang_worker(job, namespace or DEFAULT_NAMESPACE, worker, seconds=seconds))


@chaos.command("full-disk")
def full_disk(job: Job, worker: Worker = 0, seconds: Seconds = 10, namespace: Namespace = None, name: TwinName = DEFAULT) -> None:
    """For a while a worker can write no file as large as its checkpoint."""
    _do(name, lambda chaos: chaos.full_disk(job, namespace or DEFAULT_NAMESPACE, worker, seconds=seconds))


@chaos.command("slow-disk")
def slow_disk(job: Job, seconds: Seconds = 30, namespace: Namespace = None, name: TwinName = DEFAULT) -> None:
    """The disk under a job's workspace is busy for a while: everything that writes to it slows down."""
    _do(name, lambda chaos: chaos.slow_disk(job, namespace or DEFAULT_NAMESPACE, seconds=seconds, say=note))


@chaos.command("stop-node")
def stop_node(job: Job, worker: Worker = 0, namespace: Namespace = None, name: TwinName = DEFAULT) -> None:
    """Switch the node under a worker off, with all that runs on it."""
    _do(name, lambda chaos: chaos.stop_node(job, namespace or DEFAULT_NAMESPACE, worker))


@chaos.command("drain-node")
def drain_node(job: Job, worker: Worker = 0, namespace: Namespace = None, name: TwinName = DEFAULT) -> None:
    """Cordon the node under a worker and evict its pods, as before maintenance."""
    _do(name, lambda chaos: chaos.drain_node(job, namespace or DEFAULT_NAMESPACE, worker))


@chaos.command("kill-operator")
def kill_operator(name: TwinName = DEFAULT) -> None:
    """SIGKILL to the operator, and a new one, as a Deployment would start it."""
    _do(name, lambda chaos: chaos.kill_operator())


@chaos.command("drop-api")
def drop_api(seconds: Seconds = 10, name: TwinName = DEFAULT) -> None:
    """The API server stands still for a while: connections stay open, nobody answers."""
    _do(name, lambda chaos: chaos.drop_api(seconds=seconds))
