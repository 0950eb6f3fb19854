"""The command line against a real kube-apiserver: what doctor and top make of its answers, and of its refusals."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.builders import job
from support.twin import TRAINWRIGHT, Kubectl, trainwright
from support.waiting import eventually
from trainwright.cli.errors import no_such_kind
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import TRAINING_JOBS, NotFound, Resource
from trainwright.local.controlplane import ControlPlane

Plane = tuple[ControlPlane, Kubectl]


@pytest.fixture
def space(plane: Plane) -> Iterator[str]:
    """A namespace for one test."""
    name = f"t-{uuid.uuid4().hex[:6]}"
    plane[1]("create", "namespace", name)
    yield name
    plane[1]("delete", "namespace", name, "--wait=false")


@pytest.fixture
def cli(plane: Plane, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line as a user runs it, as the cluster's administrator; with `kubeconfig`, as somebody else."""

    def run(*words: str | Path, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
        env = {"KUBECONFIG": str(kubeconfig or plane[0].kubeconfig), "TRAINWRIGHT_HOME": str(tmp_path)}
        result = trainwright(*words, env=env)
        assert "Traceback" not in result.stderr
        return result

    return run


def somebody(plane: Plane, space: str, path: Path, *grants: str) -> Path:
    """The kubeconfig of a service account that may do what a role with these arguments lets it."""
    kubectl = plane[1]
    kubectl("create", "serviceaccount", "bob", "-n", space)
    if grants:
        kubectl("create", "role", "bob", "-n", space, *grants)
        kubectl("create", "rolebinding", "bob", "-n", space, "--role=bob", f"--serviceaccount={space}:bob")
    config = json.loads(kubectl("config", "view", "--raw", "-o", "json"))
    config["users"][0]["user"] = {"token": kubectl("create", "token", "bob", "-n", space).strip()}
    config["contexts"][0]["context"]["namespace"] = space
    path.write_text(yaml.safe_dump(config))
    return path


def findings(result: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {one["check"]: one for one in json.loads(result.stdout)["findings"]}


def test_doctor_sees_a_control_plane_without_nodes_and_operator(cli: Callable[..., Any], space: str) -> None:
    result = cli("doctor", "-n", space, "-o", "json")
    found = findings(result)
    assert result.returncode == 1
    levels = {check: found[check]["level"] for check in ("cluster", "crd", "rights", "storage", "schedulers", "gpus")}
    assert levels == {
        "cluster": "ok",
        "crd": "ok",
        "rights": "ok",
        "storage": "ok",
        "schedulers": "ok",
        "gpus": "problem",
    }
    assert found["operator"]["level"] in ("warning", "problem"), "a problem once other tests have left jobs that nobody looks at"
    assert found["crd"]["message"] == "TrainingJobs and ModelDeployments are defined as this version defines them", (
        "the API server's own defaults are no difference"
    )
    assert "PodGroup v1alpha2" in found["schedulers"]["message"], "the gates of the twin's control plane serve it"


def test_doctor_and_commands_of_somebody_with_few_rights(
    cli: Callable[..., Any], plane: Plane, space: str, tmp_path: Path
) -> None:
    bob = somebody(plane, space, tmp_path / "bob", "--verb=get,list,watch", "--resource=trainingjobs.trainwright.dev")
    result = cli("doctor", "-o", "json", kubeconfig=bob)
    assert result.returncode == 1
    rights = {one["message"]: one for one in json.loads(result.stdout)["findings"] if one["check"] == "rights"}
    assert f"you may not submit jobs in namespace {space}" in rights
    assert rights[f"you may not submit jobs in namespace {space}"]["fix"].endswith(
        "create, patch on trainingjobs.trainwright.dev"
    )
    assert f"you may not watch jobs in namespace {space}" not in rights
    assert findings(result)["crd"]["level"] == "warning"
    top = cli("top", "-o", "json", kubeconfig=bob)
    assert top.returncode == 0, top.stderr
    assert json.loads(top.stdout) == {"gpus": None, "queue": [], "jobs": []}
    refused = cli("top", "-A", kubeconfig=bob)
    assert refused.returncode == 1
    assert "is forbidden" in refused.stderr
    assert "trainwright doctor" in refused.stderr


def test_submit_status_and_top_speak_of_the_same_job(cli: Callable[..., Any], plane: Plane, space: str, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    raw = job("digits").workers(2).build()
    del raw["metadata"]["namespace"]
    file.write_text(yaml.safe_dump(raw))
    nowhere = cli("submit", file, "-n", "nowhere")
    assert (nowhere.returncode, "kubectl create namespace nowhere" in nowhere.stderr) == (2, True)
    stored = json.loads(cli("submit", file, "-n", space, "-o", "json").stdout)["items"][0]
    assert stored["metadata"]["namespace"] == space
    assert "managedFields" not in stored["metadata"]
    seen = json.loads(cli("status", "digits", "-n", space, "-o", "json").stdout)
    assert seen["metadata"]["uid"] == stored["metadata"]["uid"]
    top = cli("top", "-n", space)
    assert "digits New" in " ".join(top.stdout.split())
    assert "no operator has looked at it yet" in " ".join(top.stdout.split())
    everywhere = json.loads(cli("top", "-A", "-o", "json").stdout)
    assert (space, "digits") in [(one["namespace"], one["name"]) for one in everywhere["jobs"]]
    file.write_text(yaml.safe_dump(job("digits").namespace(space).workers(3).build()))
    changed = cli("submit", file)
    assert changed.returncode == 2
    assert "spec.workers cannot change" in changed.stderr


async def test_a_kind_that_is_not_served_is_told_from_an_object_that_is_not_there(plane: Plane) -> None:
    cluster = await KubeCluster.connect(kubeconfig=plane[0].kubeconfig)
    try:
        for absent in (
            Resource("Widget", "widgets", "nobody.example.com"),
            Resource("Widget", "widgets", "trainwright.dev", "v1alpha1"),
        ):
            with pytest.raises(NotFound) as unknown:
                await cluster.list(absent)
            assert no_such_kind(unknown.value)
            with pytest.raises(NotFound) as unknown:
                await cluster.get(absent, "one", "default")
            assert no_such_kind(unknown.value)
        with pytest.raises(NotFound) as missing:
            await cluster.get(TRAINING_JOBS, "nothing-here", "default")
        assert not no_such_kind(missing.value)
    finally:
        await cluster.close()


async def test_top_in_a_terminal_shows_what_changes_until_ctrl_c(plane: Plane, space: str) -> None:
    """A pseudo-terminal: without one, top prints once and leaves."""
    leader, follower = pty.openpty()
    env = {**os.environ, "KUBECONFIG": str(plane[0].kubeconfig), "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen(
        [TRAINWRIGHT, "top", "-n", space], stdin=follower, stdout=follower, stderr=follower, env=env, start_new_session=True
    )
    os.close(follower)
    os.set_blocking(leader, False)
    seen = bytearray()

    def shows(text: str) -> bool:
        try:
            seen.extend(os.read(leader, 65536))
        except (BlockingIOError, OSError):
            time.sleep(0.02)
        return text.encode() in seen

    try:
        await eventually(lambda: shows("no jobs"), within=30, what="the empty screen")
        plane[1]("apply", "-f", "-", stdin=yaml.safe_dump(job("digits").namespace(space).build()))
        await eventually(lambda: shows("digits"), within=15, what="a job that came later")
        process.send_signal(signal.SIGINT)
        await eventually(lambda: shows("\x1b[?1049l") or process.poll() is not None, within=15, what="the screen is given back")
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        os.close(leader)
