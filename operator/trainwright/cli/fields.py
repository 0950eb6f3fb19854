"""The API reference and the recipes' settings as one kind of fact: a field with its type, default, limits and meaning.

Fields of kinds come from the very schemas that the CRD is made of; recipes from `api/recipes.json`, which `make generate` writes
out of the recipes' own models.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from trainwright.api.crd import structural
from trainwright.api.kinds import KINDS, MODEL_DEPLOYMENT, TRAINING_JOB, Kind
from trainwright.api.recipes import known
from trainwright.cli.app import UserError

_LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "matches {}",
}
NAMES_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field. `path` is dotted, `[]` for the items of a list. `default` is None where there is none."""

    path: str
    type: str
    required: bool
    default: Any
    allowed: tuple[str, ...]
    limits: dict[str, Any]
    description: str
    remarks: tuple[str, ...]
    fields: tuple[Field, ...]

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2].removesuffix("[]")

    def constraints(self) -> list[str]:
        """What a value must be, in words."""
        return [_LIMITS[key].format(value) for key, value in self.limits.items()]

    def walk(self) -> Iterator[Field]:
        """This field and all below it."""
        yield self
        for one in self.fields:
            yield from one.walk()

    def wire(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "type": self.type,
            "required": self.required,
            "default": self.default,
            "allowed": list(self.allowed),
            "constraints": self.limits,
            "description": self.description,
            "remarks": list(self.remarks),
            "fields": [one.wire() for one in self.fields],
        }


@cache
def kinds() -> tuple[Field, ...]:
    """The top of every kind's fields: spec and status. Those of a TrainingJob need no prefix."""
    tops = []
    for kind in KINDS.values():
        spec = structural(kind.spec) | {"description": f"What a {kind.name} asks for. " + _first_line(kind.spec)}
        status = structural(kind.status) | {"description": f"What the operator says of a {kind.name}: nobody else writes it."}
        tops += [_field(f"{_prefix(kind)}spec", spec, required=True), _field(f"{_prefix(kind)}status", status, required=False)]
    return tuple(tops)


def _prefix(kind: Kind) -> str:
    return "" if kind is TRAINING_JOB else f"{kind.short}."


@cache
def recipes() -> dict[str, Field]:
    """Every recipe by `<image>/<recipe>`; its fields are the keys of `spec.recipe.config`."""
    found = {}
    for name, one in known().items():
        text = f"Settings of the recipe {name.partition('/')[2]}, written under spec.recipe.config."
        schema = _inlined({"type": "object", "description": text, **one["settings"]}, one["settings"].get("$defs", {}))
        found[name] = _field(name, schema, required=False, remarks=(f"from {one['source']}",))
    return found


def find(asked: str) -> Field:
    """The field or recipe of that name: a whole path, or the end of one that only one field has. Raises `UserError`."""
    everything = [field for top in (*kinds(), *recipes().values()) for field in top.walk()]
    wanted = _plain(asked)
    for kind in KINDS.values():
        for name in (kind.name.lower(), kind.short):
            wanted = _prefix(kind) + wanted.removeprefix(f"{name}.") if wanted.startswith(f"{name}.") else wanted
    exact = [field for field in everything if _plain(field.path) == wanted]
    ends = exact or [field for field in everything if re.search(rf"[./]{re.escape(wanted)}$", _plain(field.path))]
    # Who asks for `image` means the job's, and who asks for `checkpoint` the field to set, not the bookkeeping of the same name.
    for set_aside in (_prefix(MODEL_DEPLOYMENT), "status"):
        if len(ends) > 1 and (left := [field for field in ends if not field.path.startswith(set_aside)]):
            ends = left if set_aside != "status" or len(left) == 1 else ends
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise UserError(f"{asked} is the name of {len(ends)} fields; say which: {_listed(field.path for field in ends)}")
    names = {_plain(field.path): field.path for field in everything} | {_plain(field.name): field.path for field in everything}
    close = list(dict.fromkeys(names[near] for near in difflib.get_close_matches(wanted, names, n=3, cutoff=0.6)))
    # What lies below a name that is close is close only because of it.
    close = [path for path in close if not any(path.startswith(f"{other}.") for other in close)]
    hint = f"did you mean {' or '.join(close)}?" if close else "`trainwright explain` lists what there is"
    raise UserError(f"{asked}: there is no such field and no such recipe; {hint}")


