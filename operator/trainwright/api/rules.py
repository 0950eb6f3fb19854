"""What the types of a TrainingJob can't say."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from trainwright.api.names import DATA_DIR, MAX_JOB_NAME, RESERVED_ENV, RESERVED_ENV_PREFIXES, TAKEN_DIRS
from trainwright.api.rule import Rule, exactly_one, folder_of_a_claim, gate_rules, not_both, short_name
from trainwright.api.scheduling import NEED_QUEUE


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


def _one_class(policy: str | None, placement: str | None) -> bool:
    return policy is None or placement is None or policy == placement


_PREFIXES = " || ".join(f"self.name.startsWith('{prefix}')" for prefix in RESERVED_ENV_PREFIXES)

RULES: tuple[Rule, ...] = (
    short_name(MAX_JOB_NAME, "its workers' host names"),
    exactly_one(
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
    not_both(
        "spec.env[*]", "spec.env[*]", ("value", "valueFrom"), "at most one of value and valueFrom says what the variable is"
    ),
    exactly_one(
        "spec.env[*].valueFrom",
        ("secretKeyRef", "configMapKeyRef", "fieldRef", "resourceFieldRef"),
        "exactly one of secretKeyRef, configMapKeyRef, fieldRef and resourceFieldRef says where the value comes from",
    ),
    exactly_one(
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
    Rule(
        at="spec",
        field="spec.runPolicy.schedulingPolicy.priorityClass",
        cel=(
            "!has(self.runPolicy) || !has(self.runPolicy.schedulingPolicy) || "
            "!has(self.runPolicy.schedulingPolicy.priorityClass) || "
            "!has(self.placement) || !has(self.placement.priorityClassName) || "
            "self.placement.priorityClassName == self.runPolicy.schedulingPolicy.priorityClass"
        ),
        message="it is another class than spec.placement.priorityClassName; pods have one: leave one of the two out",
        holds=lambda spec: _one_class(
            spec.get("runPolicy", {}).get("schedulingPolicy", {}).get("priorityClass"),
            spec.get("placement", {}).get("priorityClassName"),
        ),
    ),
    Rule(
        at="spec.runPolicy.schedulingPolicy",
        field="spec.runPolicy.schedulingPolicy.queue",
        cel=f"!has(self.provider) || !(self.provider in {[str(one) for one in NEED_QUEUE]}) || has(self.queue)",
        message=f"it is missing; {' and '.join(NEED_QUEUE)} take no job without the name of a queue",
        holds=lambda policy: policy.get("provider") not in NEED_QUEUE or "queue" in policy,
    ),
    exactly_one("spec.code", ("configMap", "claim"), "exactly one of configMap and claim says where the code is"),
    folder_of_a_claim("spec.code"),
    exactly_one(
        "spec.data[*]",
        ("builtin", "claim", "configMap", "uri"),
        "exactly one of builtin, claim, configMap and uri says where the data is",
    ),
    folder_of_a_claim("spec.data[*]"),
    not_both(
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
    exactly_one("spec.workspace", ("claim", "size", "uri"), "exactly one of claim, size and uri says where results live"),
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
    not_both(
        "spec.checkpoint",
        "spec.checkpoint",
        ("everySteps", "everySeconds"),
        "at most one of everySteps and everySeconds says when to save",
    ),
    *gate_rules("spec.publish.gates[*]"),
)
