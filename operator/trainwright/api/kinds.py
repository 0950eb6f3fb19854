"""Our kinds: for each its models, its rules, what of it may change, and its columns. What is done to both is done by this."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from trainwright.api import deployment_rules, rules
from trainwright.api.deployment_spec import ModelDeploymentSpec
from trainwright.api.deployment_status import ModelDeploymentStatus
from trainwright.api.errors import FieldError, InvalidSpec
from trainwright.api.model import Model
from trainwright.api.names import API_VERSION
from trainwright.api.rule import Broken, Rule, nodes
from trainwright.api.spec import TrainingJobSpec
from trainwright.api.status import TrainingJobStatus


@dataclass(frozen=True)
class Column:
    """A column of `kubectl get`; those that are not `wide` are always shown."""

    name: str
    type: str
    path: str
    text: str
    wide: bool = False


@dataclass(frozen=True, kw_only=True)
class Kind:
    """`what` says what one is for, in an error; `named_lists`: lists of the spec whose entries have names, each its own.

    `fixed`: fields of the spec that can't change once the object exists; `fixed_below`: those of a field that can, by a path.
    """

    name: str
    plural: str
    short: str
    description: str
    what: str
    spec: type[Model]
    status: type[Model]
    rules: tuple[Rule, ...]
    named_lists: tuple[str, ...]
    fixed: tuple[str, ...]
    columns: tuple[Column, ...]
    fixed_below: tuple[str, ...] = ()

    def immutable_message(self, field: str) -> str:
        return f"spec.{field} cannot change once the {self.what} exists; delete the {self.what} and create it anew"

    def broken(self, obj: dict[str, Any]) -> Iterator[Broken]:
        """The rules that an object breaks. Its types must have been checked before."""
        for field in self.named_lists:
            names: set[str] = set()
            for index, item in enumerate(obj["spec"].get(field, [])):
                if item["name"] in names:
                    yield Broken(
                        field=f"spec.{field}[{index}]", message=f"there is an entry called {item['name']} before this one"
                    )
                names.add(item["name"])
        for rule in self.rules:
            for place, node in nodes(obj, rule.at):
                if not rule.holds(node):
                    yield Broken(field=rule.field.replace("[*]", place) if place else rule.field, message=rule.message)

    def changed(self, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Broken]:
        """The immutable fields in which two versions of a spec differ."""
        for field in (*sorted(self.fixed), *self.fixed_below):
            if _at(old, field) != _at(new, field):
                yield Broken(field=f"spec.{field}", message=self.immutable_message(field))

    def check(self, raw: dict[str, Any]) -> None:
        """Raise `InvalidSpec` with all that is wrong with an object that a user wrote."""
        errors: list[FieldError] = []
        if raw.get("apiVersion") != API_VERSION or raw.get("kind") != self.name:
            given = f"{raw.get('apiVersion')} {raw.get('kind')}"
            raise InvalidSpec([FieldError("kind", f"{given} is not {API_VERSION} {self.name}")])
        if not isinstance(raw.get("metadata"), dict) or not isinstance(raw["metadata"].get("name"), str):
            errors.append(FieldError("metadata.name", f"is missing; a {self.what} needs a name"))
        if not isinstance(raw.get("spec"), dict):
            errors.append(FieldError("spec", f"is missing; it says what to {'train' if self is TRAINING_JOB else 'serve'}"))
        if errors:
            raise InvalidSpec(errors)
        try:
            self.spec.model_validate(raw["spec"])
        except ValidationError as error:
            raise InvalidSpec([_field_error(item, self) for item in error.errors()]) from None
        if found := [FieldError(rule.field, rule.message) for rule in self.broken(raw)]:
            raise InvalidSpec(found)


TRAINING_JOB = Kind(
    name="TrainingJob",
    plural="trainingjobs",
    short="tj",
    description="A distributed training job: workers that start together, restart together and resume from checkpoints.",
    what="job",
    spec=TrainingJobSpec,
    status=TrainingJobStatus,
    rules=rules.RULES,
    named_lists=("env", "data"),
    fixed=tuple(field.alias or name for name, field in TrainingJobSpec.model_fields.items() if name != "run_policy"),
    fixed_below=("runPolicy.schedulingPolicy",),
    columns=(
        Column("Phase", "string", ".status.phase", "Queued, Starting, Running, Restarting, Suspended, Succeeded or Failed."),
        Column("Workers", "string", ".status.workers.ready", "Workers running or done, of those the gang needs."),
        Column("Progress", "string", ".status.progress.summary", "Steps done."),
        Column("Metric", "string", ".status.mainMetric", "The metric that matters most."),
        Column("Restarts", "integer", ".status.restarts.total", "How often the gang was started anew."),
        Column("Age", "date", ".metadata.creationTimestamp", "Time since the job was created."),
        Column("Reason", "string", ".status.reason", "Why the job waits, restarts or ended.", wide=True),
    ),
)

MODEL_DEPLOYMENT = Kind(
    name="ModelDeployment",
    plural="modeldeployments",
    short="md",
    description="A served model over many versions: each is verified, gated, published, checked and tried before it is live.",
    what="deployment",
    spec=ModelDeploymentSpec,
    status=ModelDeploymentStatus,
    rules=deployment_rules.RULES,
    named_lists=("offers",),
    fixed=("server", "storage"),
    columns=(
        Column("Phase", "string", ".status.phase", "Empty, RollingOut, Live or Degraded."),
        Column("Live", "integer", ".status.live", "The version that serves."),
        Column("Candidate", "integer", ".status.candidate.version", "The version on its way."),
        Column("Step", "string", ".status.candidate.step", "What is being done with it."),
        Column("Traffic", "string", ".status.traffic", "Who gets how much."),
        Column("Servers", "string", ".status.servers", "Ready servers of the live version."),
        Column("Age", "date", ".metadata.creationTimestamp", "Time since the deployment was created."),
        Column("Reason", "string", ".status.reason", "What it waits for, or why it is as it is.", wide=True),
    ),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in (TRAINING_JOB, MODEL_DEPLOYMENT)}


def _at(spec: dict[str, Any], path: str) -> Any:
    """What is at a dotted path; None where there is nothing."""
    found: Any = spec
    for name in path.split("."):
        found = (found or {}).get(name)
    return found


def _field_error(item: Any, kind: Kind) -> FieldError:
    path = "spec"
    for part in item["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    match item["type"]:
        case "extra_forbidden":
            known = _known_fields(item["loc"][:-1], kind)
            message = f"is not a field of a {kind.name}; known here: {', '.join(known)}" if known else "is not known"
        case "missing":
            message = "is missing"
        case "enum":
            message = f"{item['input']!r} is not one of {item['ctx']['expected']}"
        case "string_pattern_mismatch":
            message = f"{item['input']!r} does not look like {item['ctx']['pattern']}"
        case _:
            message = f"{item['input']!r}: {item['msg'][0].lower()}{item['msg'][1:]}"
    return FieldError(path, message)


def _known_fields(location: tuple[Any, ...], kind: Kind) -> list[str]:
    """Field names of the model at a place in the spec."""
    model: Any = kind.spec
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
