"""The operator without kopf: stores, queue, reconciler and telemetry put together around one cluster.

`trainwright.controller` runs it with kopf as the source of TrainingJobs; `trainwright run` with a plain store of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping

from trainwright.api.names import JOB_LABEL, MANAGED_BY_LABEL, MANAGER
from trainwright.api.scheduling import ProviderName
from trainwright.cluster.port import (
    CLAIMS,
    NETWORK_POLICIES,
    PODS,
    SERVICES,
    TRAINING_JOBS,
    ClusterError,
    Inspectable,
    Object,
    Resource,
)
from trainwright.controller.admissions import Admissions
from trainwright.controller.capacity import Capacity
from trainwright.controller.default_provider import DefaultProvider
from trainwright.controller.deployment_series import DeploymentSeries
from trainwright.controller.job_series import JobSeries
from trainwright.controller.metrics import Metrics
from trainwright.controller.optional_kinds import DISCOVERY_SECONDS
from trainwright.controller.queue import KeyedQueue
from trainwright.controller.reconcile import Reconciler
from trainwright.controller.schedulers import Schedulers
from trainwright.controller.serving import Serving
from trainwright.controller.store import Store
from trainwright.controller.telemetry import Telemetry
from trainwright.plan.types import Settings

log = logging.getLogger(__name__)

RESYNC_SECONDS = 300.0


class Operator:
    """`watch_jobs`: whether to watch our own kinds ourselves; otherwise somebody calls `job_changed` and its like.

    `serving`: whether ModelDeployments are looked after, too.
    """

    def __init__(
        self,
        cluster: Inspectable,
        *,
        namespace: str | None = None,
        settings: Settings | None = None,
        metrics: Metrics | None = None,
        progress_interval: float = 5.0,
        watch_jobs: bool = False,
        resync_seconds: float = RESYNC_SECONDS,
        discovery_seconds: float = DISCOVERY_SECONDS,
        serving: bool = True,
    ) -> None:
        self._resync_seconds = resync_seconds
        self.metrics = metrics or Metrics()
        self.queue = KeyedQueue(on_wait=self.metrics.queue_seconds.observe)
        self.metrics.queue_depth.set_function(lambda: len(self.queue))
        self._watch_jobs = watch_jobs
        mine = {MANAGED_BY_LABEL: MANAGER}

        def store(resource: Resource, wake: Callable[[Object], None]) -> Store:
            return Store(cluster, resource, namespace=namespace, labels=mine, index=JOB_LABEL, on_change=wake)

        self.jobs = Store(cluster, TRAINING_JOBS, namespace=namespace, on_change=self._wake_job)
        self.pods = store(PODS, self._wake_owner)
        settings = settings or Settings()
        policies = (NETWORK_POLICIES,) if settings.isolated_from is not None else ()
        self._children = [store(resource, self._wake_owner) for resource in (SERVICES, CLAIMS, *policies)]
        self.telemetry = Telemetry(
            interval=progress_interval,
            on_progress=self.queue.add,
            on_poll=lambda answered: self.metrics.polls.labels("answered" if answered else "failed").inc(),
        )
        self.metrics.registry.register(JobSeries(self.jobs.all, prices=settings.prices))
        self._serving_queue = KeyedQueue(on_wait=self.metrics.queue_seconds.observe)
        self.serving = (
            Serving(
                cluster,
                namespace=namespace,
                jobs=self.jobs,
                settings=settings,
                metrics=self.metrics,
                wake=self._serving_queue.add,
                wake_job=self.queue.add,
                watch_deployments=watch_jobs,
                discovery_seconds=discovery_seconds,
            )
            if serving
            else None
        )
        if self.serving:
            self.metrics.registry.register(DeploymentSeries(self.serving.deployments.all))
        self._cluster, self._namespace = cluster, namespace
        self._default = DefaultProvider(settings.scheduler)
        self.capacity = Capacity(
            cluster,
            jobs=self.jobs,
            pods=self.pods,
            settings=settings,
            default=self._default,
            metrics=self.metrics,
            wake=self.queue.add,
            unavailable=""
            if namespace is None
            else f"provider capacity looks at all nodes and pods, and this operator looks after namespace {namespace} alone: "
            "spec.runPolicy.schedulingPolicy.provider none leaves the pods to the cluster's scheduler",
        )
        self.schedulers = Schedulers(
            cluster,
            namespace=namespace,
            settings=settings,
            default=self._default,
            wake=self._wake_owner,
            wake_all=self._wake_jobs,
            wanted=self._providers,
            discovery_seconds=discovery_seconds,
        )
        stores = {one.resource.plural: one for one in (self.jobs, self.pods, *self._children)}
        self.metrics.follow(lambda: self._ages({name: one.heard for name, one in stores.items()}))
        self._reconciler = Reconciler(
            cluster=cluster,
            jobs=self.jobs,
            pods=self.pods,
            children=self._children,
            telemetry=self.telemetry,
            metrics=self.metrics,
            settings=settings,
            offered=self.serving.offered if self.serving else lambda _: None,
            serves_from=self.serving.serves_from if self.serving else lambda *_: None,
            admissions=Admissions({ProviderName.CAPACITY: self.capacity, **self.schedulers.providers}, self._default),
            on_status=self.capacity.job_changed,
            on_phase=self.serving.job_changed if self.serving else lambda _: None,
            schedulers=self.schedulers,
        )

    def job_changed(self, raw: Object) -> None:
        """A TrainingJob came or changed."""
        if self.jobs.put(raw):
            self._wake_job(raw)

    def job_deleted(self, raw: Object) -> None:
        """A TrainingJob is gone."""
        self.jobs.remove(raw)
        self._wake_job(raw)

    @property
    def ready(self) -> bool:
        """Whether everything there is has been seen once."""
        return all(store.synced.is_set() for store in (*self._watched, *self._fed))

    @property
    def _watched(self) -> list[Store]:
        """Stores that keep themselves fresh."""
        own = [self.pods, *self._children, *([self.jobs] if self._watch_jobs else [])]
        return own + (self.serving.stores if self.serving else [])

    @property
    def _fed(self) -> list[Store]:
        """Stores of our own kinds that somebody else keeps fresh."""
        if self._watch_jobs:
            return []
        return [self.jobs, *([self.serving.deployments] if self.serving else [])]

    async def run(self) -> None:
        """Work until cancelled. No pass is made before everything has been listed once: what is not seen is not missing.

        That goes for objects whose events come from elsewhere, too: events of one kind may come long before those of another.
        """
        async with asyncio.TaskGroup() as group:
            for store in self._watched:
                group.create_task(store.run())
            for store in self._fed:
                await store.first_list()
            for store in self._watched:
                await store.synced.wait()
            await self._default.find(self._cluster, self._namespace)
            await self.schedulers.discover(self._kinds)
            group.create_task(self.schedulers.run(self._kinds))
            group.create_task(self.telemetry.run())
            group.create_task(self.capacity.run())
            group.create_task(self._resync())
            group.create_task(self.queue.run(self._reconciler.reconcile))
            if self.serving:
                await self.serving.discover(self._kinds)
                group.create_task(self.serving.run(self._kinds))
                group.create_task(self._serving_queue.run(self.serving.reconcile))

    async def _resync(self) -> None:
        """Now and then compare with a list: a watch that has gone silent must not cost more than a few minutes."""
        while True:
            await asyncio.sleep(self._resync_seconds)
            for store in (self.jobs, self.pods, *self._children, *self.schedulers.stores):
                try:
                    await store.relist()
                except ClusterError as error:
                    log.warning("resync of %s: %s", store.resource.plural, error)
            self._wake_jobs()
            for what, relist in self._others:
                try:
                    await relist()
                except ClusterError as error:
                    log.warning("resync of %s: %s", what, error)

    async def _kinds(self, group: str) -> Mapping[str, tuple[str, ...]] | None:
        """What of an API group of others' is served; None when nobody says."""
        try:
            return await self._cluster.discover(group)
        except ClusterError as error:
            log.warning("%s: not known whether it is served: %s", group, error)
            return None

    def _providers(self) -> Iterator[ProviderName]:
        """What live jobs ask for by name, and what those get that name none."""
        yield self._default.name
        for raw in self.jobs.all():
            named = ((raw["spec"].get("runPolicy") or {}).get("schedulingPolicy") or {}).get("provider")
            if named in set(ProviderName) and (raw.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
                yield ProviderName(named)

    def _wake_jobs(self) -> None:
        for raw in self.jobs.all():
            self._wake_job(raw)

    def _ages(self, heard: dict[str, float]) -> dict[str, float]:
        """Seconds since anything was heard of each kind; of pods, that we watch twice, of those that are silent for longer."""
        others = self.capacity.heard()
        now = time.monotonic()
        return {name: now - min(heard.get(name, now), others.get(name, now)) for name in (*heard, *others)}

    @property
    def _others(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """What keeps copies of its own."""
        serving = [("deployments", self.serving.relist)] if self.serving else []
        return [("nodes and pods", self.capacity.relist), *serving]

    def _wake_job(self, raw: Object) -> None:
        self.queue.add(f"{raw['metadata'].get('namespace', '')}/{raw['metadata']['name']}")
        self.capacity.job_changed(raw)
        if self.serving:
            self.serving.job_changed(raw)

    def _wake_owner(self, child: Object) -> None:
        if child["kind"] == PODS.kind:
            self.capacity.pod_changed(child)
        name = child["metadata"].get("labels", {}).get(JOB_LABEL)
        if name:
            self.queue.add(f"{child['metadata'].get('namespace', '')}/{name}")
