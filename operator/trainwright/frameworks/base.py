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
    """One worker of one attempt. `nproc`: ranks in its pod; `gpus`: GPUs of it; `threads`: of a rank, None without a limit."""

    job: str
    namespace: str
    uid: str
    attempt: int
    workers: int
    index: int
    nproc: int
    gpus: int
    threads: int | None = None

    @property
    def master(self) -> str:
        """Worker 0's name, the same in every attempt."""
        return worker_address(self.job, self.namespace, 0)

    @property
    def port(self) -> int:
        """Where the gang meets: another for each job and attempt, because frameworks listen on every address of the machine, and
        pods that share one (the local twin, host networks) must not meet in each other's gang.
        """
        return FIRST_PORT + zlib.crc32(f"{self.uid}-{self.attempt}".encode()) % PORTS


class Framework(Protocol):
    """`image` is the name of its trainer image in the catalogue. `rank_a_gpu`: a process drives one GPU, not all of its pod."""

    image: str
    rank_a_gpu: bool

    def environment(self, who: Identity) -> dict[str, str]:
        """The framework's own variables for one worker (docs/contract.md)."""
        ...

    def command(self, spec: TrainingJobSpec) -> list[str]:
        """What the worker's container runs."""
        ...


def meeting(who: Identity) -> dict[str, str]:
    """Where the gang meets and who this pod is in it, if it is one rank: the names that torch gave these."""
    return {
        "MASTER_ADDR": who.master,
        "MASTER_PORT": str(who.port),
        "RANK": str(who.index),
        "WORLD_SIZE": str(who.workers),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
    }


def launcher_command(spec: TrainingJobSpec, *options: str, each_rank: bool = False) -> list[str]:
    """The call of `trainwright-launch` that starts what the spec names; a command in an image of the user's stays as it is.

    `each_rank`: a command is started for each rank of the pod, and not once.
    """
    launcher = ["trainwright-launch", *options]
    if spec.recipe:
        return [*launcher, "recipe", spec.recipe.name]
    if spec.entrypoint:
        entry = spec.entrypoint
        function = ["--function", entry.function] if entry.function else []
        arguments = ["--", *entry.args] if entry.args else []
        return [*launcher, "module", entry.module, *function, *arguments]
    if spec.image:
        return list(spec.command or [])
    each = ["--each-rank"] if each_rank else []
    return [*launcher, "command", *each, "--", *(spec.command or [])]
