"""horovod: a rank a GPU, met at the package's own rendezvous, which worker 0's launcher runs beside its ranks. No SSH, no MPI."""

from __future__ import annotations

from trainwright.api.spec import TrainingJobSpec
from trainwright.frameworks.base import Identity, launcher_command, meeting

RENDEZVOUS = "trainwright_runtime.horovod.rendezvous"


class Horovod:
    """The launcher gives each rank its HOROVOD_RANK; here stands what is the same for all of a pod."""

    image = "horovod"
    rank_a_gpu = True

    def environment(self, who: Identity) -> dict[str, str]:
        return {
            "HOROVOD_CONTROLLER": "gloo",
            "HOROVOD_CPU_OPERATIONS": "gloo",
            "HOROVOD_GLOO_RENDEZVOUS_ADDR": who.master,
            "HOROVOD_GLOO_RENDEZVOUS_PORT": str(who.port),
            **meeting(who),
        }

    def command(self, spec: TrainingJobSpec) -> list[str]:
        return launcher_command(spec, "--beside", RENDEZVOUS, each_rank=True)
