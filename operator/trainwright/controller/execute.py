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
    PODS,
    SERVICES,
    TRAINING_JOBS,
    AlreadyExists,
    Cluster,
    ClusterError,
    Forbidden,
    Invalid,
    NotFound,
    Object,
    Resource,
)
from trainwright.observe.workers import one_line
from trainwright.plan.types import Deletion, Plan

log = logging.getLogger(__name__)

CHILD_KINDS: dict[str, Resource] = {resource.kind: resource for resource in (SERVICES, CLAIMS)}
CONCURRENCY = 32


class Executor:
    """`on_made` is given every object as the API stored it, so that the next pass knows it before the watch tells."""

    def __init__(self, cluster: Cluster, on_made: Callable[[Object], object]) -> None:
        self._cluster = cluster
        self._on_made = on_made
        self._limit = asyncio.Semaphore(CONCURRENCY)

    async def carry_out(self, job: TrainingJob, plan: Plan) -> str | None:
        """Do what the plan says. Returns why something was refused, for the job's status; raises `ClusterError` when the
        API fails for reasons that are not the job's. `Conflict` says that what was to be deleted has become something else.
        """
        steps = [self._make(job, child) for child in plan.make] + [self._apply(child) for child in plan.apply]
        if refused := await self._together(steps):
            return refused
        if refused := await self._together([self._create_pod(job, pod) for pod in plan.create]):
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

    async def _make(self, job: TrainingJob, child: Object) -> None:
        resource = CHILD_KINDS[child["kind"]]
        try:
            made = await self._cluster.create(resource, child)
        except AlreadyExists:
            made = await self._cluster.get(resource, child["metadata"]["name"], child["metadata"]["namespace"])
            if not _is_of(made, job):
                raise NameTaken(made, job) from None
        self._on_made(made)

    async def _apply(self, child: Object) -> None:
        self._on_made(await self._cluster.apply(CHILD_KINDS[child["kind"]], child))

    async def _create_pod(self, job: TrainingJob, pod: Object) -> None:
        try:
            self._on_made(await self._cluster.create(PODS, pod))
        except AlreadyExists:
            there = await self._cluster.get(PODS, pod["metadata"]["name"], pod["metadata"]["namespace"])
            if not _is_of(there, job):
                raise NameTaken(there, job) from None
            self._on_made(there)

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


class NameTaken(ClusterError):
    """Something that isn't this job's has the name of a child."""

    def __init__(self, taken: Object, job: TrainingJob) -> None:
        what = f"{taken['kind']} {taken['metadata']['name']}"
        if taken["metadata"].get("labels", {}).get(JOB_LABEL) == job.name:
            super().__init__(f"{what} of an earlier job of this name is still there; waiting until it is gone")
        else:
            super().__init__(f"{what} exists and belongs to something else; rename it or the job")


def _is_of(obj: Object, job: TrainingJob) -> bool:
    """A claim outlives its job and is known by its label; all else is known by its owner."""
    metadata = obj["metadata"]
    if obj["kind"] == CLAIMS.kind:
        return bool(metadata.get("labels", {}).get(JOB_LABEL) == job.name)
    return any(owner.get("uid") == job.uid for owner in metadata.get("ownerReferences", []))
