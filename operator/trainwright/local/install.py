"""What every control plane of ours has before its controllers start: our kinds, and a storage class.

The garbage collector learns of kinds when it starts, and of new ones only every half minute: a job that is deleted before
it has learnt of TrainingJobs would leave its pods behind for so long.
"""

from __future__ import annotations

import asyncio

from trainwright.api.crd import definition
from trainwright.api.kinds import KINDS
from trainwright.cluster.port import CRDS, STORAGE_CLASSES, Cluster
from trainwright.local.binaries import ControlPlaneUnavailable
from trainwright.local.storage import STORAGE_CLASS

READY_SECONDS = 30.0


async def install(cluster: Cluster) -> None:
    """Apply the definitions and the storage class; return when jobs are taken. Raises `ControlPlaneUnavailable`."""
    storage = {
        "apiVersion": STORAGE_CLASSES.api_version,
        "kind": STORAGE_CLASSES.kind,
        "metadata": {"name": STORAGE_CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "trainwright.dev/process-node",
        "reclaimPolicy": "Retain",
        "volumeBindingMode": "Immediate",
    }
    await cluster.apply(STORAGE_CLASSES, storage)
    deadline = asyncio.get_running_loop().time() + READY_SECONDS
    for kind in KINDS.values():
        crd = definition(kind)
        await cluster.apply(CRDS, crd)
        await _established(cluster, crd["metadata"]["name"], deadline)


async def _established(cluster: Cluster, name: str, deadline: float) -> None:
    while True:
        now = await cluster.get(CRDS, name)
        conditions = {one["type"]: one["status"] for one in now.get("status", {}).get("conditions") or []}
        if conditions.get("Established") == "True":
            return
        if asyncio.get_running_loop().time() > deadline:
            raise ControlPlaneUnavailable(f"the CRD {name} is not established: {conditions}")
        await asyncio.sleep(0.1)
