"""The CRD on a real kube-apiserver, seen through kubectl as users see it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from support.builders import job
from support.twin import ROOT, Kubectl
from trainwright.local.controlplane import ControlPlane

CRD = ROOT / "manifests" / "crds" / "trainwright.dev_trainingjobs.yaml"
SAMPLES = sorted((ROOT / "manifests" / "samples").glob("*.yaml"))


@pytest.fixture
def kubectl(plane: tuple[ControlPlane, Kubectl]) -> Kubectl:
    return plane[1]


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    name = f"t-{uuid.uuid4().hex[:6]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def test_plain_apply_takes_the_definition_and_changes_nothing_the_second_time(kubectl: Kubectl) -> None:
    assert CRD.stat().st_size < 100_000
    kubectl("apply", "--force-conflicts", "--server-side", "-f", CRD)
    crd = yaml.safe_load(CRD.read_text())
    crd["metadata"]["name"] = "trainingjobs.example.com"
    crd["spec"]["group"] = "example.com"
    for _ in range(2):
        said = kubectl("apply", "-f", "-", stdin=yaml.safe_dump(crd))
    assert "unchanged" in said
    kubectl("delete", "crd", "trainingjobs.example.com")


def explain(kubectl: Kubectl, *words: str) -> str:
    """What kubectl explains, once the API server has published the schema of the new kind."""
    deadline = time.monotonic() + 30
    while (result := kubectl.run("explain", *words)).returncode != 0 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_field_is_explained(kubectl: Kubectl) -> None:
    said = explain(kubectl, "tj", "--recursive")
    for field in ("backoffLimit", "everySteps", "configMap", "sharedMemory", "samplesPerSecond"):
        assert field in said
    schema = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

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
    assert "trainingjob.trainwright.dev/" in said
    assert "created" in said
