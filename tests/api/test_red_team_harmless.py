"""What an author asks for that is taken, and does no harm: what the API server keeps of it is given to the operator's planner, all that
it makes is looked at, and its pods are admitted by a real API server in a namespace that enforces `restricted`.

What is refused is in test_red_team.py.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.red_team import (
    RIGHTS,
    SETTINGS,
    Author,
    assert_harmless,
    attempt,
    config_of,
    containers,
    made_of_deployment,
    made_of_job,
    named,
    pods_of,
    serve,
    values_of,
)
from support.twin import Kubectl, accounts_ready
from trainwright.api.names import JOB_LABEL, claim_name
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import CLAIMS, NETWORK_POLICIES, PODS, SERVICE_ACCOUNTS, SERVICES, Invalid
from trainwright.controller.making import Maker, NameTaken, make
from trainwright.local.controlplane import ControlPlane
from trainwright.observe.observed import observe
from trainwright.observe.serving import observe_serving, offer_of
from trainwright.plan.children import wanted

Object = dict[str, Any]


@pytest.fixture
async def cluster(plane: tuple[ControlPlane, Kubectl]) -> AsyncIterator[KubeCluster]:
    made = await KubeCluster.connect(kubeconfig=plane[0].kubeconfig)
    yield made
    await made.close()


@pytest.fixture
async def author(plane: tuple[ControlPlane, Kubectl], cluster: KubeCluster) -> AsyncIterator[Author]:
    kubectl, name = plane[1], f"t-{uuid.uuid4().hex[:6]}"
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    kubectl("apply", "-n", name, "-f", "-", stdin=RIGHTS)
    await accounts_ready(cluster, name)
    yield Author(kubectl, name)
    kubectl("delete", "namespace", name, "--wait=false")


async def admitted(cluster: KubeCluster, made: list[Object]) -> None:
    """Its accounts and its pods are stored."""
    for one in made:
        if one["kind"] == "ServiceAccount":
            await cluster.create(SERVICE_ACCOUNTS, one)
    for pod in pods_of(made):
        await cluster.create(PODS, pod)


def only_pod(made: list[Object]) -> Object:
    (pod,) = pods_of(made)
    return pod


def variables(container: Object) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


Looks = Callable[[list[Object], str], None]


def is_as_any(made: list[Object], _: str) -> None:
    """Nothing of what was asked for is to be seen."""
    said = json.dumps(made)
    assert not any(word in said for word in ("evil-host", "hostPath", "kube-system", "team-b"))


def wears_none_of_it(made: list[Object], _: str) -> None:
    for one in made:
        metadata = one["metadata"]
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "trainwright"
        assert metadata["labels"].get(JOB_LABEL) == "evil"
        assert not {"app.kubernetes.io/component", "app.kubernetes.io/name", "trainwright.dev/role"} & metadata["labels"].keys()
        assert not any("iam" in name or "istio" in name for name in metadata.get("annotations", {}))


def sets_it_in_its_own_containers(made: list[Object], _: str) -> None:
    (worker,) = only_pod(made)["spec"]["containers"]
    assert {"LD_PRELOAD", "PYTHONPATH", "PYTHONSTARTUP", "BASH_ENV"} <= variables(worker).keys()
    assert worker["command"][0] == "trainwright-launch"


def expands_nothing_of_others(made: list[Object], _: str) -> None:
    (worker,) = only_pod(made)["spec"]["containers"]
    ours = {name for name in variables(worker) if name.startswith("TRAINWRIGHT_")}
    assert variables(worker)["A"] == "$(TRAINWRIGHT_UID) $(KUBERNETES_SERVICE_HOST) $$(B)"
    # All that there is to expand is told to the worker anyway; service links, which name other services, are off.
    assert ours
    assert only_pod(made)["spec"]["enableServiceLinks"] is False


def fetches_as_the_worker(made: list[Object], _: str) -> None:
    spec = only_pod(made)["spec"]
    (fetch,), (worker,) = spec["initContainers"], spec["containers"]
    assert [mount["name"] for mount in fetch["volumeMounts"]] == ["workspace", "scratch"]
    assert (fetch["env"], fetch["securityContext"]) == (worker["env"], worker["securityContext"])
    assert not {"shell", "args"} & fetch.keys()


def stays_below_its_namespace(made: list[Object], namespace: str) -> None:
    (worker,) = only_pod(made)["spec"]["containers"]
    assert variables(worker)["TRAINWRIGHT_WORKSPACE_URI"].endswith(f"/{namespace}/evil")


def reads_its_own_secret(made: list[Object], _: str) -> None:
    (worker,) = only_pod(made)["spec"]["containers"]
    assert variables(worker)["TOKEN"] == {"secretKeyRef": {"name": "gateway-key", "key": "key", "optional": False}}


def goes_where_it_may(made: list[Object], _: str) -> None:
    spec = only_pod(made)["spec"]
    assert spec["tolerations"][0] == {"operator": "Exists"}
    assert spec["nodeSelector"] == {"node-role.kubernetes.io/control-plane": ""}


def keeps_words_as_words(made: list[Object], _: str) -> None:
    config = config_of(only_pod(made))
    assert config["model"] == "__import__('os').system('id')"
    assert config["!!python/object/apply:os.system"] == ["id"]
    assert "\n!!python" not in only_pod(made)["metadata"]["annotations"]["trainwright.dev/config"]


def keeps_to_its_folder(made: list[Object], _: str) -> None:
    (worker,) = only_pod(made)["spec"]["containers"]
    writable = [mount for mount in worker["volumeMounts"] if not mount.get("readOnly")]
    assert [(mount["name"], mount.get("subPath")) for mount in writable] == [("workspace", "evil"), ("scratch", None)]


HARMFUL: Object = {
    "hostNetwork": True, "hostPID": True, "serviceAccountName": "operator", "nodeName": "evil-host",
    "securityContext": {"privileged": True, "runAsUser": 0}, "volumes": [{"name": "root", "hostPath": {"path": "/"}}],
    "template": {"spec": {"hostNetwork": True}}, "initContainers": [{"name": "a", "image": "b"}],
}  # fmt: skip
FOREIGN = {
    "labels": {"app.kubernetes.io/name": "prometheus", "app.kubernetes.io/component": "operator", JOB_LABEL: "victim", "trainwright.dev/role": "server"},
    "annotations": {"sidecar.istio.io/inject": "true", "iam.amazonaws.com/role": "admin", "trainwright.dev/config": "a: 1"},
}  # fmt: skip

JOBS: dict[str, tuple[Object, Looks]] = {
    **{f"{name}, where nobody checks fields": (attempt(**{name: value}), is_as_any) for name, value in HARMFUL.items()},
    "data of the node, where nobody checks fields": (
        attempt(data=[{"name": "a", "builtin": "digits", "hostPath": {"path": "/"}, "namespace": "kube-system"}]), is_as_any,
    ),
    "reserved labels and annotations on the job": ({**attempt(), "metadata": {"name": "evil", **FOREIGN}}, wears_none_of_it),
    "variables that make programs load code": (
        attempt(env=[{"name": name, "value": "/workspace/evil"} for name in ("LD_PRELOAD", "PYTHONPATH", "PYTHONSTARTUP", "BASH_ENV")]),
        sets_it_in_its_own_containers,
    ),
    "variables in variables": (
        attempt(env=[{"name": "A", "value": "$(TRAINWRIGHT_UID) $(KUBERNETES_SERVICE_HOST) $$(B)"}]), expands_nothing_of_others,
    ),
    **{
        f"data from {uri}": (attempt(data=[{"name": "train", "uri": uri}]), fetches_as_the_worker)
        for uri in (
            "file:///var/run/secrets/kubernetes.io/serviceaccount/token", "http://169.254.169.254/latest/meta-data/", "https://kubernetes.default.svc/api",
            "zip://../../etc/shadow::file:///tmp/a.zip", "s3://bucket/;rm$(id)",
        )
    },
    "a workspace at file:///": (attempt(workspace={"uri": "file:///"}), stays_below_its_namespace),
    "a workspace above its bucket's folder": (attempt(workspace={"uri": "s3://bucket/runs/../../team-b"}), stays_below_its_namespace),
    "a secret of its namespace": (
        attempt(env=[{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "gateway-key", "key": "key"}}}]), reads_its_own_secret,
    ),
    "any node": (
        attempt(placement={"tolerations": [{"operator": "Exists"}], "nodeSelector": {"node-role.kubernetes.io/control-plane": ""}}), goes_where_it_may,
    ),
    "a recipe's configuration that is code": (
        attempt(recipe={"name": "a", "config": {"model": "__import__('os').system('id')", "!!python/object/apply:os.system": ["id"], "a": "x\n!!python/name:os"}}),
        keeps_words_as_words,
    ),
    "another job's workspace": (attempt(workspace={"claim": "victim-workspace"}), keeps_to_its_folder),
    "a command in any image": (attempt(framework="none", command=["sh", "-c", "id; sudo mount /dev/sda /mnt"], image="evil.example/a@sha256:" + "0" * 64), is_as_any),
}  # fmt: skip


@pytest.mark.parametrize("what", JOBS)
async def test_a_job_is_harmless(author: Author, cluster: KubeCluster, what: str) -> None:
    raw, look = JOBS[what]
    _, made = made_of_job(author.stores(raw))
    assert_harmless(made, author.namespace, "evil")
    look(made, author.namespace)
    await admitted(cluster, made)


def gets_no_loader(made: list[Object], _: str) -> None:
    publishers = [one for one in made if one["kind"] == "Job"]
    assert len(publishers) == 3
    for one in publishers:
        for container in containers(one["spec"]["template"]["spec"]):
            assert not {"LD_PRELOAD", "PYTHONPATH", "HOME", "AWS_CONFIG_FILE"} & variables(container).keys()


def is_its_own_image_and_no_more(made: list[Object], _: str) -> None:
    images = {
        one["kind"] + one["metadata"]["name"]: containers(one["spec"]["template"]["spec"])[0]["image"]
        for one in made
        if "template" in one.get("spec", {})
    }
    publisher = SETTINGS.image("publisher")
    assert all((image == publisher) == name.startswith("Job") for name, image in images.items())
    for one in made:
        if one["kind"] == "Deployment":
            spec = one["spec"]["template"]["spec"]
            assert "serviceAccountName" not in spec
            assert all(mount.get("readOnly") for mount in containers(spec)[0]["volumeMounts"] if mount["name"] == "models")
            # The gateway knows its operator by a hash: who chooses its image does not learn the token.
            assert "0123456789abcdef" not in json.dumps(spec)


def shows_the_key_to_the_publisher_alone(made: list[Object], _: str) -> None:
    seen = [
        one["metadata"]["name"]
        for one in made
        if any("secret" in volume for pod in pods_of([one]) for volume in pod["spec"]["volumes"])
    ]
    assert seen == ["evil-v1-verify"]
    (task,) = [one for one in made if one["metadata"]["name"] == "evil-v1-verify"]
    (volume,) = [one for one in task["spec"]["template"]["spec"]["volumes"] if "secret" in one]
    assert volume["secret"] == {"secretName": "admin-token", "items": [{"key": "token", "path": "public.pem"}]}


def names_a_gateway_and_nothing_more(made: list[Object], namespace: str) -> None:
    (route,) = [one for one in made if one["kind"] == "HTTPRoute"]
    assert route["spec"]["parentRefs"] == [{"name": "shared", "namespace": "team-b"}]
    assert all("namespace" not in backend for rule in route["spec"]["rules"] for backend in rule["backendRefs"])
    assert [one["kind"] for one in made if "team-b" in list(values_of(one))] == ["HTTPRoute"]


def writes_below_its_own_name(made: list[Object], _: str) -> None:
    for pod in pods_of(made):
        for container in containers(pod["spec"]):
            for mount in container["volumeMounts"]:
                assert mount["name"] != "models" or mount["subPath"] == "evil"


DEPLOYMENTS: dict[str, tuple[Object, Looks]] = {
    **{f"{name}, where nobody checks fields": (serve(**{name: value}), is_as_any) for name, value in HARMFUL.items() if name != "template"},
    "images of one's own": (serve(image="evil.example/server", gateway={"image": "evil.example/gateway"}), is_its_own_image_and_no_more),
    "any secret as the key": (serve(verify={"publicKey": {"secret": {"name": "admin-token", "key": "token"}}}), shows_the_key_to_the_publisher_alone),
    "a gateway of another namespace": (
        serve(server="sklearn", gateway={"httpRoute": {"parent": {"name": "shared", "namespace": "team-b"}}}), names_a_gateway_and_nothing_more,
    ),
    "the models of another deployment": (serve(storage={"claim": "victim-models"}), writes_below_its_own_name),
    "a version that there never was": (serve(promote=4711), is_as_any),
}  # fmt: skip


@pytest.mark.parametrize("what", DEPLOYMENTS)
async def test_a_deployment_is_harmless(author: Author, cluster: KubeCluster, what: str) -> None:
    raw, look = DEPLOYMENTS[what]
    _, made = made_of_deployment(author.stores(raw))
    assert_harmless(made, author.namespace, "evil")
    look(made, author.namespace)
    await admitted(cluster, made)


async def test_a_job_can_not_choose_what_the_publisher_runs(author: Author, cluster: KubeCluster) -> None:
    """Its variables go to the publisher for their credentials: a file of a version that it has published could be the code."""
    loaders = [{"name": name, "value": "/models/versions/1"} for name in ("LD_PRELOAD", "PYTHONPATH", "HOME", "AWS_CONFIG_FILE")]
    key = {"name": "AWS_ACCESS_KEY_ID", "value": "mine"}
    job, _ = made_of_job(author.stores(named(attempt(workspace={"uri": "s3://bucket/runs"}, env=[*loaders, key]), "trainer")))
    offer = offer_of(job)
    assert [one.name for one in offer.env] == ["AWS_ACCESS_KEY_ID"]
    _, made = made_of_deployment(author.stores(serve()), offer)
    assert_harmless(made, author.namespace, "evil")
    gets_no_loader(made, author.namespace)
    await admitted(cluster, made)


async def test_a_model_takes_no_offer_of_another_namespace(author: Author) -> None:
    model, _ = made_of_deployment(author.stores(serve()))
    stored = author.stores(named(attempt(publish={"deployment": "evil"}), "trainer"))
    stored["status"] = {"phase": "Succeeded", "completionTime": "2026-11-21T09:00:00Z"}
    elsewhere = {**stored, "metadata": {**stored["metadata"], "namespace": "team-b"}}
    for raw, taken in ((stored, 1), (elsewhere, 0)):
        job, _ = made_of_job(raw)
        assert len(observe_serving(model, pods=[], children=[], jobs=[job], reports={}).offers) == taken


TAKEN = {
    SERVICES: {"spec": {"ports": [{"port": 80}], "selector": {"app": "payments"}}},
    CLAIMS: {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
    NETWORK_POLICIES: {"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}},
    PODS: {"spec": {}},
}


@pytest.mark.parametrize("kind", TAKEN, ids=lambda kind: kind.kind)
async def test_a_name_that_is_somebody_else_s_is_not_taken_over(author: Author, cluster: KubeCluster, kind: Any) -> None:
    job, made = made_of_job(author.stores(named(attempt(), "payments")))
    (mine,) = [one for one in made if one["kind"] == kind.kind]
    theirs = {"apiVersion": kind.api_version, "kind": kind.kind, **TAKEN[kind]}
    theirs["metadata"] = {"name": mine["metadata"]["name"], "namespace": author.namespace}
    if kind is PODS:
        theirs["spec"] = mine["spec"]
    before = await cluster.create(kind, theirs)
    with pytest.raises(NameTaken, match="belongs to something else; rename it or the job"):
        await make(cluster, kind, mine, Maker("job", job.name, job.uid, JOB_LABEL))
    after = await cluster.get(kind, mine["metadata"]["name"], author.namespace)
    for one in (before, after):
        one.pop("status", None)
        one["metadata"] = {name: one["metadata"].get(name) for name in ("uid", "labels", "ownerReferences")}
    assert after == before


async def test_pods_that_wear_a_job_s_labels_are_not_its_workers(author: Author, cluster: KubeCluster) -> None:
    """Whoever may make pods can give them any label and any owner; by that alone they neither end a job nor succeed for it."""
    job, made = made_of_job(author.stores(named(attempt(), "victim")))
    real = only_pod(made)
    stranger = {**real, "metadata": {**real["metadata"], "name": "stranger", "ownerReferences": []}}
    foreign = [{**real["metadata"]["ownerReferences"][0], "uid": "00000000-0000-0000-0000-000000000000"}]
    impostors = [
        stranger,
        {
            **stranger,
            "metadata": {**stranger["metadata"], "name": "impostor", "ownerReferences": real["metadata"]["ownerReferences"]},
        },
        {**stranger, "metadata": {**stranger["metadata"], "name": "victim-a1-worker-9", "ownerReferences": foreign}},
    ]
    made_by_others = [await cluster.create(PODS, one) for one in impostors]
    for pod in made_by_others:
        pod["status"] = {"phase": "Failed"}
    seen = observe(uid=job.uid, pods=[*made_by_others, await cluster.create(PODS, real)], children=[])
    assert [worker.name for worker in seen.workers] == [real["metadata"]["name"]]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"recipe": {"name": "a", "config": {"a": "x" * 300_000}}}, "metadata.annotations"),
        ({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.containers"}}}]}, "fieldPath"),
    ],
    ids=["a configuration beyond what a pod carries", "a field that pods don't tell"],
)
async def test_what_the_schema_lets_through_the_api_server_stops(
    author: Author, cluster: KubeCluster, spec: Object, says: str
) -> None:
    """The operator writes the answer into the job's status, and no pod is made."""
    _, made = made_of_job(author.stores(attempt(**spec)))
    with pytest.raises(Invalid, match=says):
        await cluster.create(PODS, only_pod(made))


