"""The chart's ValidatingAdmissionPolicies on a real API server, asked by the operator's own service account: what our planner makes is
admitted, even where Pod Security enforces `restricted`; whatever else a fooled operator could ask for is refused, by the field's name.
"""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from support.builders import job
from support.kinds import without_kinds
from support.release import RELEASE, Plane, ReleasedOperator
from support.serving import deployment
from support.waiting import eventually
from trainwright.api.deployment import ModelDeployment
from trainwright.api.deployment import parse as parse_deployment
from trainwright.api.deployment_status import Version, VersionState
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import DEPLOYMENTS, JOBS, PODS, ClusterError, Invalid
from trainwright.observe.serving import Offer
from trainwright.plan.pods import worker_pod
from trainwright.plan.serving import tasks
from trainwright.plan.serving.pods import gateway_deployment, server_deployment
from trainwright.plan.types import Settings

# What is made for the whole module is taken away after its last test.
pytestmark = pytest.mark.timeout(400)
Object = dict[str, Any]
RESOURCES = {one.kind: one for one in (PODS, DEPLOYMENTS, JOBS)}
OPEN, RESTRICTED = "t-open", "t-restricted"
KINDS = ("trainingjobs.trainwright.dev", "modeldeployments.trainwright.dev")
SETTINGS = Settings(gateway_key=b"0123456789abcdef")


@pytest.fixture(scope="module")
def policed(bare_plane: Plane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReleasedOperator]:
    """A release, and two namespaces: one that enforces `restricted`, and one where only our policies stand in the way."""
    kubectl = bare_plane.kubectl
    for space in (OPEN, RESTRICTED):
        kubectl("create", "namespace", space)
    for account in ("admin", "digits-publisher"):
        kubectl("create", "serviceaccount", account, "-n", OPEN)
    kubectl("label", "namespace", RESTRICTED, "pod-security.kubernetes.io/enforce=restricted")
    bare_plane.install("t-policed")
    yield ReleasedOperator(bare_plane, "t-policed", tmp_path_factory.mktemp("operator"))
    bare_plane.uninstall("t-policed")
    without_kinds(kubectl, *KINDS)
    kubectl("delete", "namespace", OPEN, RESTRICTED, "t-policed", "--wait=false")


@pytest.fixture
async def as_operator(policed: ReleasedOperator) -> AsyncIterator[KubeCluster]:
    """The API as the operator's service account has it, once the policies are at work."""
    cluster = await KubeCluster.connect(kubeconfig=policed.kubeconfig)

    async def at_work() -> bool:
        probe = worker(OPEN)
        probe["spec"]["hostNetwork"] = True
        try:
            await cluster.create(PODS, named(probe))
        except ClusterError as error:
            return "ValidatingAdmissionPolicy" in str(error)
        return False

    await eventually(at_work, within=20, every=0.2)
    yield cluster
    await cluster.close()


def named(obj: Object) -> Object:
    """Under a name that nothing else has."""
    made = copy.deepcopy(obj)
    made["metadata"]["name"] = f"{made['kind'].lower()}-{uuid.uuid4().hex[:8]}"
    return made


def worker(space: str, **spec: Any) -> Object:
    return worker_pod(job().namespace(space).spec(**spec).typed(), 0, SETTINGS)


def model(space: str, **spec: Any) -> ModelDeployment:
    raw = deployment(**spec)
    raw["metadata"] |= {
        "uid": "u",
        "namespace": space,
        "generation": 1,
        "resourceVersion": "1",
        "creationTimestamp": "2026-11-21T09:00:00Z",
    }
    return parse_deployment(raw)


VERSION = Version(
    version=1, state=VersionState.LIVE, offer="offer/a", digest="sha256:00", record="sha256:00",
    since="2026-11-21T09:00:00Z", offered="2026-11-21T09:00:00Z",
)  # fmt: skip
OFFER = Offer(key="offer/a", offered="", claim="digits-workspace", path="artifacts")
ASKED_KEY = {"verify": {"publicKey": {"secret": {"name": "model-key", "key": "model.pub"}}}}


def server(space: str) -> Object:
    return server_deployment(model(space), VERSION, SETTINGS)


def task(space: str) -> Object:
    return tasks.verify(model(space, **ASKED_KEY), VERSION, OFFER, SETTINGS)


