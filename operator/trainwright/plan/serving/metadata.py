"""Metadata of everything made for a deployment."""

from __future__ import annotations

from typing import Any

from trainwright.api.deployment import KIND, ModelDeployment
from trainwright.api.names import (
    COMPONENT_LABEL,
    DEPLOYMENT_LABEL,
    MANAGED_BY_LABEL,
    MANAGER,
    ROLE_LABEL,
    SERVING,
    UID_LABEL,
    VERSION_LABEL,
)
from trainwright.observe.serving import Role
from trainwright.plan.metadata import owner_reference


def labels(deployment: ModelDeployment) -> dict[str, str]:
    return {MANAGED_BY_LABEL: MANAGER, COMPONENT_LABEL: SERVING, DEPLOYMENT_LABEL: deployment.name}


def pod_labels(deployment: ModelDeployment, role: Role, version: int | None = None) -> dict[str, str]:
    """Labels of a pod: by them a Deployment knows its own, and we know which deployment's, and whose, they are."""
    own = {ROLE_LABEL: role.value, UID_LABEL: deployment.uid}
    return labels(deployment) | own | ({VERSION_LABEL: str(version)} if version is not None else {})


def metadata(deployment: ModelDeployment, name: str, *, owned: bool = True) -> dict[str, Any]:
    """`owned`: goes when the deployment goes."""
    made: dict[str, Any] = {"name": name, "namespace": deployment.namespace, "labels": labels(deployment)}
    return made | ({"ownerReferences": [owner_reference(KIND, deployment.name, deployment.uid)]} if owned else {})
