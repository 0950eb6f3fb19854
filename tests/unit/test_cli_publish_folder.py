"""`trainwright publish FOLDER`: what it refuses before anything is sent, and what it makes. The cluster is one in memory."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from support.cli import CommandLine
from support.serving import DEPLOYMENT, deployment
from trainwright.api.names import PUBLISHER_IMAGE_ANNOTATION
from trainwright.cluster.port import CLAIMS, MODEL_DEPLOYMENTS, PODS, SERVICE_ACCOUNTS, STORAGE_CLASSES, Object

IMAGE = "registry.example/publisher:1"
CONTENT = b"weights" * 100


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "artifact"
    (folder / "saved_model").mkdir(parents=True)
    (folder / "saved_model" / "weights").write_bytes(CONTENT)
    facts = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "bytes": len(CONTENT)}
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "files": {"saved_model/weights": facts}}))
    return folder


@pytest.fixture
def world(cli: CommandLine) -> CommandLine:
    """A deployment that an operator has looked at; its models' claim has a storage class."""
    made = deployment()
    made["metadata"]["namespace"] = "default"
    cli.do(cli.cluster.create(MODEL_DEPLOYMENTS, made))
    account = named("ServiceAccount", f"{DEPLOYMENT}-publisher")
    account["metadata"]["annotations"] = {PUBLISHER_IMAGE_ANNOTATION: IMAGE}
    cli.do(cli.cluster.create(SERVICE_ACCOUNTS, account))
    cli.do(cli.cluster.create(CLAIMS, claim(f"{DEPLOYMENT}-models", storage_class="fast")))
    return cli


def named(kind: str, name: str, **more: Any) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "default"}, **more}


def claim(name: str, *, storage_class: str | None = None, size: str = "1Gi") -> Object:
    spec: Object = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return named("PersistentVolumeClaim", name, spec=spec | ({"storageClassName": storage_class} if storage_class else {}))


def no_manifest(folder: Path) -> None:
    (folder / "artifacts").mkdir()
    (folder / "manifest.json").rename(folder / "artifacts" / "manifest.json")


def not_a_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")


def leads_out(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({"files": {"../key": manifest["files"]["saved_model/weights"]}}))


def a_file_is_gone(folder: Path) -> None:
    (folder / "saved_model" / "weights").unlink()


def shorter(folder: Path) -> None:
    (folder / "saved_model" / "weights").write_bytes(CONTENT[:-1])


def changed(folder: Path) -> None:
    (folder / "saved_model" / "weights").write_bytes(b"!" + CONTENT[1:])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (no_manifest, "is no artifact: there is no manifest.json in it; "),
        (not_a_manifest, "names no files with their bytes and sha256"),
        (leads_out, "names '../key', which is not inside of the folder"),
        (a_file_is_gone, "saved_model/weights can't be read, and manifest.json names it: No such file"),
        (shorter, "saved_model/weights is damaged: it has 699 bytes, and manifest.json says 700"),
        (changed, "saved_model/weights is damaged: its sha256 is not the one that manifest.json has"),
    ],
)
def test_a_folder_that_is_no_whole_artifact_is_not_sent(world: CommandLine, artifact: Path, damage: Any, said: str) -> None:
    damage(artifact)
    told = world("publish", artifact, "--to", DEPLOYMENT)
    assert told.code == 2
    assert said in told.err
    assert world.do(world.cluster.list(PODS)).items == []


def test_a_folder_that_is_not_there_is_named(world: CommandLine) -> None:
    told = world("publish", "./runs/7", "--to", DEPLOYMENT)
    assert told.code == 2
    assert "runs/7: no such folder" in told.err


def test_without_an_operator_nobody_says_what_takes_it(world: CommandLine, artifact: Path) -> None:
    world.do(world.cluster.delete(SERVICE_ACCOUNTS, f"{DEPLOYMENT}-publisher", "default"))
    told = world("publish", artifact, "--to", DEPLOYMENT)
    assert told.code == 2
    assert "no operator has said yet which image takes artifacts for digits" in told.err


def test_without_a_storage_class_there_is_nowhere_to_send_it_to(world: CommandLine, artifact: Path) -> None:
    world.do(world.cluster.delete(CLAIMS, f"{DEPLOYMENT}-models", "default"))
    slow = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "slow"}, "provisioner": "x"}
    world.do(world.cluster.create(STORAGE_CLASSES, slow))
    told = world("publish", artifact, "--to", DEPLOYMENT)
    assert told.code == 2
    assert "no default storage class (storage classes: slow)" in told.err
    assert "digits-incoming" in told.err


def _pod(phase: str, digest: str, **status: Any) -> Object:
    made = named("Pod", f"{DEPLOYMENT}-incoming", spec={"containers": [{"name": "receiver", "image": "x"}]})
    made["metadata"]["annotations"] = {"trainwright.dev/digest": digest}
    made["status"] = {"phase": phase, **status}
    return made


def test_while_another_artifact_is_sent_this_one_waits(world: CommandLine, artifact: Path) -> None:
    world.do(world.cluster.create(PODS, _pod("Running", "0" * 64)))
    told = world("publish", artifact, "--to", DEPLOYMENT)
    assert told.code == 2
    assert "another artifact is being sent to digits (pod digits-incoming, since" in told.err


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]},
            2,
            "does not start: ImagePullBackOff: no such image",
        ),
        (
            {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 1, "message": "no space"}}}]},
            2,
            "has ended: no space",
        ),
    ],
)
def test_a_pod_that_does_not_start_says_why_and_is_not_left(
    world: CommandLine, artifact: Path, status: dict[str, Any], code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = world.cluster.create
    made: list[Object] = []

    async def node(resource: Any, obj: Object) -> Object:
        created = await create(resource, obj)
        if resource is PODS:
            made.append(created)
            await world.cluster.patch(PODS, obj["metadata"]["name"], "default", {"status": status}, subresource="status")
        return created

    monkeypatch.setattr(world.cluster, "create", node)
    told = world("publish", artifact, "--to", DEPLOYMENT)
    assert told.code == code
    assert said in told.err
    assert world.do(world.cluster.list(PODS)).items == []
    (pod,) = made
    incoming = world.do(world.cluster.get(CLAIMS, f"{DEPLOYMENT}-incoming", "default"))
    assert incoming["spec"] == claim("x", storage_class="fast")["spec"]
    assert pod["spec"]["containers"][0]["image"] == IMAGE
    assert "serviceAccountName" not in pod["spec"], "none of the publisher's rights"
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    incoming, scratch = pod["spec"]["volumes"]
    assert incoming["persistentVolumeClaim"]["claimName"] == f"{DEPLOYMENT}-incoming"
    assert scratch["emptyDir"] == {}
    raw = world.do(world.cluster.get(MODEL_DEPLOYMENTS, DEPLOYMENT, "default"))
    assert not raw["spec"].get("offers"), "nothing is offered that has not arrived"
