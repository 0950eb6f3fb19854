"""sklearn: one rank a pod, on CPUs. Workers of a search meet at MASTER_ADDR, where worker 0 hands out what is to be tried."""

from __future__ import annotations

from trainwright.api.spec import TrainingJobSpec
from trainwright.frameworks.base import Identity, launcher_command, meeting


class Sklearn:
    """The sklearn image runs everything under the launcher."""

    image = "sklearn"
    rank_a_gpu = False

    def environment(self, who: Identity) -> dict[str, str]:
        # joblib otherwise takes the node's cores for its own.
        threads = {"LOKY_MAX_CPU_COUNT": str(who.threads)} if who.threads is not None else {}
        return {**meeting(who), **threads}

    def command(self, spec: TrainingJobSpec) -> list[str]:
        return launcher_command(spec)
