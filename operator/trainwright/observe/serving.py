"""All that is seen of one deployment at one moment, as plain data: offers, servers, gateways, publisher's tasks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from trainwright.api import publisher_env
from trainwright.api.deployment import ModelDeployment
from trainwright.api.job import TrainingJob
from trainwright.api.names import ROLE_LABEL, UID_LABEL, VERSION_LABEL, claim_name, remote_folder
from trainwright.api.spec import EnvVar, Gate
from trainwright.api.status import Phase
from trainwright.observe.gateway import GatewayReport
from trainwright.observe.observed import Child, child_of, owned
from trainwright.observe.workers import one_line

Object = dict[str, Any]
_TASK_REASONS = 300


class Role(StrEnum):
    SERVER = "server"
    GATEWAY = "gateway"
    PUBLISHER = "publisher"


@dataclass(frozen=True, kw_only=True)
class Offer:
    """An artifact that somebody offers. `key` tells offers apart for ever: job/<uid> or offer/<name>.

    Either `uri`, or `path` in `claim` (empty: all of it). `offered`: when, as the API writes times.
    """

    key: str
    offered: str
    job: str | None = None
    claim: str = ""
    path: str = ""
    uri: str = ""
    env: tuple[EnvVar, ...] = ()
    gates: tuple[Gate, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ServingPod:
    """A pod of a server or gateway. `version`: None for a server of all versions. `waiting`: why it isn't ready, in one line."""

    name: str
    role: Role
    version: int | None
    address: str
    ready: bool
    waiting: str = ""


class TaskState(StrEnum):
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A publisher's Job. `words`: the last words of its last pod; empty while there are none."""

    name: str
    uid: str
    state: TaskState
    words: Mapping[str, Any] = field(default_factory=dict)
    waiting: str = ""

    @property
    def refused(self) -> bool:
        """Whether the publisher itself said that trying again would mend nothing."""
        return self.words.get("ok") is False and self.words.get("reason") != "Failed"

    @property
    def message(self) -> str:
        """What became of it, in one line."""
        if message := self.words.get("message"):
            return one_line(f"{self.words.get('reason', 'Failed')}: {message}", _TASK_REASONS)
        return self.waiting or "the publisher ended without a word"


@dataclass(frozen=True, kw_only=True)
class Served:
    """`children`: objects made for the deployment, by kind and name. `reports`: fresh ones only, by gateway pod."""

    offers: tuple[Offer, ...] = ()
    pods: tuple[ServingPod, ...] = ()
    tasks: Mapping[str, Task] = field(default_factory=dict)
    children: Mapping[tuple[str, str], Child] = field(default_factory=dict)
    reports: Mapping[str, GatewayReport] = field(default_factory=dict)
    api_groups: frozenset[str] = frozenset()

    @property
    def gateways(self) -> list[ServingPod]:
        return [pod for pod in self.pods if pod.role is Role.GATEWAY]

    def servers(self, version: int | None) -> list[ServingPod]:
        """Servers of one version, or (None) those of all versions."""
        return [pod for pod in self.pods if pod.role is Role.SERVER and pod.version == version]


def observe_serving(
    deployment: ModelDeployment,
    *,
    pods: Iterable[Object],
    children: Iterable[Object],
    jobs: Iterable[TrainingJob],
    reports: Mapping[str, GatewayReport],
    api_groups: frozenset[str] = frozenset(),
) -> Served:
    """The view of one deployment. What another of its name left behind is not ours to count; claims are kept by name."""
    mine = [pod for pod in pods if pod["metadata"].get("labels", {}).get(UID_LABEL) == deployment.uid]
    kept = [one for one in children if owned(one, deployment.uid) or one["kind"] == "PersistentVolumeClaim"]
    serving = tuple(sorted(filter(None, map(_pod, mine)), key=lambda pod: pod.name))
    return Served(
        offers=tuple(_offers(deployment, list(jobs))),
        pods=serving,
        tasks={one["metadata"]["name"]: _task(one, mine) for one in kept if one["kind"] == "Job"},
        children={(child.kind, child.name): child for child in map(child_of, kept)},
        reports={pod.name: reports[pod.name] for pod in serving if pod.name in reports},
        api_groups=api_groups,
    )


