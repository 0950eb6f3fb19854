"""jax: one process a pod over all of its GPUs; `jax.distributed.initialize()` without arguments finds the others."""

from __future__ import annotations

from trainwright.api.spec import TrainingJobSpec
from trainwright.frameworks.base import Identity, launcher_command, meeting


class Jax:
    """Process 0 is the coordinator."""

    image = "jax"
    rank_a_gpu = False

    def environment(self, who: Identity) -> dict[str, str]:
        if who.workers == 1:
            return meeting(who)
        return {
            "JAX_COORDINATOR_ADDRESS": f"{who.master}:{who.port}",
            "JAX_NUM_PROCESSES": str(who.workers),
            "JAX_PROCESS_ID": str(who.index),
            **meeting(who),
        }

    def command(self, spec: TrainingJobSpec) -> list[str]:
        return launcher_command(spec)
