"""What the types of a ModelDeployment can't say."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from trainwright.api import publisher_env
from trainwright.api.names import MAX_DEPLOYMENT_NAME
from trainwright.api.rule import Rule, exactly_one, folder_of_a_claim, gate_rules, not_both, short_name


def _rises(steps: list[dict[str, Any]]) -> bool:
    weights = [step["weight"] for step in steps]
    return all(before < after for before, after in pairwise(weights))


_PREFIXES = " || ".join(f"self.name.startsWith('{prefix}')" for prefix in publisher_env.REFUSED_PREFIXES)
_NAMES = ", ".join(repr(name) for name in publisher_env.REFUSED)
_LOCAL = "^(file|local|memory|data)://|::"

RULES: tuple[Rule, ...] = (
    short_name(MAX_DEPLOYMENT_NAME, "the names of its servers"),
    not_both("spec.storage", "spec.storage", ("claim", "size"), "at most one of claim and size says where versions lie"),
    exactly_one("spec.offers[*]", ("job", "claim", "uri"), "exactly one of job, claim and uri says where the artifact is"),
    folder_of_a_claim("spec.offers[*]"),
    Rule(
        at="spec.offers[*]",
        field="spec.offers[*].uri",
        cel=f"!has(self.uri) || !self.uri.matches('{_LOCAL}')",
        message=(
            "the publisher's own disk holds no artifact; name a folder in object storage, such as s3://bucket/run/artifacts, "
            "or a claim"
        ),
        holds=lambda offer: re.search(_LOCAL, offer.get("uri", "")) is None,
    ),
    Rule(
        at="spec.offers[*].env[*]",
        field="spec.offers[*].env[*].name",
        cel=f"!({_PREFIXES} || self.name in [{_NAMES}])",
        message=(
            "this variable would choose what the publisher runs; accepted are those that say how storage is reached, "
            "such as AWS_ACCESS_KEY_ID"
        ),
        holds=lambda env: publisher_env.given(env["name"]),
    ),
    not_both(
        "spec.offers[*].env[*]",
        "spec.offers[*].env[*]",
        ("value", "valueFrom"),
        "at most one of value and valueFrom says what the variable is",
    ),
    exactly_one(
        "spec.offers[*].env[*].valueFrom",
        ("secretKeyRef", "configMapKeyRef", "fieldRef", "resourceFieldRef"),
        "exactly one of secretKeyRef, configMapKeyRef, fieldRef and resourceFieldRef says where the value comes from",
    ),
    exactly_one("spec.verify.publicKey", ("configMap", "secret"), "exactly one of configMap and secret says where the key is"),
    *gate_rules("spec.gates[*]"),
    Rule(
        at="spec.canary",
        field="spec.canary.steps",
        cel=(
            "!has(self.steps) || (self.steps.map(step, step.weight).isSorted() && "
            "self.steps.all(a, self.steps.exists_one(b, b.weight == a.weight)))"
        ),
        message="weights rise from step to step, so that who has met the new version stays with it",
        holds=lambda canary: _rises(canary.get("steps", [])),
    ),
    Rule(
        at="spec",
        field="spec.pin",
        cel="!(has(self.pin) && has(self.promote)) || self.pin == self.promote",
        message="pin holds one version and promote asks for another; unset one of them",
        holds=lambda spec: not ("pin" in spec and "promote" in spec) or spec["pin"] == spec["promote"],
    ),
    Rule(
        at="spec",
        field="spec.gateway.httpRoute",
        cel="self.server != 'tfserving' || !has(self.gateway) || !has(self.gateway.httpRoute)",
        message="TensorFlow Serving has all versions behind one address: leave httpRoute out, and the gateway splits the traffic",
        holds=lambda spec: spec["server"] != "tfserving" or "httpRoute" not in spec.get("gateway", {}),
    ),
    not_both(
        "spec.gateway",
        "spec.gateway",
        ("httpRoute", "stickyHeader"),
        "an HTTPRoute splits traffic without regard to who asks: leave httpRoute or stickyHeader out",
    ),
)
