"""The CustomResourceDefinition, generated from the typed models: `python -m trainwright.api.crd > manifests/crds/…`."""

from __future__ import annotations

import sys
from typing import Any

import yaml
from pydantic import BaseModel

from trainwright.api.job import KIND
from trainwright.api.names import GROUP, VERSION
from trainwright.api.rules import MUTABLE, RULES, immutable_message
from trainwright.api.spec import TrainingJobSpec
from trainwright.api.status import TrainingJobStatus

_DROPPED = ("title", "$defs", "additionalProperties")

COLUMNS: tuple[tuple[str, str, str, str, int], ...] = (
    ("Phase", "string", ".status.phase", "Queued, Starting, Running, Restarting, Suspended, Succeeded or Failed.", 0),
    ("Workers", "string", ".status.workers.ready", "Workers running or done, of those the gang needs.", 0),
    ("Progress", "string", ".status.progress.summary", "Steps done.", 0),
    ("Metric", "string", ".status.mainMetric", "The metric that matters most.", 0),
    ("Restarts", "integer", ".status.restarts.total", "How often the gang was started anew.", 0),
    ("Age", "date", ".metadata.creationTimestamp", "Time since the job was created.", 0),
    ("Reason", "string", ".status.reason", "Why the job waits, restarts or ended.", 1),
)


def training_job_crd() -> dict[str, Any]:
    """The definition of `TrainingJob`."""
    spec = structural(TrainingJobSpec)
    fixed = [name for name in spec["properties"] if name not in MUTABLE]
    root: dict[str, Any] = {
        "type": "object",
        "description": "A distributed training job: workers that start together, restart together and resume from checkpoints.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": structural(TrainingJobStatus),
        },
    }
    for rule in RULES:
        _node(root, rule.at).setdefault("x-kubernetes-validations", []).append(
            {"rule": rule.cel, "message": rule.message, **_field_path(rule.at, rule.field)}
        )
    spec["x-kubernetes-validations"] += [
        _immutable(name, optional=name not in spec.get("required", ()) and "default" not in spec["properties"][name])
        for name in fixed
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"trainingjobs.{GROUP}", "labels": {"app.kubernetes.io/name": "trainwright"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": "trainingjobs",
                "singular": "trainingjob",
                "shortNames": ["tj"],
                "categories": ["trainwright"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path, "description": text}
                        | ({"priority": priority} if priority else {})
                        for name, kind, path, text, priority in COLUMNS
                    ],
                    "schema": {"openAPIV3Schema": root},
                }
            ],
        },
    }


def structural(model: type[BaseModel]) -> dict[str, Any]:
    """A model's schema as Kubernetes takes it: references inlined, no nulls, no titles."""
    schema = model.model_json_schema(by_alias=True)
    definitions = schema.get("$defs", {})
    result: dict[str, Any] = _inline(schema, definitions)
    return result


def _inline(node: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inline(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[1]]
        return _inline({**target, **{key: value for key, value in node.items() if key != "$ref"}}, definitions)
    if "anyOf" in node and {"type": "null"} in node["anyOf"]:
        (kept,) = (choice for choice in node["anyOf"] if choice != {"type": "null"})
        rest = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        return _inline({**kept, **rest}, definitions)
    properties = {name: _inline(value, definitions) for name, value in node.get("properties", {}).items()}
    result = {
        key: _inline(value, definitions)
        for key, value in node.items()
        if key not in _DROPPED and key not in ("properties", "default")
    }
    if properties:
        result["properties"] = properties
    if "default" in node and node["default"] not in (None, []):
        result["default"] = node["default"]
    extra = node.get("additionalProperties")
    if isinstance(extra, dict):
        result["additionalProperties"] = _inline(extra, definitions)
    return result


def _node(root: dict[str, Any], at: str) -> dict[str, Any]:
    node = root
    for part in [part for part in at.split(".") if part]:
        node = node["properties"][part.removesuffix("[*]")]
        if part.endswith("[*]"):
            node = node["items"]
    return node


def _field_path(at: str, field: str) -> dict[str, str]:
    """CEL may name the field at fault when it lies below the node the rule is written for."""
    below = field.removeprefix(at)
    return {"fieldPath": below} if at and below.startswith(".") else {}


def _immutable(name: str, *, optional: bool) -> dict[str, str]:
    if not optional:
        return {"rule": f"self.{name} == oldSelf.{name}", "message": immutable_message(name), "fieldPath": f".{name}"}
    same = f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})"
    return {"rule": same, "message": immutable_message(name)}


def main() -> None:
    """Print the definition as YAML."""
    sys.stdout.write("# Generated from operator/trainwright/api by `make generate`. Do not edit.\n")
    yaml.safe_dump(training_job_crd(), sys.stdout, sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    main()
