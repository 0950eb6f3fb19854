"""`TrainingJob` as a whole: from the raw object of the API to a typed one, or to errors that name fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from trainwright.api.errors import FieldError, InvalidJob
from trainwright.api.names import API_VERSION
from trainwright.api.rules import broken
from trainwright.api.spec import TrainingJobSpec
from trainwright.api.status import TrainingJobStatus

KIND = "TrainingJob"


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
    """The typed job. Raises `InvalidJob`. A status that a newer operator wrote is read as far as this one knows it."""
    check(raw)
    return TrainingJob.of(raw, TrainingJobSpec.model_validate(raw["spec"]))


def read_status(raw: dict[str, Any]) -> TrainingJobStatus:
    """The status of a raw job; fields of a newer version are left out, a damaged one counts as empty."""
    try:
        return TrainingJobStatus.model_validate(raw.get("status") or {}, extra="ignore")
    except ValidationError:
        return TrainingJobStatus()


def check(raw: dict[str, Any]) -> None:
    """Raise `InvalidJob` with all that is wrong with a job that a user wrote."""
    errors: list[FieldError] = []
    if raw.get("apiVersion") != API_VERSION or raw.get("kind") != KIND:
        given = f"{raw.get('apiVersion')} {raw.get('kind')}"
        raise InvalidJob([FieldError("kind", f"{given} is not {API_VERSION} {KIND}")])
    if not isinstance(raw.get("metadata"), dict) or not isinstance(raw["metadata"].get("name"), str):
        errors.append(FieldError("metadata.name", "is missing; a job needs a name"))
    if not isinstance(raw.get("spec"), dict):
        errors.append(FieldError("spec", "is missing; it says what to train"))
    if errors:
        raise InvalidJob(errors)
    try:
        TrainingJobSpec.model_validate(raw["spec"])
    except ValidationError as error:
        raise InvalidJob([_field_error(item) for item in error.errors()]) from None
    if found := [FieldError(rule.field, rule.message) for rule in broken(raw)]:
        raise InvalidJob(found)


def _field_error(item: Any) -> FieldError:
    path = "spec"
    for part in item["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    match item["type"]:
        case "extra_forbidden":
            known = _known_fields(item["loc"][:-1])
            message = f"is not a field of a TrainingJob; known here: {', '.join(known)}" if known else "is not known"
        case "missing":
            message = "is missing"
        case "enum":
            message = f"{item['input']!r} is not one of {item['ctx']['expected']}"
        case "string_pattern_mismatch":
            message = f"{item['input']!r} does not look like {item['ctx']['pattern']}"
        case _:
            message = f"{item['input']!r}: {item['msg'][0].lower()}{item['msg'][1:]}"
    return FieldError(path, message)


def _known_fields(location: tuple[Any, ...]) -> list[str]:
    """Field names of the model at a place in the spec."""
    model: Any = TrainingJobSpec
    for part in location:
        if isinstance(part, int):
            continue
        field = next((field for field in model.model_fields.values() if field.alias == part), None)
        model = _model_in(field.annotation) if field else None
        if model is None:
            return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)
