"""The seam between the planner and a framework: who a worker is goes in, environment and command come out."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Protocol

from trainwright.api.names import worker_address
from trainwright.api.spec import TrainingJobSpec

FIRST_PORT, PORTS = 29500, 2000


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One worker of one attempt. `nproc`: ranks in its pod; `threads`: what a rank of it may use, None without a CPU limit."""

    job: str
    namespace: str
    uid: str
    attempt: int
    workers: int
    index: int
    nproc: int
    threads: int | None = None

    @property
    def master(self) -> str:
        """Worker 0's name, the same in every attempt."""
        return worker_address(self.job, self.namespace, 0)


def master_port(who: Identity) -> int:
    """The port where the gang meets: another for each job and attempt, because torch binds it on every address of the machine,
    and pods that share one (the local twin, host networks) must not meet in each other's gang.
    """
    return FIRST_PORT + zlib.crc32(f"{who.uid}-{who.attempt}".encode()) % PORTS


def rank_environment(who: Identity) -> dict[str, str]:
    """Who a worker is and where its gang meets, as programs of one rank a pod read it."""
    return {
        "MASTER_ADDR": who.master,
        "MASTER_PORT": str(master_port(who)),
        "RANK": str(who.index),
        "WORLD_SIZE": str(who.workers),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
    }


class Framework(Protocol):
    """`image` is the name of its trainer image in the catalogue."""

    image: str

    def environment(self, who: Identity) -> dict[str, str]:
        """The framework's own variables for one worker (docs/contract.md)."""
        ...

    def command(self, spec: TrainingJobSpec) -> list[str]:
        """What the worker's container runs."""
        ...


def launcher_command(spec: TrainingJobSpec) -> list[str]:
    """The call of `trainwright-launch` that starts what the spec names; a command in an image of the user's stays as it is."""
    if spec.recipe:
        return ["trainwright-launch", "recipe", spec.recipe.name]
    if spec.entrypoint:
        entry = spec.entrypoint
        function = ["--function", entry.function] if entry.function else []
        arguments = ["--", *entry.args] if entry.args else []
        return ["trainwright-launch", "module", entry.module, *function, *arguments]
    if spec.image:
        return list(spec.command or [])
    return ["trainwright-launch", "command", "--", *(spec.command or [])]
