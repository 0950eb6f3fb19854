"""What the command line makes to send an artifact from a user's machine: a claim that it goes to, and a pod that takes it.

Both go with the deployment. The pod has the user's rights and none of the publisher's: it sees neither served models nor Secrets.
"""

from __future__ import annotations

import math
from typing import Any

from trainwright.api.deployment import ModelDeployment
from trainwright.api.names import (
    CLIENT_PORT,
    COMPONENT_LABEL,
    INCOMING,
    INCOMING_DIR,
    ROLE_LABEL,
    TERMINATION_LOG,
    incoming_name,
)
from trainwright.observe.serving import Role
from trainwright.plan.confined import confined
from trainwright.plan.serving.metadata import metadata, pod_labels
from trainwright.plan.serving.pods import with_pod_address
from trainwright.servers.base import http_get

Object = dict[str, Any]
DIGEST_ANNOTATION = "trainwright.dev/digest"
RECEIVER = "receiver"
GIB = 2**30
# An artifact and the one before it, which may not be published yet.
ARTIFACTS = 2


def size_for(amount: int) -> str:
    """Of a claim that artifacts of so many bytes are sent to."""
    return f"{max(1, math.ceil(amount * ARTIFACTS / GIB))}Gi"


def claim(deployment: ModelDeployment, amount: int, storage_class: str | None) -> Object:
    """The claim that artifacts of `amount` bytes fit in."""
    spec: Object = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size_for(amount)}}}
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    made = _metadata(deployment)
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": made, "spec": spec}


def receiver(deployment: ModelDeployment, *, image: str, digest: str, token_sha256: str, keep: list[str]) -> Object:
    """The pod that takes the artifact of a manifest with the sha256 `digest`; `keep`: others that are still waited for."""
    words = ["receive", "--into", f"{INCOMING_DIR}/{digest}", *(word for one in keep for word in ("--keep", one))]
    environment = {"TRAINWRIGHT_TOKEN_SHA256": token_sha256, "TRAINWRIGHT_TERMINATION_LOG": TERMINATION_LOG}
    container = {
        "name": RECEIVER,
        "image": image,
        "command": ["trainwright-publisher", *words],
        "env": with_pod_address(environment),
        "ports": [{"name": "http", "containerPort": CLIENT_PORT}],
        "volumeMounts": [{"name": "incoming", "mountPath": INCOMING_DIR}],
        "readinessProbe": {**http_get("/hello", CLIENT_PORT), "periodSeconds": 1, "timeoutSeconds": 2},
    }
    volume = {"name": "incoming", "persistentVolumeClaim": {"claimName": incoming_name(deployment.name)}}
    made = _metadata(deployment)
    made["labels"] |= {ROLE_LABEL: RECEIVER}
    made["annotations"] = {DIGEST_ANNOTATION: digest}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": made,
        "spec": confined(
            {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 5,
                "affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": _beside_gateways(deployment)}},
                "containers": [container],
                "volumes": [volume],
            }
        ),
    }


def _beside_gateways(deployment: ModelDeployment) -> list[Object]:
    """Where the served models' volume is: a volume made in another zone could not be read by the publisher, which needs both."""
    selector = {"matchLabels": pod_labels(deployment, Role.GATEWAY)}
    keys = {"topology.kubernetes.io/zone": 100, "kubernetes.io/hostname": 10}
    return [
        {"weight": weight, "podAffinityTerm": {"labelSelector": selector, "topologyKey": key}} for key, weight in keys.items()
    ]


def _metadata(deployment: ModelDeployment) -> Object:
    made = metadata(deployment, incoming_name(deployment.name))
    made["labels"] |= {COMPONENT_LABEL: INCOMING}
    # Neither controls it nor holds the deployment back: that would take rights that users don't need.
    made["ownerReferences"] = [{**one, "controller": False, "blockOwnerDeletion": False} for one in made["ownerReferences"]]
    return made
