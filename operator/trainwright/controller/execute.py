"""Carry out a plan: children, pods, deletions. Each action is safe to repeat; what was refused comes back as one line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from trainwright.api.job import TrainingJob
from trainwright.api.names import JOB_LABEL
from trainwright.cluster.port import (
    CLAIMS,
    NETWORK_POLICIES,
    PODS,
    SERVICES,
    TRAINING_JOBS,
    Cluster,
    Forbidden,
    Invalid,
    NotFound,
    Object,
    Resource,
)
from trainwright.controller.making import Maker, NameTaken, make
from trainwright.controller.schedulers import OBJECT_KINDS
from trainwright.observe.workers import one_line
from trainwright.plan.types import Deletion, Plan
from trainwright.schedulers.objects import Patch

log = logging.getLogger(__name__)

CHILD_KINDS: dict[tuple[str, str], Resource] = {
    (resource.api_version, resource.kind): resource for resource in (SERVICES, CLAIMS, NETWORK_POLICIES, *OBJECT_KINDS)
}
CONCURRENCY = 32


class Executor:
    """`on_made` is given every object as the API stored it, so that the next pass knows it before the watch tells; `on_gone` each
    object of a provider that is found to be gone.
    """

    def __init__(
        self, cluster: Cluster, on_made: Callable[[Object], object], on_gone: Callable[[Object], object] = lambda _: None
    ) -> None:
        self._cluster = cluster
        self._on_made = on_made
        self._on_gone = on_gone
        self._limit = asyncio.Semaphore(CONCURRENCY)

    async def carry_out(self, job: TrainingJob, plan: Plan) -> str | None:
        """Do what the plan says. Returns why something was refused, for the job's status; raises `ClusterError` when the
        API fails for reasons that are not the job's. `Conflict` says that what was to be deleted has become something else.
        """
        steps = [self._make(job, _resource(child), child) for child in plan.make]
        steps += [self._apply(child) for child in plan.apply]
        if refused := await self._together(steps):
            return refused
        for patch in plan.patch:
            if refused := await self._together([self.patch(patch)]):
                return refused
        if refused := await self._together([self._remove(one) for one in plan.remove]):
            return refused
        if refused := await self._together([self._make(job, PODS, pod) for pod in plan.create]):
            return refused
        if plan.delete_job:
            await self._delete_job(job)
        return await self._together([self._delete(job, deletion) for deletion in plan.delete])

    async def _together(self, steps: list[Coroutine[Any, Any, None]]) -> str | None:
        """Run all steps, whatever becomes of some; then report the worst."""

        async def limited(step: Coroutine[Any, Any, None]) -> None:
            async with self._limit:
                await step

        results = await asyncio.gather(*(limited(step) for step in steps), return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        for error in errors:
            if not isinstance(error, Forbidden | Invalid | NameTaken):
                raise error
        return one_line(str(errors[0])) if errors else None

    async def _make(self, job: TrainingJob, resource: Resource, wanted: Object) -> None:
        self._on_made(await make(self._cluster, resource, wanted, _maker(job)))

    async def _apply(self, child: Object) -> None:
        self._on_made(await self._cluster.apply(_resource(child), child))

    async def patch(self, patch: Patch) -> None:
        """Only while it is as it was seen: what it says of the object may not hold of a later one."""
        metadata = patch.object["metadata"]
        seen = {key: metadata[key] for key in ("uid", "resourceVersion")}
        body = {**patch.body, "metadata": {**patch.body.get("metadata", {}), **seen}}
        try:
            changed = await self._cluster.patch(
                _resource(patch.object),
                metadata["name"],
                metadata["namespace"],
                body,
                subresource="status" if patch.status else None,
            )
        except NotFound:
            self._on_gone(patch.object)
        else:
            self._on_made(changed)

    async def _remove(self, obj: Object) -> None:
        metadata = obj["metadata"]
        try:
            await self._cluster.delete(_resource(obj), metadata["name"], metadata["namespace"], uid=metadata["uid"])
        except NotFound:
            self._on_gone(obj)

    async def _delete_job(self, job: TrainingJob) -> None:
        try:
            await self._cluster.delete(TRAINING_JOBS, job.name, job.namespace, uid=job.uid)
        except NotFound:
            log.debug("%s is gone already", job.name)

    async def _delete(self, job: TrainingJob, deletion: Deletion) -> None:
        try:
            await self._cluster.delete(PODS, deletion.name, job.namespace, uid=deletion.uid, grace_seconds=deletion.grace)
        except NotFound:
            log.debug("%s is gone already", deletion.name)


def _resource(child: Object) -> Resource:
    return CHILD_KINDS[child["apiVersion"], child["kind"]]


def _maker(job: TrainingJob) -> Maker:
    return Maker("job", job.name, job.uid, JOB_LABEL)
