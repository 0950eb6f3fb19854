"""torch: DDP by our launcher, by torchrun (PET_ variables are its options), or by a script that reads MASTER_ADDR and RANK."""

from __future__ import annotations

import zlib

from trainwright.api.spec import TrainingJobSpec
from trainwright.frameworks.base import Identity, launcher_command

FIRST_PORT, PORTS = 29500, 2000


def master_port(who: Identity) -> int:
    """The port where the gang meets: another for each job and attempt, because torch binds it on every address of the machine,
    and pods that share one (the local twin, host networks) must not meet in each other's gang.
    """
    return FIRST_PORT + zlib.crc32(f"{who.uid}-{who.attempt}".encode()) % PORTS


class Torch:
    """The torch image runs everything under the launcher."""

    image = "torch"

    def environment(self, who: Identity) -> dict[str, str]:
        port = str(master_port(who))
        return {
            "PET_NNODES": str(who.workers),
            "PET_NODE_RANK": str(who.index),
            "PET_NPROC_PER_NODE": str(who.nproc),
            "PET_MASTER_ADDR": who.master,
            "PET_MASTER_PORT": port,
            "PET_RDZV_ID": f"{who.uid}-{who.attempt}",
            "PET_MAX_RESTARTS": "0",
            "MASTER_ADDR": who.master,
            "MASTER_PORT": port,
            "RANK": str(who.index),
            "WORLD_SIZE": str(who.workers),
            "LOCAL_RANK": "0",
            "LOCAL_WORLD_SIZE": "1",
        }

    def command(self, spec: TrainingJobSpec) -> list[str]:
        return launcher_command(spec)
