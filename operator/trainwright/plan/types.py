"""What a decision is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainwright import __version__
from trainwright.api.reasons import Reason
from trainwright.api.scheduling import ProviderName
from trainwright.api.status import TrainingJobStatus
from trainwright.plan.prices import Prices
from trainwright.schedulers.objects import Patch

Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How this operator was set up. `images` overrides single entries of the catalogue; `default_cpu` and `default_memory` are
    requested for workers whose job names none (no limit); times are in seconds.
    """

    registry: str = "ghcr.io/trainwright"
    tag: str = __version__
    images: Mapping[str, str] = field(default_factory=dict)
    default_cpu: str | None = None
    default_memory: str | None = None
    # The survivors of a broken gang hang in a collective operation: they can't save anything, so they get little time.
    broken_gang_grace: int = 5
    # A pod that outlives its grace by this much is on a node that doesn't answer; the next attempt goes on without it.
    stuck_after: float = 15.0
    # How long a node may be away before its pods are given up (Kubernetes' own default is 300 s: a gang would stand still).
    node_lost_after: int = 60
    # How long a rank that only says "my peer vanished" is not believed to be the first, while others may still report.
    settle: float = 3.0
    # The first restart is immediate; the second waits this long, each further one twice as long as the one before.
    backoff: float = 10.0
    max_backoff: float = 300.0
    # What resources cost, if anybody has said so: for status.cost.
    prices: Prices | None = None
    # What gateways know their operator by: with it each is told the hash of a token of its own. None: /sync is open.
    gateway_key: bytes | None = None
    # With the namespace of the operator itself, what it makes gets NetworkPolicies; with None it gets none.
    isolated_from: str | None = None
    # Who admits jobs that name no provider; None: what goes with the cluster.
    scheduler: ProviderName | None = ProviderName.NONE
    # What schedulers go by in this cluster, where they have other names than usual.
    scheduler_names: Mapping[ProviderName, str] = field(default_factory=dict)

    def image(self, name: str) -> str:
        return self.images.get(name, f"{self.registry}/{name}:{self.tag}")


@dataclass(frozen=True, kw_only=True)
class Event:
    """A Kubernetes Event to come. `key` makes its name, so that saying it twice makes one."""

    reason: Reason
    message: str
    key: str


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """One pod to delete, only if it still is that pod. `grace`: seconds, None for the pod's own."""

    name: str
    uid: str
    grace: int | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a pass does, in this order: make and apply children, change and remove objects of a provider, create pods, delete
    pods, write status, send events.

    `make` holds children that are missing, `apply` those that differ from what they should be; `settled` is false while
    the pass waits for something that no event will announce, until `requeue_after` seconds have passed.
    """

    status: TrainingJobStatus
    make: tuple[Object, ...] = ()
    apply: tuple[Object, ...] = ()
    patch: tuple[Patch, ...] = ()
    remove: tuple[Object, ...] = ()
    create: tuple[Object, ...] = ()
    delete: tuple[Deletion, ...] = ()
    events: tuple[Event, ...] = ()
    delete_job: bool = False
    requeue_after: float | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing but status is to be written."""
        acts = self.make or self.apply or self.patch or self.remove or self.create or self.delete
        return not (acts or self.delete_job or self.events)
