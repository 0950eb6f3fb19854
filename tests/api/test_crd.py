"""The CRD on a real kube-apiserver, seen through kubectl as users see it."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from support.builders import job
from support.kinds import without_kinds
from support.serving import deployment
from support.twin import ROOT, Kubectl
from trainwright.api.kinds import KINDS, MODEL_DEPLOYMENT
from trainwright.local.controlplane import ControlPlane

CRDS = {kind.short: ROOT / "manifests" / "crds" / f"trainwright.dev_{kind.plural}.yaml" for kind in KINDS.values()}
SAMPLES = sorted((ROOT / "manifests" / "samples").rglob("*.yaml"))


@pytest.fixture
def kubectl(plane: tuple[ControlPlane, Kubectl]) -> Kubectl:
    return plane[1]


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    name = f"t-{uuid.uuid4().hex[:6]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("short", CRDS)
def test_plain_apply_takes_the_definition_and_changes_nothing_the_second_time(kubectl: Kubectl, short: str) -> None:
    file = CRDS[short]
    assert file.stat().st_size < 100_000
    kubectl("apply", "--force-conflicts", "--server-side", "-f", file)
    crd = yaml.safe_load(file.read_text())
    name = f"{crd['spec']['names']['plural']}.example.com"
    crd["metadata"]["name"] = name
    crd["spec"]["group"] = "example.com"
    for _ in range(2):
        said = kubectl("apply", "-f", "-", stdin=yaml.safe_dump(crd))
    assert "unchanged" in said
    without_kinds(kubectl, name)


def explain(kubectl: Kubectl, *words: str) -> str:
    """What kubectl explains, once the API server has published the schema of the new kind."""
    deadline = time.monotonic() + 30
    while (result := kubectl.run("explain", *words)).returncode != 0 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    ("short", "fields"),
    [
        ("tj", ("backoffLimit", "everySteps", "configMap", "sharedMemory", "samplesPerSecond")),
        ("md", ("keepVersions", "maxLatencyRatio", "maxDropFromLive", "stickyHeader", "offeredUntil")),
    ],
)
def test_every_field_is_explained(kubectl: Kubectl, short: str, fields: tuple[str, ...]) -> None:
    said = explain(kubectl, short, "--recursive")
    for field in fields:
        assert field in said
    schema = yaml.safe_load(CRDS[short].read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    def undescribed(node: dict[str, object], path: str) -> list[str]:
        found = []
        for name, below in node.get("properties", {}).items():  # type: ignore[attr-defined]
            here = f"{path}.{name}"
            if not below.get("description") and here not in (".apiVersion", ".kind", ".metadata"):
                found.append(here)
            found += undescribed(below, here) + undescribed(below.get("items", {}), f"{here}[]")
        return found

    assert undescribed(schema, "") == []


def test_explain_shows_a_field_s_meaning_and_its_words(kubectl: Kubectl) -> None:
    said = " ".join(explain(kubectl, "tj.spec.runPolicy.cleanPodPolicy").split())
    assert "Pods deleted once the job has ended" in said
    assert "ENUM: Running All None" in said


def test_columns_short_name_and_category(kubectl: Kubectl, namespace: str) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=yaml.safe_dump(job().namespace(namespace).build()))
    status = (
        '{"status": {"phase": "Running", "reason": "why", "mainMetric": "val_accuracy=0.9", "restarts": {"total": 2}, '
        '"workers": {"ready": "1/1"}, "progress": {"summary": "1/2 (50%)"}}}'
    )
    kubectl("patch", "tj", "digits", "-n", namespace, "--subresource=status", "--type=merge", "-p", status)
    head, row = kubectl("get", "tj", "-n", namespace).splitlines()
    assert head.split() == ["NAME", "PHASE", "WORKERS", "PROGRESS", "METRIC", "RESTARTS", "AGE"]
    assert row.split()[:7] == ["digits", "Running", "1/1", "1/2", "(50%)", "val_accuracy=0.9", "2"]
    wide = kubectl("get", "trainwright", "-n", namespace, "-o", "wide")
    assert "REASON" in wide
    assert "why" in wide


def test_an_unknown_field_is_refused_by_name(kubectl: Kubectl, namespace: str) -> None:
    bad = yaml.safe_dump(job().namespace(namespace).spec(worker=2).build())
    result = kubectl.run("apply", "-f", "-", stdin=bad)
    assert result.returncode != 0
    assert 'unknown field "spec.worker"' in result.stderr


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_every_sample_is_accepted(kubectl: Kubectl, namespace: str, sample: Path) -> None:
    said = kubectl("apply", "-n", namespace, "-f", sample)
    assert re.search(r"(trainingjob|modeldeployment)\.trainwright\.dev/\S+ created", said)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"canary": {"steps": [{"weight": 50}, {"weight": 10}]}}, "weights rise from step to step"),
        ({"canary": {"steps": [{"weight": 50}, {"weight": 50}]}}, "weights rise from step to step"),
        ({"gates": [{"metric": "accuracy"}]}, "a gate needs a bound"),
        ({"gates": [{"metric": "accuracy", "min": 2, "max": 1}]}, "no version could pass"),
        ({"offers": [{"name": "a"}]}, "exactly one of job, claim and uri"),
        ({"offers": [{"name": "a", "uri": "s3://b/c", "path": "x"}]}, "there is no claim"),
        ({"storage": {"claim": "a", "size": "1Gi"}}, "at most one of claim and size"),
        ({"verify": {"publicKey": {}}}, "exactly one of configMap and secret"),
        ({"pin": 1, "promote": 2}, "pin holds one version"),
        ({"server": "tfserving", "gateway": {"httpRoute": {"parent": {"name": "g"}}}}, "leave httpRoute out"),
    ],
)
def test_a_rule_of_a_deployment_is_the_same_in_cel_and_here(
    kubectl: Kubectl, namespace: str, spec: dict[str, object], says: str
) -> None:
    raw = deployment(**spec)
    raw["metadata"]["namespace"] = namespace
    result = kubectl.run("apply", "-f", "-", stdin=yaml.safe_dump(raw))
    assert result.returncode != 0
    assert says in result.stderr
    assert any(says in broken.message for broken in MODEL_DEPLOYMENT.broken(raw))


def test_what_is_fixed_of_a_deployment_cannot_change(kubectl: Kubectl, namespace: str) -> None:
    raw = deployment()
    raw["metadata"]["namespace"] = namespace
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(raw))
    change = '{"spec": {"server": "sklearn"}}'
    result = kubectl.run("patch", "md", "digits", "-n", namespace, "--type=merge", "-p", change)
    assert "spec.server cannot change once the deployment exists" in result.stderr
    kubectl("patch", "md", "digits", "-n", namespace, "--type=merge", "-p", '{"spec": {"pin": 3, "replicas": 2}}')


def test_a_scheduling_policy_is_fixed_and_the_rest_of_run_policy_is_not(kubectl: Kubectl, namespace: str) -> None:
    policy = {"provider": "capacity", "priorityClass": "a"}
    other = job().namespace(namespace).run_policy(schedulingPolicy=policy).spec(placement={"priorityClassName": "b"}).build()
    refused = kubectl.run("apply", "-f", "-", stdin=yaml.safe_dump(other))
    assert "it is another class than spec.placement.priorityClassName" in refused.stderr
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(job().namespace(namespace).run_policy(schedulingPolicy=policy).build()))
    for change in ('{"queue": "b"}', "null", '{"priorityClass": null}'):
        patch = f'{{"spec": {{"runPolicy": {{"schedulingPolicy": {change}}}}}}}'
        result = kubectl.run("patch", "tj", "digits", "-n", namespace, "--type=merge", "-p", patch)
        assert "spec.runPolicy.schedulingPolicy cannot change once the job exists" in result.stderr, change
    kubectl("patch", "tj", "digits", "-n", namespace, "--type=merge", "-p", '{"spec": {"runPolicy": {"suspend": true}}}')
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(job("plain").namespace(namespace).build()))
    kubectl("patch", "tj", "plain", "-n", namespace, "--type=merge", "-p", '{"spec": {"runPolicy": {"backoffLimit": 1}}}')
