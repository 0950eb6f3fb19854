"""Why a gang waits, in one line with numbers: amounts of room and no times, so that it stands still while nothing happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from trainwright.schedulers.capacity.amounts import written
from trainwright.schedulers.capacity.fit import Rooms, domains, slots
from trainwright.schedulers.capacity.nodes import Node, Shape, refusal
from trainwright.schedulers.capacity.quotas import Shortage, plain

MAX_CAUSES = 3
_LAST = ("cpu", "memory", "ephemeral-storage", "pods")


def needs(shape: Shape) -> str:
    """`needs 2 × 4 nvidia.com/gpu`: devices before cores, cores before bytes."""
    name, amount = min(shape.request, key=_telling)
    return _needs(shape, name, amount)


def names(many: Sequence[str]) -> str:
    """The first three, and how many more."""
    more = f" and {len(many) - 3} more" if len(many) > 3 else ""
    return f"{', '.join(many[:3])}{more}"


def lacking(shape: Shape, nodes: Sequence[Node], free: Rooms) -> str:
    """What there is too little of; empty when the gang fits."""
    refused = Counter(why for node in nodes if (why := refusal(shape, node)))
    eligible = [node for node in nodes if not refusal(shape, node)]
    left_out = [f"{count} node{'s' if count > 1 else ''} {why}" for why, count in sorted(refused.items())]
    others = f"; {'; '.join(left_out[:MAX_CAUSES])}" if left_out else ""
    if not eligible:
        return f"{needs(shape)}; no node will do" + (others or ": there are none")
    groups = domains(shape, eligible)
    room = {value: sum(slots(shape, free[node.name]) for node in group) for value, group in groups.items()}
    if max(room.values()) >= shape.workers:
        return ""
    name, amount = _scarcest(shape, eligible, free)
    have = {node.name: max(0, free[node.name].get(name, 0)) for node in eligible}
    most = max(have, key=lambda node: (have[node], node))
    of = sum(node.allocatable.get(name, 0) for node in eligible)
    parts = [_needs(shape, name, amount)]
    parts.append(f"{written(name, sum(have.values()))} of {written(name, of)} free")
    if len(eligible) > 1 and have[most]:
        parts[-1] += f", most on one node {written(name, have[most])} ({most})"
    if max(node.allocatable.get(name, 0) for node in eligible) < amount:
        parts.append("no node is so large")
    elif shape.topology_key is not None:
        best = max(sorted(room), key=lambda value: room[value])
        parts.append(f"within one {shape.topology_key} room for {room[best]} of {shape.workers} workers at most ({best})")
    elif max(room.values()):
        parts.append(f"room for {max(room.values())} of {shape.workers} workers")
    return "; ".join(parts) + others


def beyond(shortages: Sequence[Shortage]) -> str:
    """Which quotas leave too little, and of what."""
    causes = sorted(shortages, key=lambda one: (one.quota.name, _telling((plain(one.resource), 0)), one.resource))
    return "; ".join(map(_cause, causes[:MAX_CAUSES]))


def _cause(short: Shortage) -> str:
    each, left, hard = (written(plain(short.resource), max(0, amount)) for amount in (short.each, short.left, short.hard))
    needed = f"needs {_times(short.count)}{each} {short.resource}"
    return f"quota {short.quota.name} of namespace {short.quota.namespace}: {needed}; {left} of {hard} left"


def _scarcest(shape: Shape, nodes: Sequence[Node], free: Rooms) -> tuple[str, int]:
    """The resource that lets the fewest workers in."""

    def workers(name: str, amount: int) -> int:
        return sum(max(0, free[node.name].get(name, 0)) // amount for node in nodes)

    return min(shape.request, key=lambda one: (workers(*one), _telling(one)))


def _telling(one: tuple[str, int]) -> tuple[int, str]:
    name, _ = one
    return (_LAST.index(name) + 1 if name in _LAST else 0), name


def _needs(shape: Shape, name: str, amount: int) -> str:
    if name == "pods":
        return f"needs {shape.workers} pod{'s' if shape.workers > 1 else ''}"
    return f"needs {_times(shape.workers)}{written(name, amount)} {name}"


def _times(count: int) -> str:
    return f"{count} × " if count > 1 else ""
