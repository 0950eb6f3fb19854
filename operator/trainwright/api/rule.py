"""What a rule is that types alone can't say: CEL for the API server, and a predicate for everyone else, in the same words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

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


def exactly_one(at: str, names: tuple[str, ...], message: str) -> Rule:
    """One field of several, and no more."""
    listed = ", ".join(f"has(self.{name})" for name in names)
    return Rule(
        at=at,
        field=at or "spec",
        cel=f"[{listed}].filter(present, present).size() == 1",
        message=message,
        holds=lambda node: sum(name in node for name in names) == 1,
    )


def not_both(at: str, field: str, names: tuple[str, str], message: str) -> Rule:
    """At most one of two fields."""
    first, second = names
    return Rule(
        at=at,
        field=field,
        cel=f"!(has(self.{first}) && has(self.{second}))",
        message=message,
        holds=lambda node: not (first in node and second in node),
    )


def folder_of_a_claim(at: str) -> Rule:
    """A path needs the claim that it is in."""
    return Rule(
        at=at,
        field=f"{at}.path",
        cel="!has(self.path) || has(self.claim)",
        message="path is a folder of a claim, and there is no claim",
        holds=lambda node: "path" not in node or "claim" in node,
    )


_BOUNDS = ("min", "max", "maxDropFromLive", "maxRiseFromLive")


def gate_rules(at: str) -> tuple[Rule, ...]:
    """Of a gate: it can be passed, and it can be failed."""
    return (
        Rule(
            at=at,
            field=at,
            cel=" || ".join(f"has(self.{name})" for name in _BOUNDS),
            message="a gate needs a bound: min, max, maxDropFromLive or maxRiseFromLive",
            holds=lambda gate: any(name in gate for name in _BOUNDS),
        ),
        Rule(
            at=at,
            field=at,
            cel="!(has(self.min) && has(self.max)) || self.min <= self.max",
            message="min is above max: no version could pass",
            holds=lambda gate: not ("min" in gate and "max" in gate) or gate["min"] <= gate["max"],
        ),
    )


def short_name(limit: int, what: str) -> Rule:
    """The object's name becomes part of other names."""
    return Rule(
        at="",
        field="metadata.name",
        cel=f"self.metadata.name.size() <= {limit} && self.metadata.name.matches('{_NAME}')",
        message=(
            f"metadata.name becomes part of {what}: at most {limit} characters, lower-case letters, "
            "digits and '-', beginning with a letter"
        ),
        holds=lambda obj: len(obj["metadata"]["name"]) <= limit and re.match(_NAME, obj["metadata"]["name"]) is not None,
    )


def nodes(obj: dict[str, Any], at: str) -> Iterator[tuple[str, Any]]:
    """The nodes at a place, each with the index of the list item that it lies in (empty outside of lists)."""
    found: list[tuple[str, Any]] = [("", obj)]
    for part in [part for part in at.split(".") if part]:
        name = part.removesuffix("[*]")
        found = [(place, node[name]) for place, node in found if name in node]
        if part.endswith("[*]"):
            found = [(f"[{index}]", item) for _, items in found for index, item in enumerate(items)]
    yield from found
