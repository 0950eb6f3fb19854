"""The operator under the rights that the chart gives it, on a real API server: one life of a job and of a deployment, in which everything
that the operator can run into happens once. The API server's own audit log says what was asked for; it must be all that was granted, and
nothing else.

The operator is a real process with its service account's token; what nodes would do is done by the administrator.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import http_route
from support.builders import job
from support.kinds import without_kinds
from support.pods import ScriptedKubelet, ended
from support.release import RELEASE, Plane, ReleasedOperator
from support.schedulers import FOLDERS, ScriptedKueue, definitions
from support.schedulers import kinds as kinds_of
from support.schedulers import policy as asking
from support.waiting import eventually
from trainwright.api.scheduling import ProviderName
from trainwright.cluster.kube import KubeCluster
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
    TRAINING_JOBS,
    NotFound,
    Resource,
)

# What is made for the whole module is taken away after its last test.
pytestmark = pytest.mark.timeout(400)
Object = dict[str, Any]
GANGS = (ProviderName.NATIVE, ProviderName.VOLCANO, ProviderName.COSCHEDULING, ProviderName.KAI)
KINDS = ("trainingjobs.trainwright.dev", "modeldeployments.trainwright.dev", http_route.NAME)
ALL_RIGHTS = "crds.install=false,operator.replicas=2,networkPolicies.pods.enabled=true"
# Not a request of its own: asked for by the API server, when an owner's deletion is to be held up. It has a test below.
NEVER_REQUESTED = {
    ("update", "trainwright.dev/trainingjobs/finalizers"),
    ("update", "trainwright.dev/modeldeployments/finalizers"),
}


@pytest.fixture(scope="module")
def kinds(bare_plane: Plane) -> Iterator[None]:
    """Our kinds, and the Gateway API's route."""
    bare_plane.kubectl("apply", "-f", Path(__file__).parents[2] / "manifests" / "crds")
    bare_plane.kubectl("apply", "-f", "-", stdin=json.dumps(http_route.definition()))
    others = [one for provider in FOLDERS if not missing(provider) for one in definitions(provider)]
    for one in others:
        # As large as they are, they can't be applied by a client.
        bare_plane.kubectl("create", "-f", "-", stdin=json.dumps(one))
    names = [*KINDS, *(one["metadata"]["name"] for one in others)]
    bare_plane.kubectl("wait", "crd", *names, "--for=condition=Established", "--timeout=60s")
    yield
    without_kinds(bare_plane.kubectl, *names)


@pytest.fixture
async def admin(bare_plane: Plane) -> AsyncIterator[KubeCluster]:
    connected = await KubeCluster.connect(kubeconfig=bare_plane.kubectl.kubeconfig)
    yield connected
    await connected.close()


@pytest.fixture(params=["cluster", "namespace"])
def operator(
    request: pytest.FixtureRequest, bare_plane: Plane, kinds: None, space: str, tmp_path: Path
) -> Iterator[ReleasedOperator]:
    """An operator that runs under what a release with every right grants it."""
    bare_plane.install(space, "--set", f"scope={request.param},{ALL_RIGHTS}")
    made = ReleasedOperator(bare_plane, space, tmp_path)
    with made.running():
        yield made
    bare_plane.uninstall(space)


