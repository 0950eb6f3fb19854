"""CustomResourceDefinitions, generated from the typed models: `python -m trainwright.api.crd KIND > manifests/crds/…`."""

from __future__ import annotations

import sys
from typing import Any

import yaml
from pydantic import BaseModel

from trainwright.api.kinds import KINDS, TRAINING_JOB, Kind
from trainwright.api.names import GROUP, VERSION

_DROPPED = ("title", "$defs", "additionalProperties")


def definition(kind: Kind = TRAINING_JOB) -> dict[str, Any]:
    """The definition of one of our kinds."""
    spec = structural(kind.spec)
    root: dict[str, Any] = {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": structural(kind.status),
        },
    }
    for rule in kind.rules:
        _node(root, rule.at).setdefault("x-kubernetes-validations", []).append(
            {"rule": rule.cel, "message": rule.message, **_field_path(rule.at, rule.field)}
        )
    spec["x-kubernetes-validations"] += [
        _immutable(kind, name, optional=name not in spec.get("required", ()) and "default" not in spec["properties"][name])
        for name in kind.fixed
    ]
    spec["x-kubernetes-validations"] += [_immutable(kind, path, optional=True) for path in kind.fixed_below]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}", "labels": {"app.kubernetes.io/name": "trainwright"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short],
                "categories": ["trainwright"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": column.name, "type": column.type, "jsonPath": column.path, "description": column.text}
                        | ({"priority": 1} if column.wide else {})
                        for column in kind.columns
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
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in result:
            # Kubernetes' schemas are of OpenAPI 3.0, where it is a flag.
            result |= {bound: result[exclusive], exclusive: True}
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


def _immutable(kind: Kind, name: str, *, optional: bool) -> dict[str, str]:
    if not optional:
        return {"rule": f"self.{name} == oldSelf.{name}", "message": kind.immutable_message(name), "fieldPath": f".{name}"}
    same = f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})"
    return {"rule": same, "message": kind.immutable_message(name)}


def main() -> None:
    """Print the definition of the kind that is named as YAML."""
    sys.stdout.write("# Generated from operator/trainwright/api by `make generate`. Do not edit.\n")
    yaml.safe_dump(definition(KINDS[sys.argv[1]]), sys.stdout, sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    main()
