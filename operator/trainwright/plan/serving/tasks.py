"""What the publisher is asked to do, each a Job under the one identity that may write served models."""

from __future__ import annotations

from typing import Any

from trainwright.api.deployment import ModelDeployment
from trainwright.api.deployment_status import Version
from trainwright.api.names import (
    KEYS_DIR,
    MODELS_DIR,
    PUBLISHER_IMAGE_ANNOTATION,
    SOURCE_DIR,
    TERMINATION_LOG,
    publisher_name,
    task_name,
)
from trainwright.observe.serving import Offer, Role
from trainwright.plan.catalogue import PUBLISHER
from trainwright.plan.confined import confined
from trainwright.plan.serving.metadata import metadata, pod_labels
from trainwright.plan.serving.pods import models_mount, models_volume
from trainwright.plan.types import Settings

Object = dict[str, Any]
# The publisher's exit code for what trying again would not mend.
REFUSED = 3
TRIES = 4
KEY_FILE = "public.pem"


def verify(deployment: ModelDeployment, version: Version, offer: Offer, settings: Settings) -> Object:
    """Look at the artifact, and tell what it is."""
    words = ["verify", "--source", _source(offer), "--server", deployment.spec.server.value]
    key = deployment.spec.verify.public_key
    if key is not None:
        words += ["--public-key", f"{KEYS_DIR}/{KEY_FILE}"]
    return _job(deployment, version, "verify", words, settings, offer=offer)


def publish(deployment: ModelDeployment, version: Version, offer: Offer, settings: Settings) -> Object:
    """Put the artifact where servers load from."""
    words = ["publish", "--source", _source(offer), "--server", deployment.spec.server.value, "--digest", version.digest or ""]
    words += ["--model", deployment.name, "--version", str(version.version), "--models", MODELS_DIR]
    return _job(deployment, version, "publish", words, settings, offer=offer, writes=True)


def remove(deployment: ModelDeployment, version: Version, settings: Settings) -> Object:
    """Take a version's files away."""
    words = ["remove", "--models", MODELS_DIR, "--version", str(version.version)]
    return _job(deployment, version, "remove", words, settings, writes=True)


def service_account(deployment: ModelDeployment, settings: Settings) -> Object:
    image = {"annotations": {PUBLISHER_IMAGE_ANNOTATION: settings.image(PUBLISHER)}}
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(deployment, publisher_name(deployment.name)) | image,
        "automountServiceAccountToken": False,
    }


def _source(offer: Offer) -> str:
    return offer.uri or SOURCE_DIR


def _job(
    deployment: ModelDeployment,
    version: Version,
    task: str,
    words: list[str],
    settings: Settings,
    *,
    offer: Offer | None = None,
    writes: bool = False,
) -> Object:
    volumes: list[Object] = []
    mounts: list[Object] = []
    if offer is not None and not offer.uri:
        claim = {"claimName": offer.claim, "readOnly": True}
        volumes.append({"name": "source", "persistentVolumeClaim": claim})
        mount = {"name": "source", "mountPath": SOURCE_DIR, "readOnly": True}
        mounts.append(mount | ({"subPath": offer.path} if offer.path else {}))
    if writes:
        volumes.append(models_volume(deployment))
        mounts.append(models_mount(deployment, writable=True))
    key = deployment.spec.verify.public_key
    if key is not None and task == "verify":
        volumes.append({"name": "keys", **_key_volume(deployment)})
        mounts.append({"name": "keys", "mountPath": KEYS_DIR, "readOnly": True})
    container = {
        "name": Role.PUBLISHER.value,
        "image": settings.image(PUBLISHER),
        "command": ["trainwright-publisher", *words],
        "env": [
            {"name": "TRAINWRIGHT_TERMINATION_LOG", "value": TERMINATION_LOG},
            *(variable.wire() for variable in (offer.env if offer else ())),
        ],
        "volumeMounts": mounts,
    }
    refused = {"containerName": Role.PUBLISHER.value, "operator": "In", "values": [REFUSED]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(deployment, task_name(deployment.name, version.version, task)),
        "spec": {
            "backoffLimit": TRIES - 1,
            "podFailurePolicy": {
                "rules": [
                    {"action": "FailJob", "onExitCodes": refused},
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "template": {
                "metadata": {"labels": pod_labels(deployment, Role.PUBLISHER, version.version)},
                "spec": confined(
                    {
                        "serviceAccountName": publisher_name(deployment.name),
                        "restartPolicy": "Never",
                        "containers": [container],
                        "volumes": volumes,
                    }
                ),
            },
        },
    }


def _key_volume(deployment: ModelDeployment) -> Object:
    key = deployment.spec.verify.public_key
    assert key is not None  # noqa: S101 - asked before
    reference = key.config_map or key.secret
    assert reference is not None  # noqa: S101 - exactly one of the two
    items = [{"key": reference.key, "path": KEY_FILE}]
    if key.config_map:
        return {"configMap": {"name": reference.name, "items": items}}
    return {"secret": {"secretName": reference.name, "items": items}}
