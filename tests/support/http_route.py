"""The Gateway API's HTTPRoute: as much of its published v1 schema as Trainwright's routes touch, and a Gateway's part of it."""

from __future__ import annotations

import random
from typing import Any

NAME = "httproutes.gateway.networking.k8s.io"
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_HOST = rf"{_LABEL}(\.{_LABEL})*"


def _text(pattern: str = "", longest: int = 253, **more: Any) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": longest, **({"pattern": f"^{pattern}$"} if pattern else {}), **more}


def _list(items: dict[str, Any], most: int, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, "maxItems": most, "x-kubernetes-list-type": "atomic", **more}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _schema() -> dict[str, Any]:
    port = {"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535}
    header = _object(["name", "value"], name=_text(r"[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+", 256), value=_text("", 4096))
    headers = {
        "type": "array",
        "items": header,
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    }
    removed = {"type": "array", "items": {"type": "string"}, "maxItems": 16, "x-kubernetes-list-type": "set"}
    modifier = _object([], set=headers, add=headers, remove=removed)
    kinds = ["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "RequestRedirect", "URLRewrite", "ExtensionRef"]
    a_filter = _object(["type"], type={"type": "string", "enum": kinds}, requestHeaderModifier=modifier)
    a_filter["x-kubernetes-validations"] = [
        {
            "rule": "!(has(self.requestHeaderModifier) && self.type != 'RequestHeaderModifier')",
            "message": "filter.requestHeaderModifier must be nil if the filter.type is not RequestHeaderModifier",
        },
        {
            "rule": "!(!has(self.requestHeaderModifier) && self.type == 'RequestHeaderModifier')",
            "message": "filter.requestHeaderModifier must be specified for RequestHeaderModifier filter.type",
        },
    ]
    once = [
        {
            "rule": "self.filter(f, f.type == 'RequestHeaderModifier').size() <= 1",
            "message": "RequestHeaderModifier filter cannot be repeated",
        }
    ]
    backend = _object(
        ["name"],
        group={"type": "string", "default": "", "maxLength": 253},
        kind=_text(longest=63, default="Service"),
        name=_text(),
        namespace=_text(_LABEL, 63),
        port=port,
        weight={"type": "integer", "format": "int32", "default": 1, "minimum": 0, "maximum": 1000000},
        filters=_list(a_filter, 16, **{"x-kubernetes-validations": once}),
    )
    backend["x-kubernetes-validations"] = [
        {
            "rule": "(size(self.group) == 0 && self.kind == 'Service') ? has(self.port) : true",
            "message": "Must have port for Service reference",
        }
    ]
    anything = {"path": {"type": "PathPrefix", "value": "/"}}
    path = _object(
        [],
        type={"type": "string", "default": "PathPrefix", "enum": ["Exact", "PathPrefix", "RegularExpression"]},
        value={"type": "string", "default": "/", "maxLength": 1024},
    )
    matches = _list(_object([], path={**path, "default": anything["path"]}), 64, default=[anything])
    rule = _object([], name=_text(_HOST), matches=matches, filters=_list(a_filter, 16), backendRefs=_list(backend, 16))
    parent = _object(
        ["name"],
        group={"type": "string", "default": "gateway.networking.k8s.io", "maxLength": 253},
        kind=_text(longest=63, default="Gateway"),
        name=_text(),
        namespace=_text(_LABEL, 63),
        sectionName=_text(_HOST),
        port=port,
    )
    spec = _object(
        [],
        parentRefs=_list(parent, 32),
        hostnames=_list(_text(rf"(\*\.)?{_HOST}"), 16),
        rules=_list(rule, 16, minItems=1, default=[{"matches": [anything]}]),
    )
    status = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return _object(
        ["spec"], apiVersion={"type": "string"}, kind={"type": "string"}, metadata={"type": "object"}, spec=spec, status=status
    )


def definition() -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": NAME,
            # The API server wants to see that a group of k8s.io has been approved.
            "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api"},
        },
        "spec": {
            "group": "gateway.networking.k8s.io",
            "scope": "Namespaced",
            "names": {"kind": "HTTPRoute", "listKind": "HTTPRouteList", "plural": "httproutes", "singular": "httproute"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _schema()},
                    "subresources": {"status": {}},
                }
            ],
        },
    }


def header_of(route: dict[str, Any]) -> tuple[dict[str, str], str]:
    """What a Gateway does with a request: a backend by weight; the headers that it sets then, and the backend's name."""
    (rule,) = route["spec"]["rules"]
    (backend,) = random.choices(rule["backendRefs"], [one["weight"] for one in rule["backendRefs"]])
    modified = [one["requestHeaderModifier"]["set"] for one in backend.get("filters", [])]
    return {one["name"]: one["value"] for found in modified for one in found}, backend["name"]
