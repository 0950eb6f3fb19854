"""The whole decision for one deployment: take the candidate on, say what is seen, make what is lacking, remove what is over.

`plan(deployment, served, now, settings)` is pure. Doing what it says and planning again gives an empty plan.
"""

from __future__ import annotations

from trainwright.api.deployment import ModelDeployment
from trainwright.api.deployment_status import ModelDeploymentStatus, Step, VersionState
from trainwright.api.names import task_name
from trainwright.observe.serving import Served, TaskState
from trainwright.observe.times import seconds
from trainwright.plan.metadata import difference, with_hash
from trainwright.plan.serving import tasks
from trainwright.plan.serving.children import GATEWAY_API, unneeded, wanted
from trainwright.plan.serving.draft import Draft
from trainwright.plan.serving.retention import to_remove
from trainwright.plan.serving.routes import routed, sync
from trainwright.plan.serving.status import at_rest, bounded, watched, with_version
from trainwright.plan.serving.steps import advance
from trainwright.plan.serving.types import Removal, ServingPlan
from trainwright.plan.types import Settings

DRAIN_SECONDS = 5.0
"""How long servers of a version live on that gets no requests any more, for those that are under way."""


def plan(deployment: ModelDeployment, served: Served, now: float, settings: Settings) -> ServingPlan:
    """What to do for a deployment, given what is seen of it at `now` (seconds since the epoch)."""
    if deployment.deleting:
        return ServingPlan(status=deployment.status)
    status = deployment.status
    if status.candidate is None:
        # What was lacking a moment ago may be there by now; what still is says so below.
        status = status.model_copy(update={"reason": at_rest(status)})
    draft = Draft(deployment=deployment, served=served, now=now, settings=settings, status=status)
    advance(draft)
    draining = _draining(draft)
    _remove(draft, draining)
    draft.status = watched(deployment, draft.status, served, now)
    told = sync(deployment, draft.status, served)
    objects = wanted(deployment, draft.status, told, settings)
    if deployment.spec.gateway.http_route and GATEWAY_API not in served.api_groups:
        objects = [one for one in objects if one["kind"] != "HTTPRoute"]
        draft.wait("spec.gateway.httpRoute: this cluster has no Gateway API; leave it out, and the gateway splits the traffic")
    missing, different = difference(objects, served.children)
    over = unneeded(deployment, draft.status, served, draining)
    return ServingPlan(
        status=draft.status,
        make=(*missing, *(with_hash(task) for task in draft.tasks)),
        apply=tuple(different),
        delete=(*over, *_finished_tasks(draft)),
        events=tuple(draft.events),
        sync=told,
        requeue_after=min(draft.wishes, default=None),
    )


def _draining(draft: Draft) -> set[int]:
    """Versions that lost their traffic a moment ago, or that a gateway still knows of."""
    served = {version.version for version, _, _ in routed(draft.status)}
    known = {number for report in draft.served.reports.values() for number in report.versions}
    draining = set()
    for version in draft.status.versions:
        if version.version in served or version.state not in (VersionState.PREVIOUS, VersionState.KEPT, VersionState.ROLLED_BACK):
            continue
        left = (seconds(version.since) or 0.0) + DRAIN_SECONDS - draft.now
        if 0 < left <= DRAIN_SECONDS or version.version in known:
            draining.add(version.version)
            draft.wishes.append(max(1.0, left))
    return draining


def _remove(draft: Draft, draining: set[int]) -> None:
    """Take away the files of versions that are over, once nobody has them loaded."""
    deployment = draft.deployment
    for version in to_remove(deployment, draft.status):
        loaded = version.version in draining or any(pod.version == version.version for pod in draft.served.pods)
        if loaded:
            draft.wishes.append(2.0)
            continue
        task = draft.served.tasks.get(task_name(deployment.name, version.version, "remove"))
        if task is None:
            draft.tasks.append(tasks.remove(deployment, version, draft.settings))
        elif task.state is TaskState.SUCCEEDED:
            gone = {"record": None} | ({"state": VersionState.REMOVED} if version.state.servable else {})
            draft.status = with_version(draft.status, version.version, **gone)
    draft.status = draft.status.model_copy(update={"versions": bounded(deployment, draft.status.versions)})


def _finished_tasks(draft: Draft) -> list[Removal]:
    """Tasks whose word has been taken: neither what is stored nor what will be stored waits for them."""
    active: set[str] = set()
    for status in (draft.deployment.status, draft.status):
        active |= _awaited(draft.deployment, status)
    over = [task for task in draft.served.tasks.values() if task.name not in active or task.name in draft.rerun]
    return [Removal(kind="Job", name=task.name, uid=task.uid) for task in sorted(over, key=lambda task: task.name)]


def _awaited(deployment: ModelDeployment, status: ModelDeploymentStatus) -> set[str]:
    names = {task_name(deployment.name, version.version, "remove") for version in to_remove(deployment, status)}
    candidate = status.candidate
    if candidate is not None and candidate.step in (Step.VERIFY, Step.PUBLISH):
        names.add(task_name(deployment.name, candidate.version, candidate.step.value.lower()))
    return names
