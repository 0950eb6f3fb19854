"""The claim and the pod that take an artifact: made when they are needed, and why they don't come up when they don't."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable

from trainwright.api.deployment import ModelDeployment
from trainwright.api.deployment_status import VersionState
from trainwright.api.model import amount
from trainwright.api.names import PUBLISHER_IMAGE_ANNOTATION, incoming_name, models_claim_name, publisher_name
from trainwright.cli.app import UserError
from trainwright.cluster.port import (
    CLAIMS,
    EVENTS,
    PODS,
    SERVICE_ACCOUNTS,
    STORAGE_CLASSES,
    AlreadyExists,
    Cluster,
    ClusterError,
    Forbidden,
    Invalid,
    NotFound,
    Object,
)
from trainwright.observe.workers import one_line
from trainwright.plan.serving import incoming

START_SECONDS = 300.0
GONE_SECONDS = 60.0
LOOK_SECONDS = 0.5
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
# What waiting longer seldom mends.
HOPELESS = ("ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError")


async def image_of(cluster: Cluster, deployment: ModelDeployment) -> str:
    """The publisher's image, as the operator says it. Raises `UserError`."""
    name = publisher_name(deployment.name)
    try:
        account = await cluster.get(SERVICE_ACCOUNTS, name, deployment.namespace)
    except NotFound:
        account = {"metadata": {}}
    image = account["metadata"].get("annotations", {}).get(PUBLISHER_IMAGE_ANNOTATION)
    if image is None:
        raise UserError(
            f"no operator has said yet which image takes artifacts for {deployment.name} (service account {name}); "
            f"is one there, and of this release? trainwright doctor"
        )
    return str(image)


async def ensure_claim(cluster: Cluster, deployment: ModelDeployment, needed: int) -> None:
    """The claim, large enough for so many bytes. Raises `UserError`."""
    name, namespace = incoming_name(deployment.name), deployment.namespace
    try:
        there = await cluster.get(CLAIMS, name, namespace)
    except NotFound:
        made = incoming.claim(deployment, needed, await _storage_class(cluster, deployment))
        with contextlib.suppress(AlreadyExists):
            await cluster.create(CLAIMS, made)
        return
    if "deletionTimestamp" in there["metadata"]:
        raise UserError(f"the claim {name} is being deleted; say it again when it is gone")
    size = there["spec"]["resources"]["requests"]["storage"]
    wanted = incoming.size_for(needed)
    if (amount(str(size)) or 0) >= needed * 1.01:
        return
    try:
        await cluster.patch(CLAIMS, name, namespace, {"spec": {"resources": {"requests": {"storage": wanted}}}})
    except (Invalid, Forbidden) as error:
        raise UserError(
            f"the claim {name} has {size}, the artifact needs {wanted}, and the claim can't grow ({one_line(error.message)}); "
            f"remove it, and say this again: kubectl delete pvc {name} -n {namespace}"
        ) from None


async def _storage_class(cluster: Cluster, deployment: ModelDeployment) -> str | None:
    """That of the served models' claim; None for the cluster's default one, which must be there."""
    with contextlib.suppress(NotFound):
        models = deployment.spec.storage.claim or models_claim_name(deployment.name)
        claim = await cluster.get(CLAIMS, models, deployment.namespace)
        if name := claim["spec"].get("storageClassName"):
            return str(name)
    try:
        classes = (await cluster.list(STORAGE_CLASSES)).items
    except Forbidden:
        return None
    if not any(one["metadata"].get("annotations", {}).get(DEFAULT_CLASS) == "true" for one in classes):
        names = ", ".join(one["metadata"]["name"] for one in classes) or "none"
        raise UserError(
            f"there is nowhere to send it to: the cluster has no default storage class (storage classes: {names}). "
            f"Make a claim {incoming_name(deployment.name)} of a class that there is, or publish from object storage"
        )
    return None