MADE: dict[str, Callable[[str], Object]] = {
    "a worker of a recipe": worker,
    "a worker with GPUs and shared memory": lambda space: worker(space, resources={"gpus": 2, "cpu": "4", "memory": "8Gi", "sharedMemory": "1Gi"}),
    "a worker with code and data": lambda space: worker(
        space, recipe=None, entrypoint={"module": "train"}, code={"configMap": "code"}, data=[{"name": "a", "claim": "a"}, {"name": "b", "configMap": "b"}],
    ),
    "a worker whose data is fetched": lambda space: worker(space, workspace={"uri": "s3://bucket/runs"}, data=[{"name": "a", "uri": "s3://bucket/a"}]),
    "a worker with a secret in its environment": lambda space: worker(
        space, env=[{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "token"}}}]
    ),
    "a worker of a bare command": lambda space: worker(space, framework="none", recipe=None, command=["true"], image="busybox"),
    "a worker that is placed": lambda space: worker(
        space, placement={"nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}], "topologyKey": "kubernetes.io/hostname"}
    ),
    **{f"a worker of {name}": lambda space, name=name: worker(space, framework=name) for name in ("tensorflow", "horovod", "jax", "sklearn")},
    "a gateway": lambda space: gateway_deployment(model(space), SETTINGS),
    **{
        f"a server: {name}": lambda space, name=name: server_deployment(
            model(space, server=name, batching={"maxSize": 8}), None if name == "tfserving" else VERSION, SETTINGS
        )
        for name in ("torchserve", "tfserving", "sklearn")
    },
    "a publisher that verifies with a key": task,
    "a publisher that publishes": lambda space: tasks.publish(model(space), VERSION, OFFER, SETTINGS),
    "a publisher that removes": lambda space: tasks.remove(model(space), VERSION, SETTINGS),
}  # fmt: skip


@pytest.mark.parametrize("what", MADE)
async def test_what_the_planner_makes_is_admitted_and_restricted(as_operator: KubeCluster, what: str) -> None:
    made = MADE[what](RESTRICTED)
    stored = await as_operator.create(RESOURCES[made["kind"]], named(made))
    assert stored["metadata"]["uid"]


def pod_of(obj: Object) -> Object:
    found: Object = obj["spec"] if obj["kind"] == "Pod" else obj["spec"]["template"]["spec"]
    return found


def _pod(**fields: Any) -> Callable[[Object], None]:
    return lambda pod: pod.update(fields)


def _secured(**fields: Any) -> Callable[[Object], None]:
    return lambda pod: pod["securityContext"].update(fields)


def _container(**fields: Any) -> Callable[[Object], None]:
    return lambda pod: pod["containers"][0].update(fields)


def _contained(**fields: Any) -> Callable[[Object], None]:
    return lambda pod: pod["containers"][0]["securityContext"].update(fields)


def _volume(**source: Any) -> Callable[[Object], None]:
    return lambda pod: pod["volumes"].append({"name": "more", **source})


def _init(pod: Object) -> None:
    pod["initContainers"] = [{"name": "first", "image": "a", "securityContext": {"privileged": True}}]


def _by_its_old_name(pod: Object) -> None:
    pod.pop("serviceAccountName", None)
    pod["serviceAccount"] = "admin"


def _without(name: str) -> Callable[[Object], None]:
    return lambda pod: pod.pop(name)


VIOLATIONS: list[tuple[str, Callable[[Object], None], str]] = [
    ("the node's network", _pod(hostNetwork=True), "hostNetwork: must not be true"),
    ("the node's processes", _pod(hostPID=True), "hostPID: must not be true"),
    ("the node's shared memory", _pod(hostIPC=True), "hostIPC: must not be true"),
    ("a token", _pod(automountServiceAccountToken=True), "automountServiceAccountToken: must be false"),
    ("a token, by saying nothing", _without("automountServiceAccountToken"), "automountServiceAccountToken: must be false"),
    ("another's account", _pod(serviceAccountName="admin"), "serviceAccountName: must be default"),
    ("another's account by its old name", _by_its_old_name, "serviceAccountName: must be default"),
    ("a node of its choice", _pod(nodeName="master"), "nodeName: must not be set"),
    ("perhaps root", _secured(runAsNonRoot=False), "securityContext.runAsNonRoot: must be true"),
    ("perhaps root, by saying nothing", _without("securityContext"), "securityContext.runAsNonRoot: must be true"),
    ("all system calls", _secured(seccompProfile={"type": "Unconfined"}), "securityContext.seccompProfile.type: must be RuntimeDefault"),
    ("kernel settings", _secured(sysctls=[{"name": "kernel.msgmax", "value": "1"}]), "securityContext.sysctls: must be empty"),
    ("a label of SELinux", _secured(seLinuxOptions={"level": "s0"}), "securityContext: must not have seLinuxOptions"),
    ("no AppArmor", _secured(appArmorProfile={"type": "Unconfined"}), "securityContext: must not have seLinuxOptions"),
    ("privilege", _contained(privileged=True, allowPrivilegeEscalation=True), "containers[*].securityContext.privileged: must not be true"),
    ("more privilege later", _contained(allowPrivilegeEscalation=True), "containers[*].securityContext.allowPrivilegeEscalation: must be false"),
    ("a container that says nothing", _container(securityContext={}), "containers[*].securityContext.allowPrivilegeEscalation: must be false"),
    ("root in a container", _contained(runAsNonRoot=False), "containers[*].securityContext.runAsNonRoot: must not be false"),
    ("capabilities kept", _contained(capabilities={"drop": ["CHOWN"]}), "containers[*].securityContext.capabilities.drop: must have ALL"),
    ("a capability", _contained(capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}), "containers[*].securityContext.capabilities.add: must be empty"),
    ("all system calls in a container", _contained(seccompProfile={"type": "Unconfined"}), "containers[*].securityContext: must not have seccompProfile"),
    ("an init container with privilege", _init, "containers[*].securityContext.privileged: must not be true"),
    ("a port of the node", _container(ports=[{"containerPort": 80, "hostPort": 80}]), "containers[*].ports[*].hostPort: must not be set"),
    ("a whole secret as environment", _container(envFrom=[{"secretRef": {"name": "a"}}]), "containers[*].envFrom: must be empty"),
    ("a folder of the node", _volume(hostPath={"path": "/"}), "volumes: only emptyDir"),
    ("a secret", _volume(secret={"secretName": "a"}), "volumes: only emptyDir"),
    ("a token by projection", _volume(projected={"sources": [{"serviceAccountToken": {"path": "token"}}]}), "volumes: only emptyDir"),
    ("a driver's volume", _volume(csi={"driver": "secrets-store.csi.k8s.io"}), "volumes: only emptyDir"),
    ("another machine's disk", _volume(nfs={"server": "a", "path": "/"}), "volumes: only emptyDir"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), [pytest.param(*rest, id=name) for name, *rest in VIOLATIONS])
