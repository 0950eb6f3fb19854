"""`TrainingJob` as a whole: from the raw object of the API to a typed one, or to errors that name fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from trainwright.api.kinds import TRAINING_JOB
from trainwright.api.spec import TrainingJobSpec
from trainwright.api.status import TrainingJobStatus

KIND = TRAINING_JOB.name


@dataclass(frozen=True)
class TrainingJob:
    """A job as the operator decides on it."""

    name: str
    namespace: str
    uid: str
    generation: int
    resource_version: str
    deleting: bool
    created: str
    spec: TrainingJobSpec
    status: TrainingJobStatus

    @property
    def attempt(self) -> int:
        return self.status.attempt or 1

    @classmethod
    def of(cls, raw: dict[str, Any], spec: TrainingJobSpec) -> TrainingJob:
        """The job with this metadata and status, and a spec already read."""
        metadata = raw["metadata"]
        return cls(
            name=metadata["name"],
            namespace=metadata.get("namespace", "default"),
            uid=metadata.get("uid", ""),
            generation=metadata.get("generation", 1),
            resource_version=metadata.get("resourceVersion", ""),
            deleting="deletionTimestamp" in metadata,
            created=metadata.get("creationTimestamp", ""),
            spec=spec,
            status=read_status(raw),
        )


def parse(raw: dict[str, Any]) -> TrainingJob:
    """The typed job. Raises `InvalidSpec`. A status that a newer operator wrote is read as far as this one knows it."""
    check(raw)
    return TrainingJob.of(raw, TrainingJobSpec.model_validate(raw["spec"]))


def read_status(raw: dict[str, Any]) -> TrainingJobStatus:
    """The status of a raw job; fields of a newer version are left out, a damaged one counts as empty."""
    try:
        return TrainingJobStatus.model_validate(raw.get("status") or {}, extra="ignore")
    except ValidationError:
        return TrainingJobStatus()


def check(raw: dict[str, Any]) -> None:
    """Raise `InvalidSpec` with all that is wrong with a job that a user wrote."""
    TRAINING_JOB.check(raw)
