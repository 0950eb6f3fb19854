"""`ModelDeployment` as a whole: from the raw object of the API to a typed one, or to errors that name fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from trainwright.api.deployment_spec import ModelDeploymentSpec
from trainwright.api.deployment_status import ModelDeploymentStatus
from trainwright.api.kinds import MODEL_DEPLOYMENT

KIND = MODEL_DEPLOYMENT.name


@dataclass(frozen=True)
class ModelDeployment:
    """A deployment as the operator decides on it."""

    name: str
    namespace: str
    uid: str
    generation: int
    resource_version: str
    deleting: bool
    created: str
    spec: ModelDeploymentSpec
    status: ModelDeploymentStatus


def parse(raw: dict[str, Any]) -> ModelDeployment:
    """The typed deployment. Raises `InvalidSpec`. A status that a newer operator wrote is read as far as this one knows it."""
    MODEL_DEPLOYMENT.check(raw)
    metadata = raw["metadata"]
    return ModelDeployment(
        name=metadata["name"],
        namespace=metadata.get("namespace", "default"),
        uid=metadata.get("uid", ""),
        generation=metadata.get("generation", 1),
        resource_version=metadata.get("resourceVersion", ""),
        deleting="deletionTimestamp" in metadata,
        created=metadata.get("creationTimestamp", ""),
        spec=ModelDeploymentSpec.model_validate(raw["spec"]),
        status=read_status(raw),
    )


def read_status(raw: dict[str, Any]) -> ModelDeploymentStatus:
    """The status of a raw deployment; fields of a newer version are left out, a damaged one counts as empty."""
    try:
        return ModelDeploymentStatus.model_validate(raw.get("status") or {}, extra="ignore")
    except ValidationError:
        return ModelDeploymentStatus()
