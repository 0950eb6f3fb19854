"""jax: one process a pod over all of its GPUs; `jax.distributed.initialize()` without arguments finds the others."""

from __future__ import annotations

from trainwright.api.spec import TrainingJobSpec
from trainwright.frameworks.base import Identity, launcher_command, meeting


class Jax:
    """Process 0 is the coordinator."""

    image = "jax"
    rank_a_gpu = False

    def environment(self, who: Identity) -> dict[str, str]:
        return {
            "JAX_COORDINATOR_ADDRESS": f"{who.master}:{who.port}",
            "JAX_NUM_PROCESSES": str(who.workers),
            "JAX_PROCESS_ID": str(who.index),
            # JAX reads the address above by itself; the other two it finds only in what Open MPI leaves for its processes.
            "OMPI_MCA_orte_hnp_uri": "0.0;tcp://127.0.0.1:0",
            "OMPI_COMM_WORLD_SIZE": str(who.workers),
            "OMPI_COMM_WORLD_RANK": str(who.index),
            "OMPI_COMM_WORLD_LOCAL_RANK": "0",
            # For it would take a process of Open MPI to have one device.
            "JAX_LOCAL_DEVICE_IDS": ",".join(str(device) for device in range(max(1, who.gpus))),
            **meeting(who),
        }

    def command(self, spec: TrainingJobSpec) -> list[str]:
        return launcher_command(spec)
