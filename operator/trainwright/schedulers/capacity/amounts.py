"""Resources as whole numbers of thousandths, so that sums are exact: what a pod asks for, what a node has, how it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR
from functools import lru_cache
from typing import Any

from trainwright.api.model import exact

Object = dict[str, Any]
Amounts = Mapping[str, int]
"""Thousandths of cores, bytes, pods and devices, by the name of the resource."""

_BINARY = (("Ti", 2**40), ("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10))


@lru_cache(maxsize=4096)
def thousandths(quantity: str, *, up: bool) -> int:
    """A quantity; what is asked for is rounded `up`, what there is down. What nobody can read counts as nothing."""
    try:
        return int((exact(quantity) * 1000).to_integral_value(ROUND_CEILING if up else ROUND_FLOOR))
    except ValueError:
        return 0


def request_of(pod: Object) -> dict[str, int]:
    """What the scheduler counts for a pod: its containers together, or a step before them if that is more; and one pod.

    A step that restarts always (a sidecar) stays beside the containers and the steps after it. What the pod as a whole asks for
    goes before what its containers say.
    """
    spec = pod["spec"]
    return total((_together(spec, _requested), _overhead(spec), {"pods": 1000}))


def limits_of(pod: Object) -> dict[str, int]:
    """What a pod may take at most, counted like its requests; without what it has no limit of."""
    spec = pod["spec"]
    limits = _together(spec, _limited)
    return total((limits, {name: amount for name, amount in _overhead(spec).items() if name in limits}))


def allocatable_of(node: Object) -> dict[str, int]:
    """What a node has for pods."""
    listed = (node.get("status") or {}).get("allocatable") or {}
    return {name: thousandths(str(value), up=False) for name, value in listed.items()}


def total(many: Iterable[Amounts]) -> dict[str, int]:
    result: dict[str, int] = {}
    for one in many:
        for name, value in one.items():
            result[name] = result.get(name, 0) + value
    return result


def written(resource: str, amount: int) -> str:
    """An amount as people write it: `4`, `1.5`, `250m`, `16Gi`."""
    if resource == "cpu" and amount % 100:
        return f"{amount}m"
    if resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-"):
        plain = amount / 1000
        unit, factor = next(((unit, factor) for unit, factor in _BINARY if plain >= factor), ("", 1))
        return f"{_number(plain / factor)}{unit}"
    return _number(amount / 1000)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _together(spec: Object, of: Callable[[Object], Amounts]) -> dict[str, int]:
    sidecars: dict[str, int] = {}
    steps: dict[str, int] = {}
    for container in spec.get("initContainers") or ():
        asked = of(container)
        if container.get("restartPolicy") == "Always":
            sidecars = total((sidecars, asked))
            steps = _most(steps, sidecars)
        else:
            steps = _most(steps, total((sidecars, asked)))
    containers = total((sidecars, *map(of, spec.get("containers") or ())))
    return {**_most(steps, containers), **of(spec)}


def _overhead(spec: Object) -> dict[str, int]:
    return {name: thousandths(str(value), up=True) for name, value in (spec.get("overhead") or {}).items()}


def _requested(container: Object) -> dict[str, int]:
    """Of a container, or of a pod as a whole. A limit without a request is one."""
    resources = container.get("resources") or {}
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: thousandths(str(value), up=True) for name, value in asked.items()}


def _limited(container: Object) -> dict[str, int]:
    limits = (container.get("resources") or {}).get("limits") or {}
    return {name: thousandths(str(value), up=True) for name, value in limits.items()}


def _most(one: Amounts, other: Amounts) -> dict[str, int]:
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in (*one, *(name for name in other if name not in one))}
