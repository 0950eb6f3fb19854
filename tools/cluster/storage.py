"""Claims find volumes: a class that nobody provisions, and a store of volumes that are folders of the machine.

They are `local` volumes: of those the kubelet gives the folder to the pod's group, which it doesn't do with a `hostPath`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

CLASS = "folders"
COUNT = 60
SIZE = "20Gi"


def objects(folder: Path, node: str) -> list[dict[str, Any]]:
    """The class, and volumes in folders that are made here. Nobody takes a volume twice."""
    made: list[dict[str, Any]] = [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    ]
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    for number in range(COUNT):
        place = folder / f"v{number:02}"
        place.mkdir(parents=True, exist_ok=True)
        spec = {
            "capacity": {"storage": SIZE},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "storageClassName": CLASS,
            "local": {"path": str(place)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        }
        made.append({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": place.name}, "spec": spec})
    return made
