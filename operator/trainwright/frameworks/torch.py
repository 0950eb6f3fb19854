"""torch: DDP by our launcher, by torchrun (PET_ variables are its options), or by a script that reads MASTER_ADDR and RANK."""

from __future__ import annotations

from trainwright.api.spec import TrainingJobSpec
from trainwright.frameworks.base import Identity, launcher_command, meeting


class Torch:
    """The torch image runs everything under the launcher."""

    image = "torch"
    rank_a_gpu = True

    def environment(self, who: Identity) -> dict[str, str]:
        return {
            "PET_NNODES": str(who.workers),
            "PET_NODE_RANK": str(who.index),
            "PET_NPROC_PER_NODE": str(who.nproc),
            "PET_MASTER_ADDR": who.master,
            "PET_MASTER_PORT": str(who.port),
            "PET_RDZV_ID": f"{who.uid}-{who.attempt}",
            "PET_MAX_RESTARTS": "0",
            **meeting(who),
        }

    def command(self, spec: TrainingJobSpec) -> list[str]:
        return launcher_command(spec)