@pytest.mark.parametrize("make", [worker, server, task], ids=["pod", "deployment", "job"])
async def test_what_a_fooled_operator_could_ask_for_is_refused(
    as_operator: KubeCluster, make: Callable[[str], Object], change: Callable[[Object], None], said: str
) -> None:
    made = named(make(OPEN))
    change(pod_of(made))
    with pytest.raises(Invalid) as refused:
        await as_operator.create(RESOURCES[made["kind"]], made)
    field = "spec." if made["kind"] == "Pod" else "spec.template.spec."
    assert f"{field}{said}" in str(refused.value)


@pytest.mark.parametrize(
    ("make", "change", "said"),
    [
        pytest.param(server, _pod(serviceAccountName="digits-publisher"), "serviceAccountName", id="a server as the publisher"),
        pytest.param(worker, _pod(serviceAccountName="digits-publisher"), "serviceAccountName", id="a worker as the publisher"),
        pytest.param(
            task, _pod(serviceAccountName="others-publisher"), "serviceAccountName", id="the publisher of another's models"
        ),
        pytest.param(server, _volume(secret={"secretName": "model-key"}), "volumes", id="a server with the publisher's key"),
        pytest.param(task, _volume(secret={"secretName": "all"}), "volumes", id="the publisher with a second secret"),
    ],
)
async def test_the_publishers_identity_is_its_alone(
    as_operator: KubeCluster, make: Callable[[str], Object], change: Callable[[Object], None], said: str
) -> None:
    made = named(make(OPEN))
    change(pod_of(made))
    with pytest.raises(Invalid, match=said):
        await as_operator.create(RESOURCES[made["kind"]], made)


async def test_what_is_there_can_not_be_made_worse(as_operator: KubeCluster) -> None:
    made = await as_operator.create(DEPLOYMENTS, named(server(OPEN)))
    patch = {"spec": {"template": {"spec": {"hostNetwork": True}}}}
    with pytest.raises(Invalid, match=r"spec\.template\.spec\.hostNetwork: must not be true"):
        await as_operator.patch(DEPLOYMENTS, made["metadata"]["name"], OPEN, patch)


async def test_others_are_none_of_the_policies_business(bare_plane: Plane, as_operator: KubeCluster) -> None:
    pod = named(worker(OPEN))
    pod["spec"]["hostNetwork"] = True
    bare_plane.kubectl("create", "-f", "-", stdin=json.dumps(pod))


async def test_the_api_server_finds_no_fault_with_the_expressions(bare_plane: Plane, as_operator: KubeCluster) -> None:
    """It checks their types against each kind that a policy is about, and says so in the policy's status."""
    for name in ("pods", "templates"):

        def checked(name: str = name) -> Object | None:
            policy = bare_plane.kubectl.json("get", "validatingadmissionpolicy", f"{RELEASE}-operator-{name}")
            status: Object | None = policy.get("status")
            return status if status and status.get("observedGeneration") == policy["metadata"]["generation"] else None

        status = await eventually(checked, within=20, every=0.2)
        assert status.get("typeChecking", {}).get("expressionWarnings") is None


async def test_with_warn_nothing_is_refused_and_all_is_said(bare_plane: Plane, as_operator: KubeCluster) -> None:
    bare_plane.install("t-policed", "--set", "admissionPolicy.actions={Warn}")
    pod = worker(OPEN)
    pod["spec"]["hostNetwork"] = True

    async def let_through() -> bool:
        try:
            await as_operator.create(PODS, named(pod))
        except ClusterError:
            return False
        return True

    try:
        await eventually(let_through, within=20, every=0.2)
    finally:
        bare_plane.install("t-policed")
