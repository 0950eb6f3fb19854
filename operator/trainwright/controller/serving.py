"""ModelDeployments: their stores, their queue, their gateways, and one pass over one of them.

A pass observes, plans, carries out, writes status once, tells; as a pass over a job does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from trainwright.api.deployment import ModelDeployment, parse, read_status
from trainwright.api.deployment_status import DeploymentConditionType, ModelDeploymentStatus, Version
from trainwright.api.errors import InvalidSpec
from trainwright.api.job import TrainingJob
from trainwright.api.job import parse as parse_job
from trainwright.api.names import COMPONENT_LABEL, DEPLOYMENT_LABEL, MANAGED_BY_LABEL, MANAGER, SERVING
from trainwright.api.reasons import Reason
from trainwright.api.status import Phase
from trainwright.cluster.port import (
    CLAIMS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    HTTP_ROUTES,
    JOBS,
    MODEL_DEPLOYMENTS,
    NETWORK_POLICIES,
    PODS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Cluster,
    Forbidden,
    Invalid,
    NotFound,
    Object,
)
from trainwright.controller.events import tell
from trainwright.controller.gateways import Gateways, Wanted
from trainwright.controller.making import Maker, NameTaken, make
from trainwright.controller.metrics import Metrics
from trainwright.controller.optional_kinds import DISCOVERY_SECONDS, Discover, OptionalKinds, keep_asking
from trainwright.controller.passes import Passes
from trainwright.controller.patches import difference
from trainwright.controller.store import Store
from trainwright.observe.serving import Served, observe_serving
from trainwright.observe.times import rfc3339
from trainwright.observe.workers import one_line
from trainwright.plan.serving.plan import plan
from trainwright.plan.serving.pods import token
from trainwright.plan.serving.types import ServingPlan
from trainwright.plan.types import Event, Settings
from trainwright.schedulers.objects import Api

log = logging.getLogger(__name__)

CHILDREN = {
    resource.kind: resource
    for resource in (SERVICE_ACCOUNTS, CONFIG_MAPS, CLAIMS, SERVICES, DEPLOYMENTS, JOBS, NETWORK_POLICIES, HTTP_ROUTES)
}
_WATCHED = (SERVICE_ACCOUNTS, CONFIG_MAPS, CLAIMS, SERVICES, DEPLOYMENTS, JOBS)
# Figures of a canary, drift and counts change all the time; they are written at most this often.
FIGURES_SECONDS = 2.0
REFUSED_RETRY_SECONDS = 5.0
_FIGURES = ("candidate", "drift", "labels", "reason", "servers", "gateways")


class Serving:
    """`wake` adds a deployment's key to the queue, `wake_job` a job's; `jobs` are the TrainingJobs that may offer something."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        namespace: str | None,
        jobs: Store,
        settings: Settings,
        metrics: Metrics,
        wake: Callable[[str], None],
        wake_job: Callable[[str], None],
        watch_deployments: bool = False,
        sync_interval: float = 1.0,
        discovery_seconds: float = DISCOVERY_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._cluster = cluster
        self._jobs = jobs
        self._settings = settings
        self._wake = wake
        self._wake_job = wake_job
        self._watch = watch_deployments
        self._clock = clock
        self._written: dict[str, float] = {}
        self.deployments = Store(cluster, MODEL_DEPLOYMENTS, namespace=namespace, on_change=self._changed)
        mine = {MANAGED_BY_LABEL: MANAGER, COMPONENT_LABEL: SERVING}
        self._pods, *self._children = (
            Store(cluster, one, namespace=namespace, labels=mine, index=DEPLOYMENT_LABEL, on_change=self._wake_owner)
            for one in (PODS, *_WATCHED, *((NETWORK_POLICIES,) if settings.isolated_from is not None else ()))
        )
        self._discovery_seconds = discovery_seconds
        self._routes = OptionalKinds(
            Api(group=HTTP_ROUTES.group, versions=(HTTP_ROUTES.version,), kinds={HTTP_ROUTES.kind: HTTP_ROUTES.plural}),
            lambda resource: Store(
                cluster, resource, namespace=namespace, labels=mine, index=DEPLOYMENT_LABEL, on_change=self._wake_owner
            ),
            on_change=self._look_at_all,
        )
        self._passes = Passes(cluster, self.deployments, metrics)
        self.gateways = Gateways(
            interval=sync_interval,
            on_news=wake,
            on_sync=lambda answered: metrics.syncs.labels("answered" if answered else "failed").inc(),
        )

    @property
    def stores(self) -> list[Store]:
        """What must have been listed before the first pass."""
        return [self._pods, *self._children, *([self.deployments] if self._watch else [])]

    def changed(self, raw: Object) -> None:
        """A ModelDeployment came or changed."""
        if self.deployments.put(raw):
            self._changed(raw)

    def deleted(self, raw: Object) -> None:
        """A ModelDeployment is gone."""
        self.deployments.remove(raw)
        self._changed(raw)

    def job_changed(self, raw: Object) -> None:
        """A TrainingJob came, changed or went: whom it offers its artifact to has a look."""
        metadata, spec = raw["metadata"], raw.get("spec", {})
        if publish := spec.get("publish"):
            self._wake(f"{metadata['namespace']}/{publish['deployment']}")
        for one in self.deployments.all():
            named = any(offer.get("job") == metadata["name"] for offer in one["spec"].get("offers") or [])
            if named and one["metadata"]["namespace"] == metadata["namespace"]:
                self._changed(one)

    def offered(self, job: TrainingJob) -> Version | None:
        """What became of a job's artifact at the deployment that it publishes to."""
        raw = self.deployments.get(job.namespace, job.spec.publish.deployment) if job.spec.publish else None
        if raw is None:
            return None
        return next((one for one in read_status(raw).versions if one.offer == f"job/{job.uid}"), None)

    def serves_from(self, namespace: str, claim: str) -> str | None:
        """The deployment whose models lie in a claim: only its publisher may write there."""
        made = next((one.get(namespace, claim) for one in self._children if one.resource is CLAIMS), None)
        if made is not None:
            return str(made["metadata"]["labels"][DEPLOYMENT_LABEL])
        for one in self.deployments.all():
            if one["metadata"]["namespace"] == namespace and one["spec"].get("storage", {}).get("claim") == claim:
                return str(one["metadata"]["name"])
        return None

    async def discover(self, discover: Discover) -> None:
        """See what the cluster serves, before the first pass."""
        await self._routes.discover(discover)

    async def run(self, discover: Discover) -> None:
        """Talk to gateways until cancelled, and follow HTTPRoutes where there are such."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.gateways.run())
            tasks.create_task(
                keep_asking([self._routes], discover, interval=self._discovery_seconds, asked=self._routes_are_wanted)
            )

    def _routes_are_wanted(self) -> bool:
        return any((one["spec"].get("gateway") or {}).get("httpRoute") for one in self.deployments.all())

    async def relist(self) -> None:
        """Compare with lists, and look at every deployment. Raises `ClusterError`."""
        for store in (self._pods, *self._children, self.deployments):
            await store.relist()
        self._look_at_all()

    async def reconcile(self, key: str) -> float | None:
        """One pass; returns in how many seconds another is wanted. Raises what the API raised, after logging it."""
        return await self._passes.run(key, self._pass)

    async def _pass(self, key: str) -> float | None:
        namespace, name = key.split("/", 1)
        raw = self.deployments.get(namespace, name)
        if raw is None:
            self.gateways.forget(key)
            self._written.pop(key, None)
            return None
        try:
            deployment = parse(raw)
        except InvalidSpec as error:
            await self._refuse(raw, error)
            return None
        served = self._observe(key, deployment)
        decided = plan(deployment, served, self._clock(), self._settings)
        if decided.delete:
            # Our copy may lag behind; nothing is destroyed on hearsay.
            there = await self._cluster.get(MODEL_DEPLOYMENTS, name, namespace)
            if there["metadata"]["resourceVersion"] != deployment.resource_version:
                self.deployments.put(there)
                return 0.0
        refused = await self._carry_out(deployment, decided)
        status, later = decided.status, decided.requeue_after
        if refused is not None:
            status, later = deployment.status.model_copy(update={"reason": refused}), REFUSED_RETRY_SECONDS
        wait = await self._write(key, raw, deployment, status)
        if wait is None and refused is None:
            for event in decided.events:
                await self._tell(raw, event)
        if decided.sync is not None and refused is None and wait is None:
            addresses = {pod.name: pod.address for pod in served.gateways if pod.address}
            self.gateways.tell(key, Wanted(addresses=addresses, body=decided.sync, token=token(deployment, self._settings)))
        # Our own write wakes nobody; a new step may call for more.
        moved = _moved(deployment.status, status)
        if wait is None and moved:
            for version in status.versions:
                if version.job and version not in deployment.status.versions:
                    self._wake_job(f"{namespace}/{version.job}")
        wishes = (later, wait, 0.0 if wait is None and moved else None)
        return min((wish for wish in wishes if wish is not None), default=None)

    def _observe(self, key: str, deployment: ModelDeployment) -> Served:
        namespace, name = deployment.namespace, deployment.name
        children = [child for store in self._all_children for child in store.labelled(namespace, name)]
        return observe_serving(
            deployment,
            pods=self._pods.labelled(namespace, name),
            children=children,
            jobs=self._offering(deployment),
            reports=self.gateways.reports(key),
            api_groups=frozenset({HTTP_ROUTES.group} if self._routes.version else ()),
        )

    def _offering(self, deployment: ModelDeployment) -> Iterator[TrainingJob]:
        """Jobs that have succeeded and publish here, or are named in an offer."""
        named = {offer.job for offer in deployment.spec.offers if offer.job}
        for raw in self._jobs.all():
            metadata, spec = raw["metadata"], raw.get("spec", {})
            here = metadata.get("namespace") == deployment.namespace
            publishes = (spec.get("publish") or {}).get("deployment") == deployment.name
            if not here or not (publishes or metadata["name"] in named):
                continue
            if (raw.get("status") or {}).get("phase") != Phase.SUCCEEDED:
                continue
            try:
                yield parse_job(raw)
            except InvalidSpec:
                continue

    async def _carry_out(self, deployment: ModelDeployment, decided: ServingPlan) -> str | None:
        """Do what the plan says; why something was refused, in one line. Raises `ClusterError` for what is not the user's."""
        maker = Maker("deployment", deployment.name, deployment.uid, DEPLOYMENT_LABEL)
        try:
            for child in decided.make:
                self._put(await make(self._cluster, CHILDREN[child["kind"]], child, maker))
            for child in decided.apply:
                self._put(await self._cluster.apply(CHILDREN[child["kind"]], child))
            for removal in decided.delete:
                await self._delete(deployment, removal.kind, removal.name, removal.uid)
        except (Forbidden, Invalid, NameTaken) as error:
            return one_line(str(error))
        return None

    async def _delete(self, deployment: ModelDeployment, kind: str, name: str, uid: str) -> None:
        resource = CHILDREN[kind]
        try:
            await self._cluster.delete(resource, name, deployment.namespace, uid=uid)
        except NotFound:
            log.debug("%s is gone already", name)
        next(store for store in self._all_children if store.resource == resource).drop(deployment.namespace, name)

    @property
    def _all_children(self) -> tuple[Store, ...]:
        return (*self._children, *self._routes.stores.values())

    def _put(self, made: Object) -> None:
        next(store for store in self._all_children if store.resource.kind == made["kind"]).put(made)

    async def _write(self, key: str, raw: Object, deployment: ModelDeployment, status: ModelDeploymentStatus) -> float | None:
        """Write status if it differs; or say in how many seconds it may be written."""
        patch = difference(raw.get("status") or {}, status.wire()) if status != deployment.status else {}
        if not patch:
            return None
        now = self._clock()
        wait = self._written.get(key, 0.0) + FIGURES_SECONDS - now
        if 0 < wait <= FIGURES_SECONDS and not _moved(deployment.status, status):
            return wait
        body = {"metadata": {"resourceVersion": deployment.resource_version}, "status": patch}
        try:
            stored = await self._cluster.patch(
                MODEL_DEPLOYMENTS, deployment.name, deployment.namespace, body, subresource="status"
            )
        except NotFound:
            self.deployments.drop(deployment.namespace, deployment.name)
            return None
        self._written[key] = now
        self.deployments.put(stored)
        return None

    async def _refuse(self, raw: Object, error: InvalidSpec) -> None:
        """A deployment that got past the schema and still can't be: say what is wrong, once."""
        status = read_status(raw)
        if status.reason == str(error):
            return
        now = self._clock()
        condition = {
            "type": DeploymentConditionType.AVAILABLE.value,
            "status": "False",
            "reason": Reason.INVALID_SPEC.value,
            "message": str(error),
            "lastTransitionTime": rfc3339(now),
            "observedGeneration": raw["metadata"].get("generation", 1),
        }
        others = [one.wire() for one in status.conditions if one.type is not DeploymentConditionType.AVAILABLE]
        body = {
            "metadata": {"resourceVersion": raw["metadata"]["resourceVersion"]},
            "status": {"reason": str(error), "conditions": [condition, *others]},
        }
        metadata = raw["metadata"]
        self.deployments.put(
            await self._cluster.patch(MODEL_DEPLOYMENTS, metadata["name"], metadata["namespace"], body, subresource="status")
        )
        await self._tell(raw, Event(reason=Reason.INVALID_SPEC, message=str(error), key="invalid"))

    async def _tell(self, raw: Object, event: Event) -> None:
        of = raw["metadata"]
        await tell(self._cluster, MODEL_DEPLOYMENTS, of["namespace"], of["name"], of["uid"], event, self._clock())

    def _changed(self, raw: Object) -> None:
        self._wake(f"{raw['metadata'].get('namespace', '')}/{raw['metadata']['name']}")

    def _look_at_all(self) -> None:
        for raw in self.deployments.all():
            self._changed(raw)

    def _wake_owner(self, child: Object) -> None:
        name = child["metadata"].get("labels", {}).get(DEPLOYMENT_LABEL)
        if name:
            self._wake(f"{child['metadata'].get('namespace', '')}/{name}")


def _moved(old: ModelDeploymentStatus, new: ModelDeploymentStatus) -> bool:
    """Whether more differs than figures and words: what must be written before anything else is done."""
    plain: dict[str, Any] = dict.fromkeys(_FIGURES) | {"conditions": []}
    if old.model_copy(update=plain) != new.model_copy(update=plain) or _said(old) != _said(new):
        return True
    before, after = old.candidate, new.candidate
    if before is None or after is None:
        return before is not after
    return (before.version, before.step, before.canary_step) != (after.version, after.step, after.canary_step)


def _said(status: ModelDeploymentStatus) -> list[tuple[str, str, str]]:
    return [(one.type.value, one.status, one.reason) for one in status.conditions]