async def test_two_jobs_never_make_objects_of_one_name(author: Author) -> None:
    """Names of children are made of the job's: no job's name can be chosen so that they are another's, but for a claim's own name."""
    seen: dict[tuple[str, str], str] = {}
    for name in ("a", "a-worker-0", "a-a1", "a-a1-worker-0", "a-workspace", "a-a1-worker-0-workspace"):
        job, made = made_of_job(author.stores(named(attempt(workers=2), name)))
        for one in [*wanted(job, SETTINGS), *made]:
            assert seen.setdefault((one["kind"], one["metadata"]["name"]), name) == name
    assert ("PersistentVolumeClaim", claim_name("a")) in seen


def test_what_a_sample_makes_is_harmless_by_the_same_measure(author: Author) -> None:
    """The measure itself: what people really send passes it."""
    samples = Path(__file__).resolve().parents[2] / "manifests" / "samples"
    jobs = [
        one
        for file in sorted(samples.rglob("*.yaml"))
        for one in yaml.safe_load_all(file.read_text())
        if one and one["kind"] == "TrainingJob"
    ]
    assert len(jobs) > 10
    for number, raw in enumerate(jobs[:6]):
        _, made = made_of_job(author.stores(named(raw, f"sample-{number}")))
        assert_harmless(made, author.namespace, f"sample-{number}")
