"""The operator without its loop: one pass after another on a clock of the test's, over a cluster that can be made to fail.

What the real loop adds (queue, watches) has tests of its own; here every run is the same as the one before it, so that a
test can kill the operator at each of its calls in turn.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from trainwright.api.scheduling import ProviderName
from trainwright.cluster.memory import MemoryCluster
from trainwright.cluster.port import CLAIMS, PODS, SERVICES, TRAINING_JOBS, ClusterError
from trainwright.controller.admissions import Admissions
from trainwright.controller.capacity import Capacity
from trainwright.controller.default_provider import DefaultProvider
from trainwright.controller.metrics import Metrics
from trainwright.controller.reconcile import Reconciler
from trainwright.controller.schedulers import Schedulers
from trainwright.controller.store import Store
from trainwright.controller.telemetry import Telemetry
from trainwright.plan.types import Settings

START = 1795254000.0
NAME, NAMESPACE = "digits", "default"


class Killed(BaseException):
    """The operator's process ends here. Not an Exception: nothing of the operator's may catch it."""


class View:
    """The operator's connection. `interfere` is asked before and after each write and may raise instead of letting it pass."""

    def __init__(self, cluster: MemoryCluster, interfere: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._interfere = interfere
        self._dead = False

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        write = name in ("create", "apply", "patch", "delete")
        assert write or name in ("get", "list"), f"the operator has no business with {name} here: the driver looks for itself"

        async def through(*args: Any, **kwargs: Any) -> Any:
            if self._dead:
                raise Killed
            try:
                if write:
                    self._interfere("before")
                result = await getattr(self._cluster, name)(*args, **kwargs)
                if write:
                    self._interfere("after")
            except Killed:
                self._dead = True
                raise
            return result

        return through


class Driver:
    """Operators, one after the other, on one cluster. `kills` and `errors` count what has been done to them."""

    def __init__(
        self,
        interfere: Callable[[str], None] = lambda _: None,
        serves_from: Callable[[str, str], str | None] = lambda *_: None,
        scheduler: ProviderName = ProviderName.NONE,
    ) -> None:
        self.now = START
        self.cluster = MemoryCluster(clock=lambda: self.now)
        self._settings = Settings(scheduler=scheduler)
        self._serves_from = serves_from
        self.kills = 0
        self.errors = 0
        self.interfere = interfere
        self._begin()

    def _begin(self) -> None:
        view = View(self.cluster, self._asked)
        # The version that the stores were listed at; new ones hold nothing.
        self._listed = -1
        self.jobs = Store(view, TRAINING_JOBS)
        self._pods, self._services, self._claims = (
            Store(view, resource, index="trainwright.dev/job") for resource in (PODS, SERVICES, CLAIMS)
        )
        metrics = Metrics()
        default = DefaultProvider(self._settings.scheduler)
        self.capacity = Capacity(
            view,
            jobs=self.jobs,
            pods=self._pods,
            settings=self._settings,
            default=default,
            metrics=metrics,
            wake=lambda _: None,
            clock=lambda: self.now,
        )
        self.schedulers = Schedulers(
            view,
            namespace=None,
            settings=self._settings,
            default=default,
            wake=lambda _: None,
            wake_all=lambda: None,
            wanted=lambda: (),
        )
        if (told := self._settings.scheduler) in self.schedulers.providers:
            kinds = self.schedulers.of(told)
            kinds.serve(kinds.api.versions[-1])
        own = [self.jobs, self._pods, self._services, self._claims]
        self._stores = [*own, *self.capacity.stores, self.capacity.quotas.store, *self.schedulers.stores]
        self._reconciler = Reconciler(
            cluster=view,
            jobs=self.jobs,
            pods=self._pods,
            children=[self._services, self._claims],
            telemetry=Telemetry(interval=5.0, on_progress=lambda _: None),
            metrics=metrics,
            settings=self._settings,
            admissions=Admissions({ProviderName.CAPACITY: self.capacity, **self.schedulers.providers}, default),
            schedulers=self.schedulers,
            serves_from=self._serves_from,
            clock=lambda: self.now,
        )

    def _asked(self, moment: str) -> None:
        self.interfere(moment)

    async def settle(self, *names: str, patience: float = 60.0) -> None:
        """Passes until nothing more is to be done; waits of up to `patience` seconds in all pass on the test's clock.

        With `names` over these jobs, one after the other.
        """
        names = names or (NAME,)
        rest = 0
        for turn in range(300 * len(names)):
            name = names[turn % len(names)]
            before = self.cluster._version
            if before != self._listed:
                for store in self._stores:
                    store.replace(await self.cluster.list(store.resource, without=store.without))
                    store.synced.set()
                self._listed = before
            if self._settings.scheduler is ProviderName.CAPACITY:
                self.capacity.decide()
            try:
                later = await self._reconciler.reconcile(f"{NAMESPACE}/{name}")
            except Killed:
                self.kills += 1
                self._begin()
                rest = 0
                continue
            except ClusterError:
                self.errors += 1
                rest = 0
                continue
            if self.cluster._version != before or later == 0:
                rest = 0
                continue
            if later is None or later > patience:
                rest += 1
                if rest == len(names):
                    return
                continue
            rest = 0
            patience -= later
            self.now += later
        raise AssertionError("the operator never comes to rest")

    async def status(self, name: str = NAME) -> dict[str, Any]:
        found: dict[str, Any] = (await self.cluster.get(TRAINING_JOBS, name, NAMESPACE)).get("status", {})
        return found