def paths() -> list[str]:
    """Every name that `find` takes without doubt."""
    return [field.path.replace("[]", "") for top in (*kinds(), *recipes().values()) for field in top.walk()]


def _plain(path: str) -> str:
    """`spec.env[0].value` and `spec.env[].value` as `spec.env.value`, in small letters."""
    return re.sub(r"\[[^\]]*\]", "", path).strip(". ").lower()


def _listed(names: Iterator[str]) -> str:
    given = list(names)
    return ", ".join(given[:NAMES_SHOWN]) + (" …" if len(given) > NAMES_SHOWN else "")


def _field(path: str, node: dict[str, Any], *, required: bool, remarks: tuple[str, ...] = ()) -> Field:
    items = node.get("items", {})
    inner = items if "properties" in items else node
    inside = f"{path}[]" if inner is items else path
    needed = inner.get("required", ())
    below = inner.get("properties", {})
    return Field(
        path=path,
        type=_type(node),
        required=required,
        default=node.get("default"),
        allowed=tuple(str(one) for one in _words(node)),
        limits=_limits(node),
        description=node.get("description", ""),
        remarks=remarks or tuple(_remarks(path)),
        fields=tuple(_field(f"{inside}.{name}", one, required=name in needed) for name, one in below.items()),
    )


def _limits(node: dict[str, Any]) -> dict[str, Any]:
    """Bounds by JSON Schema's names; where Kubernetes has a flag for an open bound, the bound itself."""
    limits = {key: node[key] for key in _LIMITS if key in node}
    for flag, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if limits.get(flag) is True:
            limits[flag] = limits.pop(bound)
    return limits


def _remarks(path: str) -> Iterator[str]:
    """What goes beyond the types: rules on this field, and whether it may change."""
    kind = MODEL_DEPLOYMENT if path.startswith(_prefix(MODEL_DEPLOYMENT)) else TRAINING_JOB
    inside = path.removeprefix(_prefix(kind))
    plain = _plain(inside)
    for rule in kind.rules:
        if plain in (_plain(rule.field), _plain(rule.at)):
            yield rule.message
    parts = inside.split(".")
    if len(parts) > 1 and parts[0] == "spec":
        fixed = parts[1].removesuffix("[]") in kind.fixed or inside.startswith(tuple(f"spec.{path}" for path in kind.fixed_below))
        yield f"fixed once the {kind.what} exists" if fixed else f"may change while the {kind.what} lives"


def _type(node: dict[str, Any]) -> str:
    if node.get("x-kubernetes-int-or-string"):
        return "quantity"
    if node.get("type") == "array":
        return f"list of {_type(node['items'])}s"
    if isinstance(node.get("additionalProperties"), dict):
        return f"map of {_type(node['additionalProperties'])}s"
    return str(node.get("format") or node.get("type") or ("number" if _words(node) else "any"))


def _words(node: dict[str, Any]) -> list[Any]:
    return list(node.get("enum") or ([node["const"]] if "const" in node else []))


def _inlined(node: Any, definitions: dict[str, Any]) -> Any:
    """A pydantic schema with its references and its `or null` resolved."""
    if isinstance(node, list):
        return [_inlined(one, definitions) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return _inlined({**definitions[node["$ref"].rsplit("/", 1)[1]], **rest}, definitions)
    choices = [one for one in node.get("anyOf", []) if one != {"type": "null"}]
    if len(choices) == 1:
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        return _inlined({**choices[0], **rest}, definitions)
    return {key: _inlined(value, definitions) for key, value in node.items() if key != "$defs"}


def _first_line(model: type) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]
