"""The operator without kopf: stores, queue, reconciler and telemetry put together around one cluster.

`trainwright.controller` runs it with kopf as the source of TrainingJobs; `trainwright run` with a plain store of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from trainwright.api.names import JOB_LABEL, MANAGED_BY_LABEL, MANAGER
from trainwright.cluster.port import CLAIMS, PODS, SERVICES, TRAINING_JOBS, Cluster, ClusterError, Object, Resource
from trainwright.controller.job_series import JobSeries
from trainwright.controller.metrics import Metrics
from trainwright.controller.queue import KeyedQueue
from trainwright.controller.reconcile import Reconciler
from trainwright.controller.store import Store
from trainwright.controller.telemetry import Telemetry
from trainwright.plan.types import Settings

log = logging.getLogger(__name__)

RESYNC_SECONDS = 300.0


class Operator:
    """`watch_jobs`: whether to watch TrainingJobs ourselves; otherwise somebody calls `job_changed` and `job_deleted`."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        namespace: str | None = None,
        settings: Settings | None = None,
        metrics: Metrics | None = None,
        progress_interval: float = 5.0,
        watch_jobs: bool = False,
        resync_seconds: float = RESYNC_SECONDS,
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
        self._children = [store(resource, self._wake_owner) for resource in (SERVICES, CLAIMS)]
        self.telemetry = Telemetry(
            interval=progress_interval,
            on_progress=self.queue.add,
            on_poll=lambda answered: self.metrics.polls.labels("answered" if answered else "failed").inc(),
        )
        settings = settings or Settings()
        self.metrics.registry.register(JobSeries(self.jobs.all, prices=settings.prices))
        stores = {one.resource.plural: one for one in (self.jobs, self.pods, *self._children)}
        self.metrics.follow(lambda: {name: time.monotonic() - one.heard for name, one in stores.items()})
        self._reconciler = Reconciler(
            cluster=cluster,
            jobs=self.jobs,
            pods=self.pods,
            children=self._children,
            telemetry=self.telemetry,
            metrics=self.metrics,
            settings=settings,
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
        return all(store.synced.is_set() for store in (self.pods, *self._children))

    async def run(self) -> None:
        """Work until cancelled. No pass is made before everything has been listed once: what is not seen is not missing."""
        async with asyncio.TaskGroup() as group:
            stores = [self.pods, *self._children, *([self.jobs] if self._watch_jobs else [])]
            for store in stores:
                group.create_task(store.run())
            for store in stores:
                await store.synced.wait()
            group.create_task(self.telemetry.run())
            group.create_task(self._resync())
            group.create_task(self.queue.run(self._reconciler.reconcile))

    async def _resync(self) -> None:
        """Now and then compare with a list: a watch that has gone silent must not cost more than a few minutes."""
        while True:
            await asyncio.sleep(self._resync_seconds)
            for store in (self.jobs, self.pods, *self._children):
                try:
                    await store.relist()
                except ClusterError as error:
                    log.warning("resync of %s: %s", store.resource.plural, error)
            for raw in self.jobs.all():
                self._wake_job(raw)

    def _wake_job(self, raw: Object) -> None:
        self.queue.add(f"{raw['metadata'].get('namespace', '')}/{raw['metadata']['name']}")

    def _wake_owner(self, child: Object) -> None:
        name = child["metadata"].get("labels", {}).get(JOB_LABEL)
        if name:
            self.queue.add(f"{child['metadata'].get('namespace', '')}/{name}")
