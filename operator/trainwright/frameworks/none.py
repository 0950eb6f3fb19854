"""No framework: the contract's environment and the user's own command, nothing around it."""

from __future__ import annotations

from trainwright.api.spec import TrainingJobSpec
from trainwright.frameworks.base import Identity


class NoFramework:
    """The base image has Python and nothing of ours; the container's end is all the operator learns."""

    image = "base"
    rank_a_gpu = True

    def environment(self, who: Identity) -> dict[str, str]:  # noqa: ARG002 - the protocol's
        return {}

    def command(self, spec: TrainingJobSpec) -> list[str]:
        return list(spec.command or [])
