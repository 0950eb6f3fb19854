"""`trainwright publish FOLDER` on a whole twin: an artifact of this machine goes live, also when its sending is interrupted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.artifacts import copied, flipped, resealed
from support.jobs import SAMPLES, succeeded
from support.serving_twin import Served
from support.twin import TRAINWRIGHT, RunningTwin
from support.waiting import eventually

NAME = "cancer"
BIG = 192 << 20


def pods(twin: RunningTwin, space: str) -> list[dict[str, Any]]:
    """Those that take artifacts."""
    listed = twin.kubectl.json("get", "pods", "-n", space, "-l", "trainwright.dev/role=receiver")
    return list(listed["items"])


def size(incoming: Path) -> int:
    """How many bytes of an unfinished file have come."""
    return sum(path.stat().st_size for path in incoming.glob(".*/pieces/*"))


@pytest.mark.timeout(300)
async def test_an_artifact_of_this_machine_is_sent_and_goes_live(twin: RunningTwin, space: str, tmp_path: Path) -> None:
    twin.kubectl("apply", "-n", space, "-f", SAMPLES / "serve-sklearn.yaml")
    served = Served(twin, space, NAME)
    await succeeded(twin, space, "cancer-1")
    served.change(canary={"steps": []})
    await served.reaches(lambda now: now.get("live") == 1, "the first version is live")
    artifact = tmp_path / "artifact"
    shutil.copytree(served.workspace("cancer-1") / "artifacts", artifact)
    resealed(artifact, "second", facts={"step": 2})

    flipped(copied(artifact, "changed") / "model.skops")
    told = twin.cli("publish", tmp_path / "changed", "--to", NAME, "-n", space)
    assert told.returncode == 2
    assert "model.skops is damaged" in told.stderr
    assert pods(twin, space) == [], "what is damaged here isn't sent"

    told = twin.cli("publish", tmp_path / "second", "--to", NAME, "-n", space, "--follow")
    assert told.returncode == 0, told.stderr
    status = await served.reaches(lambda now: now.get("live") == 2, "it is live")
    manifest = json.loads((served.models() / "records" / "2" / "manifest.json").read_text())
    assert manifest["step"] == 2
    assert pods(twin, space) == []
    digest = status["versions"][0]["digest"].removeprefix("sha256:")
    assert [path.name for path in served._directory(f"{NAME}-incoming").iterdir()] == [digest]

    # A third one, large, whose sending is interrupted: once as Ctrl-C does it, once as a machine that loses its power.
    resealed(artifact, "large", facts={"step": 3}, files={"model.onnx": os.urandom(BIG)})
    words = [TRAINWRIGHT, "publish", tmp_path / "large", "--to", NAME, "-n", space]
    incoming = served._directory(f"{NAME}-incoming")
    for how in (signal.SIGINT, signal.SIGKILL):
        before = size(incoming)
        process = subprocess.Popen(words, env={**os.environ, **twin.environment}, stderr=subprocess.PIPE, text=True)
        await eventually(lambda before=before: size(incoming) > before, within=60, every=0.01, what="pieces of it arrive")
        # Held, so that it can't come to its end before the signal comes.
        process.send_signal(signal.SIGSTOP)
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)
        _, said = process.communicate(timeout=30)
        if how is signal.SIGINT:
            assert process.returncode == 130, said
            assert "the same command goes on" in said
            await eventually(lambda: not pods(twin, space), within=30, every=0.2, what="the pod is gone")
    assert len(pods(twin, space)) == 1, "nobody was left to remove it"
    busy = twin.cli("publish", artifact, "--to", NAME, "-n", space)
    assert busy.returncode == 2
    assert "another artifact is being sent to cancer" in busy.stderr
    told = twin.cli("publish", tmp_path / "large", "--to", NAME, "-n", space, "--follow")
    assert told.returncode == 0, told.stderr
    assert "were there already" in told.stderr
    await served.reaches(lambda now: now.get("live") == 3, "it is live, too")
    offers = twin.kubectl.json("get", "md", NAME, "-n", space)["spec"]["offers"]
    assert [one["claim"] for one in offers] == [f"{NAME}-incoming"]


async def test_why_an_artifact_can_not_be_sent_is_said(twin: RunningTwin, space: str, tmp_path: Path) -> None:
    (tmp_path / "artifact").mkdir()
    content = {"format": 1, "files": {}}
    (tmp_path / "artifact" / "manifest.json").write_text(json.dumps(content))
    words = ("publish", tmp_path / "artifact", "--to", NAME, "-n", space)
    metadata = {"name": NAME}
    spec = {"server": "sklearn", "storage": {"claim": "mine"}}
    deployment = {"apiVersion": "trainwright.dev/v1alpha1", "kind": "ModelDeployment", "metadata": metadata, "spec": spec}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "nowhere"}
    made = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "mine"}, "spec": claim}
    twin.kubectl("apply", "-n", space, "-f", "-", stdin=json.dumps(made))
    twin.kubectl("apply", "-n", space, "-f", "-", stdin=json.dumps(deployment))
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"count/pods": "0"}}}
    served = Served(twin, space, NAME)
    await eventually(
        lambda: "serviceaccount" in twin.kubectl("get", "sa", "-n", space, "-o", "name", f"{NAME}-publisher", check=False),
        within=30,
        every=0.2,
    )
    twin.kubectl("apply", "-n", space, "-f", "-", stdin=json.dumps(quota))

    def counted() -> bool:
        return "hard" in twin.kubectl.json("get", "quota", "few", "-n", space).get("status", {})

    await eventually(counted, within=30, every=0.2, what="the quota is in force")
    told = twin.cli(*words)
    assert told.returncode == 1
    assert "exceeded quota: few" in told.stderr
    twin.kubectl("delete", "quota", "few", "-n", space)
    process = subprocess.Popen(
        [TRAINWRIGHT, *map(str, words)], env={**os.environ, **twin.environment}, stderr=subprocess.PIPE, text=True
    )
    # Its claim is of the class of the models' one, which nobody provides.
    await eventually(lambda: pods(twin, space), within=30, every=0.2, what="a pod that waits")
    twin.kubectl("delete", "pod", f"{NAME}-incoming", "-n", space, "--wait=false")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert served.status().get("versions", []) == []
