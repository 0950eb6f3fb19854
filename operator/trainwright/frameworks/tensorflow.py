"""tensorflow: one process a pod. One worker mirrors over its GPUs; several find each other by TF_CONFIG."""

from __future__ import annotations

import json

from trainwright.api.names import worker_address
from trainwright.api.spec import TrainingJobSpec
from trainwright.frameworks.base import FIRST_PORT, PORTS, Identity, launcher_command, meeting


class TensorFlow:
    """TF_CONFIG is what MultiWorkerMirroredStrategy reads, in our recipes and in a user's script."""

    image = "tensorflow"
    rank_a_gpu = False

    def environment(self, who: Identity) -> dict[str, str]:
        given = meeting(who)
        if who.threads is not None:
            # TensorFlow starts a thread for each core of the node, whatever OpenMP is told. One more for what waits for others.
            given |= {"TF_NUM_INTRAOP_THREADS": str(who.threads), "TF_NUM_INTEROP_THREADS": str(max(2, who.threads))}
        if who.workers == 1:
            return given
        # Every worker listens, on all addresses of its machine: pods that share one need a port each.
        ports = [FIRST_PORT + (who.port - FIRST_PORT + index) % PORTS for index in range(who.workers)]
        workers = [f"{worker_address(who.job, who.namespace, index)}:{port}" for index, port in enumerate(ports)]
        config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": who.index}}
        return {"TF_CONFIG": json.dumps(config), **given}

    def command(self, spec: TrainingJobSpec) -> list[str]:
        return launcher_command(spec)