def offer_of(job: TrainingJob, *, key: str = "", offered: str = "") -> Offer:
    """What a job that has succeeded left behind. Of its variables the publisher gets those that can't choose what it runs."""
    workspace = job.spec.workspace
    uri = f"{remote_folder(workspace.uri, job.namespace, job.name)}/artifacts" if workspace.uri else ""
    return Offer(
        key=key or f"job/{job.uid}",
        offered=offered or job.status.completion_time or job.created,
        job=job.name,
        claim="" if uri else workspace.claim or claim_name(job.name),
        path="" if uri else f"{job.name}/artifacts" if workspace.claim else "artifacts",
        uri=uri,
        env=tuple(one for one in job.spec.env if publisher_env.given(one.name)) if uri else (),
        gates=tuple(job.spec.publish.gates) if job.spec.publish else (),
    )


def _offers(deployment: ModelDeployment, jobs: list[TrainingJob]) -> Iterable[Offer]:
    """Offers of jobs that publish here, oldest first, then those made by hand, in their order."""
    done = {job.name: job for job in jobs if job.namespace == deployment.namespace and job.status.phase is Phase.SUCCEEDED}
    publishing = [job for job in done.values() if job.spec.publish and job.spec.publish.deployment == deployment.name]
    yield from sorted(map(offer_of, publishing), key=lambda offer: (offer.offered, offer.key))
    for one in deployment.spec.offers:
        key = f"offer/{one.name}"
        if one.job is None:
            yield Offer(key=key, offered="", claim=one.claim or "", path=one.path or "", uri=one.uri or "", env=tuple(one.env))
        elif one.job in done:
            yield offer_of(done[one.job], key=key)


def _pod(pod: Object) -> ServingPod | None:
    labels, status = pod["metadata"].get("labels", {}), pod.get("status", {})
    if labels.get(ROLE_LABEL) not in list(Role) or status.get("phase") in ("Succeeded", "Failed"):
        return None
    conditions = {one["type"]: one for one in status.get("conditions", [])}
    leaving = "deletionTimestamp" in pod["metadata"]
    ready = conditions.get("Ready", {}).get("status") == "True" and not leaving
    version = labels.get(VERSION_LABEL, "")
    return ServingPod(
        name=pod["metadata"]["name"],
        role=Role(labels[ROLE_LABEL]),
        version=int(version) if version.isdigit() else None,
        address=status.get("podIP", ""),
        ready=ready,
        waiting="" if ready or leaving else _waiting(status, conditions),
    )


def _waiting(status: Object, conditions: Mapping[str, Object]) -> str:
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return one_line(scheduled.get("message") or "not scheduled yet", _TASK_REASONS)
    for container in status.get("containerStatuses", []):
        last = container.get("lastState", {}).get("terminated") or container.get("state", {}).get("terminated")
        waiting = container.get("state", {}).get("waiting") or {}
        if last and last.get("exitCode"):
            said = one_line(last.get("message") or "", _TASK_REASONS)
            return f"it ended with exit code {last['exitCode']}" + (f": {said}" if said else "")
        if waiting.get("message"):
            return one_line(f"{waiting.get('reason')}: {waiting['message']}", _TASK_REASONS)
        if "running" in container.get("state", {}):
            return "it runs and is not ready yet"
    return "it is being started"


def _task(job: Object, pods: list[Object]) -> Task:
    metadata = job["metadata"]
    conditions = {one["type"] for one in job.get("status", {}).get("conditions") or [] if one.get("status") == "True"}
    mine = [pod for pod in pods if pod["metadata"].get("labels", {}).get("batch.kubernetes.io/job-name") == metadata["name"]]
    newest = max(mine, key=lambda pod: pod["metadata"].get("creationTimestamp", ""), default=None)
    state = TaskState.RUNNING
    if "Complete" in conditions:
        state = TaskState.SUCCEEDED
    elif conditions & {"Failed", "FailureTarget"}:
        state = TaskState.FAILED
    words: Mapping[str, Any] = {}
    for pod in sorted(mine, key=lambda pod: pod["metadata"].get("creationTimestamp", "")):
        words = _last_words(pod) or words
    status = newest.get("status", {}) if newest else {}
    waiting = (
        _waiting(status, {one["type"]: one for one in status.get("conditions", [])}) if newest else "its pod is still to come"
    )
    return Task(name=metadata["name"], uid=metadata.get("uid", ""), state=state, words=words, waiting=waiting)


def _last_words(pod: Object) -> Mapping[str, Any]:
    for container in pod.get("status", {}).get("containerStatuses", []):
        said = (container.get("state", {}).get("terminated") or {}).get("message")
        if not said:
            continue
        try:
            words = json.loads(said)
        except ValueError:
            return {"ok": False, "reason": "Failed", "message": said[-_TASK_REASONS:]}
        if isinstance(words, dict):
            return words
    return {}
