"""What a decision for a deployment is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainwright.api.deployment_status import ModelDeploymentStatus
from trainwright.plan.types import Event

Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Removal:
    """An object to delete, if it is still the one that was seen."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, kw_only=True)
class ServingPlan:
    """`make`: objects to create; `apply`: objects that are there and should be otherwise; `sync`: what gateways are told."""

    status: ModelDeploymentStatus
    make: tuple[Object, ...] = ()
    apply: tuple[Object, ...] = ()
    delete: tuple[Removal, ...] = ()
    events: tuple[Event, ...] = ()
    sync: Object | None = None
    requeue_after: float | None = None
