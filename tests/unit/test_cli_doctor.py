"""`trainwright doctor`: each thing that can be wrong with a cluster is found, and comes with what to do about it."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from support.builders import job
from support.cli import CommandLine, add_node, add_pod
from trainwright.api.crd import definition
from trainwright.api.kinds import MODEL_DEPLOYMENT, TRAINING_JOB, Kind
from trainwright.cli import machine
from trainwright.cli.checks import DEFAULT_CLASS, inspect
from trainwright.cli.findings import Finding, Level
from trainwright.cluster.memory import MemoryCluster
from trainwright.cluster.port import (
    CRDS,
    DEPLOYMENTS,
    NODES,
    STORAGE_CLASSES,
    TRAINING_JOBS,
    ClusterError,
    Forbidden,
    Object,
    ObjectList,
    Resource,
)

LABELS = {"app.kubernetes.io/name": "trainwright"}
OLD = "2026-11-21T09:00:00Z"


class Grown(MemoryCluster):
    """A cluster with a history: objects may be older than they are, and versions other than they are."""

    kubernetes = "v1.36.3"
    blind: tuple[str, ...] = ()

    async def version(self) -> str:
        return self.kubernetes

    async def list(self, resource: Resource, namespace: str | None = None, **kwargs: Any) -> ObjectList:
        if resource.plural in self.blind:
            raise Forbidden(f"{resource.plural} is forbidden")
        listed = await super().list(resource, namespace, **kwargs)
        for one in listed.items:
            one["metadata"]["creationTimestamp"] = OLD
        return listed


async def define(cluster: MemoryCluster, change: Callable[[Object], Any] = lambda _: None, kind: Kind = TRAINING_JOB) -> None:
    crd = copy.deepcopy(definition(kind))
    change(crd)
    await cluster.create(CRDS, crd)
    name = crd["metadata"]["name"]
    await cluster.patch(
        CRDS, name, None, {"status": {"conditions": [{"type": "Established", "status": "True"}]}}, subresource="status"
    )


async def deploy(cluster: MemoryCluster, available: int) -> None:
    raw = {
        "metadata": {"name": "operator", "namespace": "trainwright", "labels": LABELS},
        "spec": {},
    }
    await cluster.create(DEPLOYMENTS, raw)
    status = {"status": {"availableReplicas": available}}
    await cluster.patch(DEPLOYMENTS, "operator", "trainwright", status, subresource="status")


async def storage(cluster: MemoryCluster, provisioner: str = "nfs.csi.k8s.io", default: str = "true") -> None:
    await cluster.create(
        STORAGE_CLASSES, {"metadata": {"name": "standard", "annotations": {DEFAULT_CLASS: default}}, "provisioner": provisioner}
    )


@pytest.fixture
async def healthy() -> Grown:
    """Everything as it should be: our CRD, an operator, a node with 8 GPUs of which 3 are held, storage for many nodes."""
    cluster = Grown()
    await define(cluster)
    await define(cluster, kind=MODEL_DEPLOYMENT)
    await deploy(cluster, 1)
    await add_node(cluster, "n", gpus=8)
    await add_pod(cluster, "p", gpus=3, node="n")
    await storage(cluster)
    return cluster


async def wrong(cluster: MemoryCluster, **kwargs: Any) -> list[Finding]:
    return [one for one in await inspect(cluster, "default", **kwargs) if one.level is not Level.OK]


async def test_a_healthy_cluster_has_nothing_to_mend(healthy: Grown) -> None:
    found = await inspect(healthy, "default")
    assert {one.level for one in found} == {Level.OK}
    assert {one.check for one in found} == {"cluster", "crd", "operator", "rights", "gpus", "storage", "schedulers"}
    said = {one.check: one.message for one in found}
    assert said["cluster"] == "Kubernetes v1.36.3 answers"
    assert said["operator"] == "Deployment trainwright/operator is available"
    assert said["gpus"] == "8 allocatable, 3 in use"


async def no_crd(cluster: Grown) -> None:
    await cluster.delete(CRDS, "trainingjobs.trainwright.dev")


async def no_second_crd(cluster: Grown) -> None:
    await cluster.delete(CRDS, "modeldeployments.trainwright.dev")


async def another_crd(cluster: Grown) -> None:
    await no_crd(cluster)
    fields = lambda crd: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]  # noqa: E731
    await define(cluster, lambda crd: fields(crd).pop("checkpoint"))


async def newer_crd(cluster: Grown) -> None:
    await no_crd(cluster)
    fields = lambda crd: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]  # noqa: E731
    await define(cluster, lambda crd: fields(crd).update(later={"type": "string"}))


async def crd_not_served(cluster: Grown) -> None:
    await cluster.patch(CRDS, "trainingjobs.trainwright.dev", None, {"status": {"conditions": []}}, subresource="status")


async def operator_down(cluster: Grown) -> None:
    await cluster.patch(DEPLOYMENTS, "operator", "trainwright", {"status": {"availableReplicas": 0}}, subresource="status")


async def no_operator(cluster: Grown) -> None:
    await cluster.delete(DEPLOYMENTS, "operator", "trainwright")


async def a_job_nobody_sees(cluster: Grown) -> None:
    await cluster.create(TRAINING_JOBS, job("digits").build())


async def no_gpus(cluster: Grown) -> None:
    await cluster.patch(NODES, "n", None, {"status": {"allocatable": {"nvidia.com/gpu": None}}}, subresource="status")


async def a_node_down(cluster: Grown) -> None:
    await add_node(cluster, "m", gpus=8, ready=False)


async def all_nodes_down(cluster: Grown) -> None:
    await cluster.delete(NODES, "n")


async def no_default_class(cluster: Grown) -> None:
    await cluster.patch(STORAGE_CLASSES, "standard", None, {"metadata": {"annotations": {DEFAULT_CLASS: "false"}}})


async def disks_of_one_node(cluster: Grown) -> None:
    await cluster.patch(STORAGE_CLASSES, "standard", None, {"provisioner": "ebs.csi.aws.com"})


async def too_old(cluster: Grown) -> None:
    cluster.kubernetes = "v1.30.14"


@pytest.mark.parametrize(
    ("breaks", "check", "level", "says", "fix"),
    [
        pytest.param(no_crd, "crd", "problem", "no TrainingJobs", "kubectl apply -f manifests/crds/", id="no CRD"),
        pytest.param(no_second_crd, "crd", "problem", "no ModelDeployments", "kubectl apply -f manifests/crds/", id="no second CRD"),
        pytest.param(another_crd, "crd", "warning", "another version", "kubectl apply --server-side", id="an older CRD"),
        pytest.param(newer_crd, "crd", "warning", "another version", "if this version is the newer one", id="a newer CRD"),
        pytest.param(crd_not_served, "crd", "problem", "not served", "kubectl describe crd", id="a CRD that is not served"),
        pytest.param(operator_down, "operator", "problem", "no available replica", "kubectl logs deployment/operator -n trainwright", id="an operator that is down"),
        pytest.param(no_operator, "operator", "warning", "no Deployment with the label", "trainwright.controller", id="no operator"),
        pytest.param(a_job_nobody_sees, "operator", "problem", "nobody has looked at default/digits", "--namespace", id="a job that nobody looks at"),
        pytest.param(no_gpus, "gpus", "warning", "no nvidia.com/gpu", "--gpus-per-node", id="no GPUs"),
        pytest.param(a_node_down, "nodes", "warning", "not ready: m", "kubectl describe node m", id="a node that is not ready"),
        pytest.param(all_nodes_down, "gpus", "problem", "nothing can run", "trainwright up --nodes", id="no node"),
        pytest.param(no_default_class, "storage", "warning", "no default storage class (the classes standard are there)", DEFAULT_CLASS, id="no default storage class"),
        pytest.param(disks_of_one_node, "storage", "warning", "is for one node", "spec.workspace.claim", id="storage of one node"),
        pytest.param(too_old, "cluster", "problem", "v1.30.14 is too old", "1.31", id="an old Kubernetes"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_found_with_its_fix(
    healthy: Grown, breaks: Callable[[Grown], Awaitable[None]], check: str, level: str, says: str, fix: str
) -> None:
    await breaks(healthy)
    (found,) = await wrong(healthy)
    assert (found.check, found.level.value) == (check, level)
    assert says in found.message
    assert fix in found.fix


async def test_a_job_of_another_controller_is_not_the_operator_s_to_see(healthy: Grown) -> None:
    await healthy.create(TRAINING_JOBS, job("digits").run_policy(managedBy="example.com/other").build())
    assert await wrong(healthy) == []


async def test_the_twin_s_operator_is_asked_itself(healthy: Grown) -> None:
    async def answers() -> bool:
        return True

    async def silent() -> bool:
        return False

    await no_operator(healthy)
    assert await wrong(healthy, twin_operator=answers) == []
    (found,) = await wrong(healthy, twin_operator=silent)
    assert (found.check, found.level, found.fix) == ("operator", Level.PROBLEM, "start it again: trainwright up")


async def test_missing_rights_are_named_by_what_they_are_for() -> None:
    allowed = lambda verb, plural, namespace: verb in ("get", "list", "watch") and namespace is not None  # noqa: E731
    found = [one for one in await wrong(Grown(access=allowed)) if one.check == "rights"]
    said = {one.message: (one.level.value, one.fix) for one in found}
    assert said["you may not submit jobs in namespace default"] == (
        "problem",
        "an administrator grants it: a Role in default with create, patch on trainingjobs.trainwright.dev",
    )
    assert said["you may not delete jobs in namespace default"][0] == "problem"
    assert said["you may not submit code and claims with a job in namespace default"][0] == "warning"
    assert "a ClusterRole with list on nodes, pods" in said["you may not see all GPUs in `trainwright top`"][1]
    assert not any("logs" in message or "watch" in message for message in said)


async def test_the_log_of_a_pod_is_a_right_of_its_own() -> None:
    found = await wrong(Grown(access=lambda _, plural, __: plural != "pods/log"))
    (one,) = [one for one in found if one.check == "rights"]
    assert one.message == "you may not read logs in namespace default"
    assert "get on pods/log" in one.fix


@pytest.mark.parametrize("plural", ["nodes", "storageclasses", "deployments"])
async def test_what_may_not_be_seen_is_a_warning_and_stops_no_other_check(healthy: Grown, plural: str) -> None:
    healthy.blind = (plural,)
    (found,) = await wrong(healthy)
    assert found.level is Level.WARNING
    assert "you may not" in found.message


async def test_pods_that_may_not_be_seen_cost_only_the_number_in_use(healthy: Grown) -> None:
    healthy.blind = ("pods",)
    said = {one.check: one.message for one in await inspect(healthy, "default")}
    assert said["gpus"] == "8 allocatable, how many are in use you may not see"


@pytest.mark.parametrize(
    ("resource", "says"),
    [
        (Resource("Workload", "workloads", "kueue.x-k8s.io", "v1beta1"), "Kueue v1beta1"),
        (Resource("PodGroup", "podgroups", "scheduling.volcano.sh", "v1beta1"), "Volcano v1beta1"),
        (Resource("PodGroup", "podgroups", "scheduling.x-k8s.io", "v1alpha1"), "coscheduling (scheduler-plugins) v1alpha1"),
        (Resource("PodGroup", "podgroups", "scheduling.run.ai", "v2alpha2"), "KAI v2alpha2"),
        (Resource("PodGroup", "podgroups", "scheduling.k8s.io", "v1alpha2"), "Kubernetes' own PodGroup v1alpha2"),
    ],
)
async def test_queue_systems_are_found_by_the_kinds_that_are_served(resource: Resource, says: str) -> None:
    priorities = Resource("PriorityClass", "priorityclasses", "scheduling.k8s.io", namespaced=False)
    said = {one.check: one.message for one in await inspect(Grown(serves=[priorities, resource]), "default")}
    assert said["schedulers"] == f"found: {says}"
    without = {one.check: one.message for one in await inspect(Grown(serves=[priorities]), "default")}
    assert without["schedulers"].startswith("none beside the cluster's own")


async def test_a_cluster_that_does_not_answer_ends_the_look_at_it() -> None:
    class Away(Grown):
        async def version(self) -> str:
            raise ClusterError("get /version: no answer from https://10.0.0.1")

    (found,) = await inspect(Away(), "default")
    assert (found.check, found.level) == ("cluster", Level.PROBLEM)
    assert "--context" in found.fix


def test_problems_make_exit_code_1_and_warnings_do_not(cli: CommandLine, healthy: Grown) -> None:
    cli.cluster = healthy
    assert cli("doctor").code == 0
    cli.do(disks_of_one_node(healthy))
    warned = cli("doctor", "-o", "json")
    assert (warned.code, warned.json()["problems"]) == (0, 0)
    assert warned.json()["warnings"] >= 1
    cli.do(no_crd(healthy))
    failed = cli("doctor", "-o", "json")
    assert (failed.code, failed.json()["problems"]) == (1, 1)
    (found,) = [one for one in failed.json()["findings"] if one["level"] == "problem"]
    assert set(found) == {"check", "level", "message", "fix"}
    shown = cli("doctor")
    assert "problem crd this cluster has no TrainingJobs → install it: kubectl apply -f" in shown.words
    assert max(len(line) for line in shown.out.splitlines()) <= 80


def test_without_a_cluster_this_machine_is_looked_at_all_the_same(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/kubeconfig")
    found = cli("doctor", "-o", "json")
    assert found.code == 1
    checks = {one["check"]: one for one in found.json()["findings"]}
    assert "/nowhere/kubeconfig" in checks["cluster"]["fix"]
    assert {"programs", "memory", "disk", "own gpus"} <= checks.keys()


def test_this_machine_is_warned_about_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.memory(16 * machine.GIB).level is Level.OK
    low = machine.memory(machine.GIB)
    assert (low.level, low.message) == (Level.WARNING, "1.0 GiB available; a twin with a small job takes about 2")
    monkeypatch.setattr(machine, "DISK_BYTES", 0)
    assert machine.disk(tmp_path / "not" / "yet" / "there").level is Level.OK
    monkeypatch.setattr(machine, "DISK_BYTES", 2**60)
    assert machine.disk(tmp_path).level is Level.WARNING


def test_programs_that_must_be_made_first_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.binaries, "there", lambda: {"etcd": Path("/etcd")})
    found = machine.programs()
    assert found.level is Level.WARNING
    assert "kube-apiserver" in found.message
    assert "etcd" not in found.message
    assert "trainwright up" in found.fix
