"""Nodes as the queue sees them, and which of them a gang's workers may go to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainwright.schedulers.capacity.amounts import Amounts, allocatable_of, request_of

Object = dict[str, Any]
_KEEPS_AWAY = ("NoSchedule", "NoExecute")


@dataclass(frozen=True)
class Taint:
    key: str
    value: str
    effect: str

    def __str__(self) -> str:
        return f"{self.key}={self.value}" if self.value else self.key


@dataclass(frozen=True)
class Toleration:
    """Empty fields stand for all."""

    key: str
    exists: bool
    value: str
    effect: str

    def covers(self, taint: Taint) -> bool:
        if self.effect not in ("", taint.effect) or (self.key and self.key != taint.key):
            return False
        return self.exists or (bool(self.key) and self.value == taint.value)


@dataclass(frozen=True, kw_only=True)
class Node:
    """`away`: why no pod may come, whatever it tolerates; empty when pods may."""

    name: str
    allocatable: Amounts
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    away: str = ""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a gang needs: how many workers, what each asks for (sorted by resource), and which nodes will do.

    Gangs of one shape fit or don't fit together.
    """

    workers: int
    request: tuple[tuple[str, int], ...]
    selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    topology_key: str | None = None


def read_node(raw: Object) -> Node:
    """A node of the API. One that is not ready, or on its way out, takes nobody."""
    spec, metadata = raw.get("spec") or {}, raw["metadata"]
    conditions = (raw.get("status") or {}).get("conditions") or ()
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    away = "" if ready and "deletionTimestamp" not in metadata else "not ready"
    taints = tuple(
        Taint(one["key"], one.get("value", ""), one["effect"]) for one in spec.get("taints") or () if one["effect"] in _KEEPS_AWAY
    )
    return Node(
        name=metadata["name"],
        allocatable=allocatable_of(raw),
        labels=metadata.get("labels") or {},
        taints=taints,
        away=away or ("cordoned" if spec.get("unschedulable") else ""),
    )


def read_shape(pod: Object, workers: int, topology_key: str | None) -> Shape:
    """The shape of a gang whose workers' pods are all like this one."""
    spec = pod["spec"]
    return Shape(
        workers=workers,
        request=tuple(sorted((name, value) for name, value in request_of(pod).items() if value)),
        selector=tuple(sorted((spec.get("nodeSelector") or {}).items())),
        tolerations=tuple(
            Toleration(one.get("key") or "", one.get("operator") == "Exists", one.get("value") or "", one.get("effect") or "")
            for one in spec.get("tolerations") or ()
        ),
        topology_key=topology_key,
    )


def refusal(shape: Shape, node: Node) -> str:
    """Why a gang's workers may not go to a node, whatever room it has; empty when they may."""
    if node.away:
        return node.away
    for key, value in shape.selector:
        if node.labels.get(key) != value:
            return f"without label {key}={value}"
    if shape.topology_key is not None and shape.topology_key not in node.labels:
        return f"without label {shape.topology_key}"
    for taint in node.taints:
        if not any(one.covers(taint) for one in shape.tolerations):
            return f"with taint {taint}"
    return ""