class Life:
    """What happens in one namespace, and what the operator makes of it."""

    def __init__(self, admin: KubeCluster, space: str) -> None:
        self.admin = admin
        self.space = space
        self._nudges = 0

    async def there(self, resource: Resource, name: str) -> Object | None:
        try:
            return await self.admin.get(resource, name, self.space)
        except NotFound:
            return None

    async def appears(self, resource: Resource, name: str) -> Object:
        found: Object = await eventually(lambda: self.there(resource, name), within=30, what=f"{resource.kind} {name}")
        return found

    async def reason(self, resource: Resource, name: str, words: str) -> None:
        """Wait until the object's one line has these words."""

        async def said() -> bool:
            return words in ((await self.admin.get(resource, name, self.space)).get("status") or {}).get("reason", "")

        await eventually(said, within=30, what=f"{name} says {words!r}")

    async def nudge(self, resource: Resource, name: str) -> None:
        """Another event of it: the operator looks again."""
        self._nudges += 1
        await self.admin.patch(resource, name, self.space, {"metadata": {"annotations": {"nudged": str(self._nudges)}}})

    async def change_hash(self, resource: Resource, name: str) -> None:
        """As if it had been made by another version: the operator applies it anew."""
        wanted = (await self.appears(resource, name))["metadata"]["annotations"]["trainwright.dev/hash"]
        await self.admin.patch(resource, name, self.space, {"metadata": {"annotations": {"trainwright.dev/hash": "other"}}})

        async def as_it_was() -> bool:
            now = await self.admin.get(resource, name, self.space)
            return bool(now["metadata"]["annotations"]["trainwright.dev/hash"] == wanted)

        await eventually(as_it_was, within=20, what=f"{resource.kind} {name} is applied anew")

    async def trains(self, kubelet: ScriptedKubelet, name: str, *, attempt: int) -> None:
        """What is deleted goes, what is there runs, until all of the attempt does."""

        async def running() -> bool:
            await kubelet.confirm_deletions(name)
            await kubelet.run_all(name)
            status = (await self.admin.get(TRAINING_JOBS, name, self.space)).get("status") or {}
            return bool((status.get("phase"), status.get("attempt")) == ("Running", attempt))

        await eventually(running, within=60, every=0.1, what=f"attempt {attempt} of {name} runs")

    async def phase(self, name: str, wanted: str) -> None:
        async def reached() -> bool:
            return ((await self.admin.get(TRAINING_JOBS, name, self.space)).get("status") or {}).get("phase") == wanted

        await eventually(reached, within=30, what=f"{name} is {wanted}")


def foreign(resource: Resource, name: str, space: str, **fields: Any) -> Object:
    """Something of somebody else's."""
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name, "namespace": space}, **fields}


