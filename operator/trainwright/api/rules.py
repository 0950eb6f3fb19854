"""Rules that types alone can't say, each once: as CEL for the API server and as a predicate for everyone else.

`trainwright submit` and the in-memory adapter refuse what a real API server refuses, with the same words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from trainwright.api.names import DATA_DIR, MAX_JOB_NAME, RESERVED_ENV, RESERVED_ENV_PREFIXES, TAKEN_DIRS

_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"


@dataclass(frozen=True)
class Rule:
    """`cel` is written for the node at `at` (a dotted path, `[*]` for each item); `holds` gets that node as plain JSON."""

    at: str
    field: str
    cel: str
    message: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Broken:
    """A rule that an object breaks: where, and the sentence a user reads."""

    field: str
    message: str


def _reserved(name: str) -> bool:
    return name in RESERVED_ENV or name.startswith(RESERVED_ENV_PREFIXES)


def _env(spec: dict[str, Any], name: str) -> str | None:
    return next((one.get("value") for one in spec.get("env", []) if one["name"] == name), None)


_LISTED = ", ".join(f"/{name}" for name in TAKEN_DIRS)
_TAKEN = f"^/({'|'.join(TAKEN_DIRS)})(/.*)?$"
_CEL_PLACE = f"(has({{0}}.mountPath) ? {{0}}.mountPath : '{DATA_DIR}/' + {{0}}.name)"


def _place(data: dict[str, Any]) -> str:
    return str(data.get("mountPath", f"{DATA_DIR}/{data['name']}"))


def _apart(places: list[str]) -> bool:
    ordered = sorted(f"{place}/" for place in places)
    return not any(after.startswith(before) for before, after in pairwise(ordered))


def _exactly_one(at: str, names: tuple[str, ...], message: str) -> Rule:
    listed = ", ".join(f"has(self.{name})" for name in names)
    return Rule(
        at=at,
        field=at or "spec",
        cel=f"[{listed}].filter(present, present).size() == 1",
        message=message,
        holds=lambda node: sum(name in node for name in names) == 1,
    )


def _not_both(at: str, field: str, names: tuple[str, str], message: str) -> Rule:
    first, second = names
    return Rule(
        at=at,
        field=field,
        cel=f"!(has(self.{first}) && has(self.{second}))",
        message=message,
        holds=lambda node: not (first in node and second in node),
    )


def _folder_of_a_claim(at: str) -> Rule:
    return Rule(
        at=at,
        field=f"{at}.path",
        cel="!has(self.path) || has(self.claim)",
        message="path is a folder of a claim, and there is no claim",
        holds=lambda node: "path" not in node or "claim" in node,
    )


_PREFIXES = " || ".join(f"self.name.startsWith('{prefix}')" for prefix in RESERVED_ENV_PREFIXES)

RULES: tuple[Rule, ...] = (
    Rule(
        at="",
        field="metadata.name",
        cel=f"self.metadata.name.size() <= {MAX_JOB_NAME} && self.metadata.name.matches('{_NAME}')",
        message=(
            f"metadata.name becomes part of its workers' host names: at most {MAX_JOB_NAME} characters, lower-case letters, "
            "digits and '-', beginning with a letter"
        ),
        holds=lambda job: len(job["metadata"]["name"]) <= MAX_JOB_NAME and re.match(_NAME, job["metadata"]["name"]) is not None,
    ),
    _exactly_one(
        "spec",
        ("recipe", "entrypoint", "command"),
        "exactly one of spec.recipe, spec.entrypoint and spec.command says what to run",
    ),
    Rule(
        at="spec",
        field="spec.framework",
        cel="self.framework != 'none' || has(self.command)",
        message="spec.framework none runs a spec.command; recipes and entrypoints need a framework, such as torch",
        holds=lambda spec: spec["framework"] != "none" or "command" in spec,
    ),
    Rule(
        at="spec",
        field="spec.resources.gpus",
        cel="self.framework != 'sklearn' || !has(self.resources) || !has(self.resources.gpus) || self.resources.gpus == 0",
        message="scikit-learn trains on CPUs: leave gpus out, and give workers more cpu, or the search more workers",
        holds=lambda spec: spec["framework"] != "sklearn" or not spec.get("resources", {}).get("gpus"),
    ),
    Rule(
        at="spec",
        field="spec.command",
        cel="!(self.framework == 'horovod' && has(self.command) && has(self.image))",
        message=(
            "horovod's ranks meet at a rendezvous that our launcher runs, and a command in an image of yours runs without it; "
            "use an entrypoint in an image made from ours, or framework none and a horovodrun of yours"
        ),
        holds=lambda spec: not (spec["framework"] == "horovod" and "command" in spec and "image" in spec),
    ),
    Rule(
        at="spec",
        field="spec.env",
        cel=(
            "self.framework != 'tensorflow' || !has(self.env) || "
            "self.env.all(one, one.name != 'KERAS_BACKEND' || !has(one.value) || one.value == 'tensorflow')"
        ),
        message=(
            "framework tensorflow runs Keras over TensorFlow: leave KERAS_BACKEND out; for Keras over another library take "
            "framework torch or jax"
        ),
        holds=lambda spec: spec["framework"] != "tensorflow" or _env(spec, "KERAS_BACKEND") in (None, "tensorflow"),
    ),
    Rule(
        at="spec",
        field="spec.env",
        cel=(
            "self.framework != 'tensorflow' || !has(self.recipe) || !has(self.env) || "
            "self.env.all(one, one.name != 'TF_USE_LEGACY_KERAS' || !has(one.value) || !(one.value in ['1', 'true', 'True']))"
        ),
        message="the recipes are made of Keras 3: TF_USE_LEGACY_KERAS is for a command or an entrypoint of yours",
        holds=lambda spec: (
            spec["framework"] != "tensorflow"
            or "recipe" not in spec
            or _env(spec, "TF_USE_LEGACY_KERAS") not in ("1", "true", "True")
        ),
    ),
    Rule(
        at="spec.env[*]",
        field="spec.env[*].name",
        cel=f"!({_PREFIXES} || self.name in [{', '.join(repr(name) for name in RESERVED_ENV)}])",
        message="this name belongs to the contract between the operator and the workers; choose another",
        holds=lambda env: not _reserved(env["name"]),
    ),
    _not_both(
        "spec.env[*]", "spec.env[*]", ("value", "valueFrom"), "at most one of value and valueFrom says what the variable is"
    ),
    _exactly_one(
        "spec.env[*].valueFrom",
        ("secretKeyRef", "configMapKeyRef", "fieldRef", "resourceFieldRef"),
        "exactly one of secretKeyRef, configMapKeyRef, fieldRef and resourceFieldRef says where the value comes from",
    ),
    _exactly_one(
        "spec.failurePolicy.rules[*].when",
        ("exitCodes", "signals", "causes"),
        "exactly one of exitCodes, signals and causes says which failures the rule is for",
    ),
    Rule(
        at="spec.failurePolicy.rules[*]",
        field="spec.failurePolicy.rules[*].limit",
        cel="!(has(self.limit) && self.action == 'Fail')",
        message="a rule that says Fail never restarts; limit goes with Restart or Ignore",
        holds=lambda rule: not ("limit" in rule and rule["action"] == "Fail"),
    ),
    _exactly_one("spec.code", ("configMap", "claim"), "exactly one of configMap and claim says where the code is"),
    _folder_of_a_claim("spec.code"),
    _exactly_one(
        "spec.data[*]",
        ("builtin", "claim", "configMap", "uri"),
        "exactly one of builtin, claim, configMap and uri says where the data is",
    ),
    _folder_of_a_claim("spec.data[*]"),
    _not_both(
        "spec.data[*]",
        "spec.data[*].mountPath",
        ("mountPath", "builtin"),
        "a builtin data set is inside the image and is mounted nowhere",
    ),
    Rule(
        at="spec.data[*]",
        field="spec.data[*].mountPath",
        cel=f"!has(self.mountPath) || !self.mountPath.matches('{_TAKEN}')",
        message=f"this place belongs to the image or to Trainwright ({_LISTED}); choose another, such as /mnt/train",
        holds=lambda data: re.match(_TAKEN, data.get("mountPath", "")) is None,
    ),
    Rule(
        at="spec.data",
        field="spec.data",
        cel=(
            f"self.all(a, has(a.builtin) || self.all(b, has(b.builtin) || a.name == b.name || !({_CEL_PLACE.format('a')} + '/')"
            f".startsWith({_CEL_PLACE.format('b')} + '/')))"
        ),
        message="two entries are mounted at the same mountPath, or one inside the other (unset, it is /data/<name>)",
        holds=lambda entries: _apart([_place(entry) for entry in entries if "builtin" not in entry]),
    ),
    _exactly_one("spec.workspace", ("claim", "size", "uri"), "exactly one of claim, size and uri says where results live"),
    Rule(
        at="spec.workspace",
        field="spec.workspace.uri",
        cel="!has(self.uri) || !self.uri.matches('^https?://')",
        message="http can't be written to; name a folder in object storage, such as s3://bucket/runs",
        holds=lambda workspace: re.match("https?://", workspace.get("uri", "")) is None,
    ),
    Rule(
        at="spec",
        field="spec.workspace.uri",
        cel=(
            "!has(self.workspace) || !has(self.workspace.uri) || "
            "(self.framework != 'none' && !(has(self.command) && has(self.image)))"
        ),
        message=(
            "our launcher keeps a workspace in object storage, and framework none or a command in an image of yours runs "
            "without it; use an entrypoint, or workspace.claim or size"
        ),
        holds=lambda spec: (
            "uri" not in spec.get("workspace", {})
            or (spec["framework"] != "none" and not ("command" in spec and "image" in spec))
        ),
    ),
    _not_both(
        "spec.checkpoint",
        "spec.checkpoint",
        ("everySteps", "everySeconds"),
        "at most one of everySteps and everySeconds says when to save",
    ),
)

NAMED_LISTS = ("env", "data")
"""Lists of the spec whose entries have names, each its own: `x-kubernetes-list-map-keys` in the schema."""

MUTABLE = ("runPolicy",)
"""Fields of the spec that may change while the job lives; changing any other is refused."""


def immutable_message(field: str) -> str:
    return f"spec.{field} cannot change once the job exists; delete the job and create it anew"


def broken(job: dict[str, Any]) -> Iterator[Broken]:
    """The rules that a job breaks. Its types must have been checked before."""
    for field in NAMED_LISTS:
        names: set[str] = set()
        for index, item in enumerate(job["spec"].get(field, [])):
            if item["name"] in names:
                yield Broken(field=f"spec.{field}[{index}]", message=f"there is an entry called {item['name']} before this one")
            names.add(item["name"])
    for rule in RULES:
        for place, node in _nodes(job, rule.at):
            if not rule.holds(node):
                yield Broken(field=rule.field.replace("[*]", place) if place else rule.field, message=rule.message)


def changed(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Broken]:
    """The immutable fields in which two versions of a spec differ."""
    for field in sorted(old.keys() | new.keys()):
        if field not in MUTABLE and old.get(field) != new.get(field):
            yield Broken(field=f"spec.{field}", message=immutable_message(field))


def _nodes(job: dict[str, Any], at: str) -> Iterator[tuple[str, Any]]:
    """The nodes at a place, each with the index of the list item that it lies in (empty outside of lists)."""
    found: list[tuple[str, Any]] = [("", job)]
    for part in [part for part in at.split(".") if part]:
        name = part.removesuffix("[*]")
        found = [(place, node[name]) for place, node in found if name in node]
        if part.endswith("[*]"):
            found = [(f"[{index}]", item) for _, items in found for index, item in enumerate(items)]
    yield from found
