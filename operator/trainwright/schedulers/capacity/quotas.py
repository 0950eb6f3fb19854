"""What ResourceQuotas leave to pods, counted as the API server counts it, so that no gang is let in and then refused.

Keys and scopes are the API's; those that are not for pods, or that nobody here knows, limit nothing here. The API server has the
last word on all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainwright.schedulers.capacity.amounts import Amounts, limits_of, request_of, thousandths

Object = dict[str, Any]
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_OF_QUALITY = ("cpu", "memory")
_PREFIXES = ("requests.", "limits.", "count/")


@dataclass(frozen=True)
class Scope:
    """Which pods a quota is for."""

    name: str
    operator: str = "Exists"
    values: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Quota:
    """`hard` and `used`: by the quota's own keys, both with the same ones. A pod counts that is in all `scopes`."""

    namespace: str
    name: str
    hard: Amounts = field(default_factory=dict)
    used: Amounts = field(default_factory=dict)
    scopes: tuple[Scope, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Charge:
    """What one pod counts for in quotas, by their keys, and what of it scopes go by."""

    amounts: Amounts = field(default_factory=dict)
    terminating: bool = False
    best_effort: bool = False
    priority_class: str = ""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """So many pods that are alike, to be made in a namespace."""

    namespace: str
    charge: Charge
    count: int


@dataclass(frozen=True, kw_only=True)
class Shortage:
    """What a quota has too little of: `count` pods need so much `each`, and so much is left of what it allows (`hard`)."""

    quota: Quota
    resource: str
    count: int
    each: int
    left: int
    hard: int


def read_quota(raw: Object) -> Quota:
    """A ResourceQuota of the API. What its status doesn't tell yet, allowed and used, limits nothing.

    Of its keys those are kept that a pod can count for: a service more or less is no news.
    """
    spec, status = raw.get("spec") or {}, raw.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    known = sorted(key for key in hard if key in used and _for_pods(key))
    selected = (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    return Quota(
        namespace=raw["metadata"]["namespace"],
        name=raw["metadata"]["name"],
        hard={key: thousandths(str(hard[key]), up=False) for key in known},
        used={key: thousandths(str(used[key]), up=True) for key in known},
        scopes=(
            *(Scope(name) for name in spec.get("scopes") or ()),
            *(Scope(one["scopeName"], one.get("operator", ""), tuple(one.get("values") or ())) for one in selected),
        ),
    )


def charge_of(pod: Object) -> Charge:
    """What a pod counts for that is about to be made. `priority_class` is what it says itself: the API server may give it one."""
    spec = pod["spec"]
    requests, limits = request_of(pod), limits_of(pod)
    amounts = {"pods": 1000, "count/pods": 1000}
    for name, amount in requests.items():
        if name in _COMPUTE or name.startswith("hugepages-"):
            amounts |= {name: amount, f"requests.{name}": amount}
        elif "/" in name:
            amounts[f"requests.{name}"] = amount
    amounts |= {f"limits.{name}": amount for name, amount in limits.items() if name in _COMPUTE}
    return Charge(
        amounts={key: amount for key, amount in amounts.items() if amount},
        terminating=spec.get("activeDeadlineSeconds") is not None,
        best_effort=not any(one.get(name) for one in (requests, limits) for name in _OF_QUALITY),
        priority_class=spec.get("priorityClassName") or "",
    )


def counts(quota: Quota, charge: Charge) -> bool:
    """Whether such a pod is in all scopes of a quota.

    No pod of ours names other namespaces in an affinity, so none is in the scope of those that do; nor in one unknown here.
    """
    return all(_within(scope, charge) for scope in quota.scopes)


def plain(key: str) -> str:
    """The resource that a quota's key is about: `memory` for `requests.memory`."""
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return key


class Allowance:
    """What is left of all quotas in the course of one decision: without what they say is used, what pods take that will be made,
    and what is `kept` (by namespace, quota and key) for gangs that have places kept for them.
    """

    def __init__(self, quotas: Iterable[Quota]) -> None:
        self._quotas: dict[str, list[Quota]] = {}
        for one in sorted(quotas, key=lambda quota: quota.name):
            self._quotas.setdefault(one.namespace, []).append(one)
        self._taken: Counter[tuple[str, str, str]] = Counter()
        self.kept: Mapping[tuple[str, str, str], int] = {}
        self._kept_for: dict[tuple[str, str, str], str] = {}

    def short(self, demand: Demand, kept: Mapping[tuple[str, str, str], int]) -> list[Shortage]:
        """What there is too little of for all these pods; `kept`: what is left for others."""
        found = []
        for quota, key, each in self._limits(demand):
            one = quota.namespace, quota.name, key
            left = quota.hard[key] - quota.used[key] - self._taken[one] - kept.get(one, 0)
            if left < each * demand.count:
                found.append(Shortage(quota=quota, resource=key, count=demand.count, each=each, left=left, hard=quota.hard[key]))
        return found

    def take(self, demand: Demand) -> None:
        """These pods will be made."""
        for quota, key, each in self._limits(demand):
            self._taken[quota.namespace, quota.name, key] += each * demand.count

    def keep(self, demand: Demand, name: str) -> None:
        """These pods will be made later, and nobody else is to have what they need: `name` is whose they are."""
        kept = dict(self.kept)
        for quota, key, each in self._limits(demand):
            one = quota.namespace, quota.name, key
            kept[one] = kept.get(one, 0) + each * demand.count
            self._kept_for.setdefault(one, name)
        self.kept = kept

    def kept_for(self, short: Shortage) -> str:
        """Whom what is lacking is kept for; empty when it is for nobody."""
        return self._kept_for.get((short.quota.namespace, short.quota.name, short.resource), "")

    def _limits(self, demand: Demand) -> Iterator[tuple[Quota, str, int]]:
        """Each key of each quota that the pods count for, and how much for one of them."""
        if demand.count <= 0:
            return
        for quota in self._quotas.get(demand.namespace, ()):
            if counts(quota, demand.charge):
                yield from ((quota, key, each) for key in quota.hard if (each := demand.charge.amounts.get(key, 0)))


def _for_pods(key: str) -> bool:
    name = key.removeprefix("requests.")
    if key in ("pods", "count/pods") or name in _COMPUTE or name.startswith("hugepages-"):
        return True
    return key.removeprefix("limits.") in _COMPUTE or (name != key and "/" in name)


def _within(scope: Scope, charge: Charge) -> bool:
    match scope.name:
        case "Terminating":
            return charge.terminating
        case "NotTerminating":
            return not charge.terminating
        case "BestEffort":
            return charge.best_effort
        case "NotBestEffort":
            return not charge.best_effort
        case "PriorityClass":
            return _of_class(scope, charge.priority_class)
    return False


def _of_class(scope: Scope, name: str) -> bool:
    match scope.operator:
        case "Exists":
            return bool(name)
        case "DoesNotExist":
            return not name
        case "In":
            return name in scope.values
        case "NotIn":
            return name not in scope.values
    return False