CONTAINER = {"name": "a", "image": "a"}
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [CONTAINER], "restartPolicy": "Always"}}
SPECS: dict[Resource, Object] = {
    SERVICES: {"spec": {"ports": [{"port": 80}]}},
    CLAIMS: {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
    NETWORK_POLICIES: {"spec": {"podSelector": {}}},
    PODS: {"spec": {"containers": [CONTAINER]}},
    SERVICE_ACCOUNTS: {},
    CONFIG_MAPS: {},
    DEPLOYMENTS: {"spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}},
    HTTP_ROUTES: {"spec": {}},
    JOBS: {"spec": {"suspend": True, "template": {"spec": {"containers": [CONTAINER], "restartPolicy": "Never"}}}},
}


async def job_whose_names_are_taken(life: Life) -> None:
    """Each of a job's names is somebody else's first."""
    taken = {SERVICES: "taken", CLAIMS: "taken-workspace", NETWORK_POLICIES: "taken"}
    for resource, name in {**taken, PODS: "taken-a1-worker-0"}.items():
        await life.admin.create(resource, foreign(resource, name, life.space, **SPECS[resource]))
    await life.admin.create(TRAINING_JOBS, job("taken").namespace(life.space).spec(workspace={"size": "1Gi"}).build())
    await life.reason(TRAINING_JOBS, "taken", "exists and belongs to something else")
    for resource, name in taken.items():
        await life.admin.delete(resource, name, life.space)
    await life.nudge(TRAINING_JOBS, "taken")
    await life.reason(TRAINING_JOBS, "taken", "Pod taken-a1-worker-0 exists")
    await life.admin.delete(PODS, "taken-a1-worker-0", life.space, grace_seconds=0)
    await life.nudge(TRAINING_JOBS, "taken")
    await life.appears(PODS, "taken-a1-worker-0")
    await life.admin.delete(TRAINING_JOBS, "taken", life.space)


async def life_of_a_job(life: Life) -> None:
    """Trained, failed, restarted, changed under the operator's hands, succeeded, and over."""
    kubelet = ScriptedKubelet(life.admin, life.space, bind=False)
    policy = {"ttlSecondsAfterFinished": 1, "cleanPodPolicy": "All"}
    wanted = job().namespace(life.space).workers(2).spec(workspace={"size": "1Gi"}).run_policy(**policy)
    await life.admin.create(TRAINING_JOBS, wanted.build())
    await life.phase("digits", "Queued")
    await life.change_hash(SERVICES, "digits")
    await life.change_hash(NETWORK_POLICIES, "digits")
    await life.trains(kubelet, "digits", attempt=1)
    await kubelet.become(ended((await kubelet.pods("digits"))[0], 137, message="the end"))

    await life.trains(kubelet, "digits", attempt=2)
    await kubelet.end_all("digits")

    async def gone() -> bool:
        await kubelet.confirm_deletions("digits")
        return await life.there(TRAINING_JOBS, "digits") is None

    await eventually(gone, within=30, what="its time to live is over")


async def job_that_waits_for_room(life: Life) -> None:
    """There are no nodes; and of one namespace's operator they are none of its business."""
    policy = {"schedulingPolicy": {"provider": "capacity"}}
    await life.admin.create(TRAINING_JOBS, job("queued").namespace(life.space).run_policy(**policy).build())

    async def told() -> bool:
        reason = ((await life.admin.get(TRAINING_JOBS, "queued", life.space)).get("status") or {}).get("reason", "")
        return "no node will do" in reason or "looks after namespace" in reason

    await eventually(told, within=30, what="why it waits")
    await life.admin.delete(TRAINING_JOBS, "queued", life.space)


def missing(provider: ProviderName) -> str:
    """Why a scheduler's kinds can't be had here; empty when they can."""
    try:
        return "" if provider is ProviderName.NATIVE or list(definitions(provider)) else "none"
    except FileNotFoundError as error:
        return str(error)


def of_groups(provider: ProviderName) -> set[str]:
    """Resources of a provider, as roles name them."""
    kueue = {"kueue.x-k8s.io/workloads/status", "kueue.x-k8s.io/resourceflavors"} if provider is ProviderName.KUEUE else set()
    return {f"{one.group}/{one.plural}" for one in kinds_of(provider)} | kueue


async def life_of_a_gang(life: Life, provider: ProviderName) -> None:
    """Its group's name is taken; then it is made, and goes when the job is suspended."""
    name = str(provider)
    for resource in kinds_of(provider):
        policy = {"gang": {"minCount": 1}}
        own = {"podGroupTemplates": [{"name": "a", "schedulingPolicy": policy}]} if resource.kind == "Workload" else {}
        native = own or {"schedulingPolicy": policy}
        spec = native if provider is ProviderName.NATIVE else {"minMember": 1}
        await life.admin.create(resource, foreign(resource, f"{name}-a1", life.space, spec=spec))
    wanted = job(name).namespace(life.space).run_policy(**asking(provider))
    await life.admin.create(TRAINING_JOBS, wanted.build())
    for resource in kinds_of(provider):
        await life.reason(TRAINING_JOBS, name, f"{resource.kind} {name}-a1 exists and belongs to something else")
        await life.admin.delete(resource, f"{name}-a1", life.space)
        await life.nudge(TRAINING_JOBS, name)
    for resource in kinds_of(provider):
        await life.appears(resource, f"{name}-a1")
    kubelet = ScriptedKubelet(life.admin, life.space, bind=False)
    await life.admin.patch(TRAINING_JOBS, name, life.space, {"spec": {"runPolicy": {"suspend": True}}})

    async def gone() -> bool:
        await kubelet.confirm_deletions(name)
        return not [one for one in kinds_of(provider) if await life.there(one, f"{name}-a1")]

    await eventually(gone, within=30, what=f"the objects of {name} to go")
    await life.admin.delete(TRAINING_JOBS, name, life.space)


async def life_in_a_queue(life: Life) -> None:
    """A Workload whose name is taken; admitted, evicted, and given back."""
    kueue = ScriptedKueue(life.admin, life.space, "kueue")
    await life.admin.create(
        kueue.workloads,
        foreign(
            kueue.workloads,
            kueue.name,
            life.space,
            spec={"podSets": [{"name": "a", "count": 1, "template": {"spec": {"containers": [CONTAINER]}}}]},
        ),
    )
    wanted = job("kueue").namespace(life.space).run_policy(**asking(ProviderName.KUEUE))
    await life.admin.create(TRAINING_JOBS, wanted.build())
    await life.reason(TRAINING_JOBS, "kueue", "exists and belongs to something else")
    await life.admin.delete(kueue.workloads, kueue.name, life.space)
    await life.nudge(TRAINING_JOBS, "kueue")
    await life.appears(kueue.workloads, kueue.name)

    async def ours() -> bool:
        return bool((await kueue.workload())["metadata"].get("ownerReferences"))

    await eventually(ours, within=30, what="a Workload of the job's")
    await kueue.flavor("fast")
    await kueue.admit()
    await life.appears(PODS, "kueue-a1-worker-0")
    await kueue.evict("Preempted", "for another")
    kubelet = ScriptedKubelet(life.admin, life.space, bind=False)

    async def freed() -> bool:
        await kubelet.confirm_deletions("kueue")
        said = {one["type"]: one["status"] for one in (await kueue.workload())["status"]["conditions"]}
        return said["QuotaReserved"] == "False"

    await eventually(freed, within=30, what="the quota to be given back")
    await life.admin.patch(TRAINING_JOBS, "kueue", life.space, {"spec": {"runPolicy": {"suspend": True}}})

    async def inactive() -> bool:
        return (await kueue.workload())["spec"]["active"] is False

    await eventually(inactive, within=30, what="an inactive Workload")
    await life.admin.delete(TRAINING_JOBS, "kueue", life.space)
    await eventually(lambda: gone_from(life, kueue), within=30, what="the Workload to go with its job")


async def gone_from(life: Life, kueue: ScriptedKueue) -> bool:
    return await life.there(kueue.workloads, kueue.name) is None


async def conflict(life: Life, plane: Plane, user: str) -> None:
    """Somebody else changes a job while the operator decides about it: it reads the job anew."""
    await life.admin.create(TRAINING_JOBS, job("busy").namespace(life.space).build())

    async def read_anew() -> bool:
        for round_ in range(20):
            suspended = {"spec": {"runPolicy": {"suspend": round_ % 2 == 0}}}
            await life.admin.patch(TRAINING_JOBS, "busy", life.space, suspended)
            for _ in range(5):
                await life.nudge(TRAINING_JOBS, "busy")
        return any(verb == "get" and of == "trainwright.dev/trainingjobs" for verb, of, _ in plane.requests(user))

    await eventually(read_anew, within=60)
    await life.admin.delete(TRAINING_JOBS, "busy", life.space)


async def life_of_a_deployment(life: Life) -> None:
    """Its names are taken at first; then all of it is made, changed, and what it no longer needs is removed."""
    taken = {
        "model-publisher": SERVICE_ACCOUNTS, "model-routes": CONFIG_MAPS, "model-gateway": DEPLOYMENTS, "model-models": CLAIMS,
    }  # fmt: skip
    others = [
        (SERVICES, "model-gateway"),
        (NETWORK_POLICIES, "model-server"),
        (HTTP_ROUTES, "model-gateway"),
        (JOBS, "model-v1-verify"),
    ]
    names = [*((resource, name) for name, resource in taken.items()), *others]
    for resource, name in names:
        await life.admin.create(resource, foreign(resource, name, life.space, **SPECS[resource]))
    route = {"parent": {"name": "gateway"}}
    spec = {"server": "sklearn", "gateway": {"httpRoute": route}, "offers": [{"name": "first", "claim": "artifacts"}]}
    await life.admin.create(MODEL_DEPLOYMENTS, foreign(MODEL_DEPLOYMENTS, "model", life.space, spec=spec))
    left = dict.fromkeys(names)

    async def out_of_the_way() -> bool:
        """What it says is in its way, goes."""
        status = (await life.admin.get(MODEL_DEPLOYMENTS, "model", life.space)).get("status") or {}
        for resource, name in list(left):
            if f"{resource.kind} {name} exists" in status.get("reason", ""):
                await life.admin.delete(resource, name, life.space)
                del left[resource, name]
                await life.nudge(MODEL_DEPLOYMENTS, "model")
        return not left

    await eventually(out_of_the_way, within=60, what="every name was in its way once")
    for resource, name in names:
        await life.appears(resource, name)
    for resource, name in names:
        if resource not in (CLAIMS, JOBS):
            await life.change_hash(resource, name)
    await life.admin.patch(MODEL_DEPLOYMENTS, "model", life.space, {"spec": {"gateway": {"httpRoute": None}}})

    async def without_route() -> bool:
        return await life.there(HTTP_ROUTES, "model-gateway") is None

    await eventually(without_route, within=30)
    await version_that_is_over(life)


async def version_that_is_over(life: Life) -> None:
    """A version that nobody is sent to any more, as an operator of yesterday would have left it: its servers go, and its task."""
    model = await life.admin.get(MODEL_DEPLOYMENTS, "model", life.space)
    when = model["metadata"]["creationTimestamp"]
    labels = (await life.appears(DEPLOYMENTS, "model-gateway"))["metadata"]["labels"]
    owner = {
        "apiVersion": MODEL_DEPLOYMENTS.api_version,
        "kind": "ModelDeployment",
        "name": "model",
        "uid": model["metadata"]["uid"],
    }
    for resource, name in ((DEPLOYMENTS, "model-v7"), (JOBS, "model-v7-remove")):
        made = foreign(resource, name, life.space, **SPECS[resource])
        made["metadata"] |= {"labels": labels, "ownerReferences": [owner]}
        await life.admin.create(resource, made)
    version = {"version": 7, "state": "Removed", "offer": "offer/old", "since": when, "offered": when}
    known = [*model["status"].get("versions", []), version]
    await life.admin.patch(
        MODEL_DEPLOYMENTS, "model", life.space, {"status": {"versions": known, "lastVersion": 7}}, subresource="status"
    )

    async def gone() -> bool:
        await life.nudge(MODEL_DEPLOYMENTS, "model")
        return await life.there(DEPLOYMENTS, "model-v7") is None and await life.there(JOBS, "model-v7-remove") is None

    await eventually(gone, within=30, every=0.5)


def granted(plane: Plane, space: str) -> set[tuple[str, str]]:
    """Every verb of every resource in the release's roles."""
    mine = f"app.kubernetes.io/instance={RELEASE},!rbac.authorization.k8s.io/aggregate-to-view,!rbac.authorization.k8s.io/aggregate-to-edit"
    roles = plane.kubectl.json("get", "clusterroles,roles", "-n", space, "-l", mine)["items"]
    return {
        (verb, "/".join(filter(None, (group, resource))))
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.mark.timeout(300)
async def test_all_that_is_granted_is_used_and_nothing_else_is_asked_for(
    bare_plane: Plane, admin: KubeCluster, operator: ReleasedOperator, space: str
) -> None:
    life = Life(admin, space)
    await job_whose_names_are_taken(life)
    await life_of_a_job(life)
    await job_that_waits_for_room(life)
    await conflict(life, bare_plane, operator.user)
    await life_of_a_deployment(life)
    absent: set[str] = set()
    for provider in GANGS:
        if missing(provider):
            absent |= of_groups(provider)
        else:
            await life_of_a_gang(life, provider)
    if missing(ProviderName.KUEUE):
        absent |= of_groups(ProviderName.KUEUE)
    elif operator.clusterwide:
        await life_in_a_queue(life)

    asked = bare_plane.requests(operator.user)
    assert [one for one in asked if one[2] in (401, 403)] == []
    assert (
        granted(bare_plane, space)
        - {(verb, of) for verb, of, _ in asked}
        - {one for one in granted(bare_plane, space) if one[1] in absent}
        == NEVER_REQUESTED
    )
    assert {(verb, of) for verb, of, _ in asked} <= granted(bare_plane, space)
    assert not [of for _, of, _ in asked if of == "secrets"]
    assert "403" not in operator.log.read_text()


async def test_without_a_say_over_finalizers_such_a_cluster_takes_no_pod(
    bare_plane: Plane, admin: KubeCluster, kinds: None, space: str, tmp_path: Path
) -> None:
    """Which is why that is granted, though nothing ever asks for it."""
    bare_plane.install(space, "--set", f"scope=namespace,{ALL_RIGHTS}")
    name = f"{RELEASE}-operator"
    rules = bare_plane.kubectl.json("get", "role", name, "-n", space)["rules"]
    less = [rule for rule in rules if not any(of.endswith("/finalizers") for of in rule["resources"])]
    assert len(less) == len(rules) - 1
    bare_plane.kubectl("patch", "role", name, "-n", space, "--type=merge", "-p", json.dumps({"rules": less}))
    life = Life(admin, space)
    with ReleasedOperator(bare_plane, space, tmp_path).running():
        await admin.create(TRAINING_JOBS, job().namespace(space).build())
        await life.reason(TRAINING_JOBS, "digits", "cannot set blockOwnerDeletion")
        bare_plane.kubectl("patch", "role", name, "-n", space, "--type=merge", "-p", json.dumps({"rules": rules}))
        await life.appears(PODS, "digits-a1-worker-0")
    bare_plane.uninstall(space)