async def start(cluster: Cluster, deployment: ModelDeployment, *, image: str, digest: str, token: str) -> Object:
    """Make the pod, in place of one that was left behind. Raises `UserError` while somebody else sends something."""
    name, namespace = incoming_name(deployment.name), deployment.namespace
    token_sha256 = hashlib.sha256(token.encode()).hexdigest()
    keep = [one for one in _awaited(deployment) if one != digest]
    pod = incoming.receiver(deployment, image=image, digest=digest, token_sha256=token_sha256, keep=keep)
    with contextlib.suppress(NotFound):
        there = await cluster.get(PODS, name, namespace)
        over = there.get("status", {}).get("phase") in ("Succeeded", "Failed") or "deletionTimestamp" in there["metadata"]
        if not over and there["metadata"].get("annotations", {}).get(incoming.DIGEST_ANNOTATION) != digest:
            since = there["metadata"]["creationTimestamp"]
            raise UserError(
                f"another artifact is being sent to {deployment.name} (pod {name}, since {since}). The pod ends by itself "
                f"when nothing has come for five minutes; sooner by kubectl delete pod {name} -n {namespace}"
            )
        await stop(cluster, there)
        await _gone(cluster, there)
    return await cluster.create(PODS, pod)


async def stop(cluster: Cluster, pod: Object) -> None:
    """Delete the pod, if it still is there."""
    metadata = pod["metadata"]
    with contextlib.suppress(ClusterError):
        await cluster.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"])


async def ready(cluster: Cluster, pod: Object, said: Callable[[str], None]) -> str:
    """Its address as soon as it takes something; `said` is told why it doesn't yet. Raises `UserError`."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    until = time.monotonic() + START_SECONDS
    while True:
        there = await cluster.get(PODS, name, namespace)
        if (ended := ending(there)) is not None:
            raise UserError(f"the pod {name}, which takes artifacts, has ended: {ended}")
        conditions = {one["type"]: one for one in there.get("status", {}).get("conditions") or []}
        if conditions.get("Ready", {}).get("status") == "True" and there["status"].get("podIP"):
            return str(there["status"]["podIP"])
        reason, why = _waiting(there, conditions)
        if not there["spec"].get("nodeName"):
            why = await _claims_trouble(cluster, name, namespace) or why
        said(why)
        if reason in HOPELESS or time.monotonic() > until:
            raise UserError(f"the pod {name}, which takes artifacts, does not start: {why}")
        await asyncio.sleep(LOOK_SECONDS)


def ending(pod: Object) -> str | None:
    """How a pod has ended; None while it hasn't."""
    if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
        return None
    for container in pod["status"].get("containerStatuses") or []:
        if ended := container.get("state", {}).get("terminated"):
            return one_line(ended.get("message") or f"exit code {ended.get('exitCode')}")
    return one_line(pod["status"].get("message") or pod["status"].get("reason") or pod["status"]["phase"])


def _waiting(pod: Object, conditions: dict[str, Object]) -> tuple[str, str]:
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return str(scheduled.get("reason", "")), one_line(scheduled.get("message") or "it is not scheduled")
    for container in pod.get("status", {}).get("containerStatuses") or []:
        if waiting := container.get("state", {}).get("waiting"):
            reason = str(waiting.get("reason", ""))
            return reason, one_line(": ".join(filter(None, (reason, waiting.get("message")))))
    return "", "it is being started"


async def _claims_trouble(cluster: Cluster, name: str, namespace: str) -> str:
    """What the cluster says of a claim that isn't bound: more than of the pod that waits for it."""
    try:
        claim = await cluster.get(CLAIMS, name, namespace)
        if claim["spec"].get("volumeName"):
            return ""
        events = (await cluster.list(EVENTS, namespace)).items
    except ClusterError:
        return ""
    told = [
        one["message"]
        for one in events
        if one.get("involvedObject", {}).get("uid") == claim["metadata"]["uid"] and one.get("type") == "Warning"
    ]
    return one_line(f"claim {name} is not bound: {told[-1]}") if told else ""


async def _gone(cluster: Cluster, pod: Object) -> None:
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    until = time.monotonic() + GONE_SECONDS
    while time.monotonic() < until:
        try:
            there = await cluster.get(PODS, name, namespace)
        except NotFound:
            return
        if there["metadata"]["uid"] != pod["metadata"]["uid"]:
            return
        await asyncio.sleep(LOOK_SECONDS)
    raise UserError(f"the pod {name} of an earlier time does not go away; kubectl describe pod {name} -n {namespace} says why")


def _awaited(deployment: ModelDeployment) -> list[str]:
    """Folders of the claim whose artifacts have been offered, and are not decided about."""
    state = {one.offer: one.state for one in deployment.status.versions}
    claim = incoming_name(deployment.name)
    return [
        one.path
        for one in deployment.spec.offers
        if one.claim == claim and one.path and state.get(f"offer/{one.name}") in (None, VersionState.CANDIDATE)
    ]
