"""What may be wrong with a version, on a whole twin: each is refused or rolled back with its reason, and the live one serves on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from support.artifacts import copied, flipped, resealed, samples
from support.jobs import SAMPLES, succeeded
from support.load import load
from support.serving_twin import Served
from support.twin import ROOT, RunningTwin
from support.waiting import eventually

NAME = "cancer"


def v2(inputs: dict[str, list[Any]], row: int) -> dict[str, Any]:
    """One row as the Open Inference Protocol has it: a tensor a column."""
    return {
        "inputs": [{"name": name, "shape": [1], "datatype": "FP64", "data": [values[row]]} for name, values in inputs.items()]
    }


@pytest.mark.timeout(420)
async def test_versions_that_are_wrong_are_refused_and_the_live_one_serves_on(twin: RunningTwin, space: str) -> None:
    twin.kubectl("apply", "-n", space, "-f", SAMPLES / "serve-sklearn.yaml")
    served = Served(twin, space, NAME)
    await succeeded(twin, space, "cancer-1")
    steps = [{"weight": 50, "holdSeconds": 1, "minRequests": 30}]
    served.change(canary={"steps": steps, "maxLatencyRatio": 50}, smoke={"loadTimeoutSeconds": 25})
    await served.reaches(lambda now: now.get("live") == 1, "the first version is live")
    good = served.workspace("cancer-1") / "artifacts"
    recorded = samples(good)
    bodies = [v2(recorded["inputs"], row) for row in range(20)]

    answers = {**recorded["outputs"], "probabilities": [[0.5, 0.5]] * 20}
    wrong = {"inputs": recorded["inputs"], "outputs": answers}
    flipped(copied(good, "changed") / "model.skops")
    os.truncate(copied(good, "truncated") / "model.skops", 100)
    (copied(good, "unsealed") / "manifest.json").unlink()
    resealed(good, "unmeasured", facts={"metrics": {"loss": 0.1}})
    resealed(good, "worse", facts={"metrics": {"accuracy": 0.5}})
    resealed(good, "liar", files={"samples.json": json.dumps(wrong).encode()})
    resealed(good, "broken", files={"model.skops": b"no model"})
    resealed(good, "again", facts={"step": 2})

    cases = {
        "changed": ("Refused", "sha256 of model.skops differs"),
        "truncated": ("Refused", "has 100 of the"),
        "unsealed": ("Refused", "NoArtifact"),
        "unmeasured": ("Refused", "accuracy is not in the artifact's manifest"),
        "worse": ("Refused", "accuracy 0.5 is below 0.9"),
        "liar": ("RolledBack", "smoke predictions"),
        "broken": ("RolledBack", "not loaded within 25 s"),
    }
    async with load(served.gateways, f"/v2/models/{NAME}/infer", bodies, clients=1, pause=0.05) as clients:
        # All at once: they are taken one after the other.
        served.change(offers=[{"name": name, "claim": "cancer-1-workspace", "path": name} for name in cases])
        status = await served.reaches(
            lambda now: len(now.get("versions", [])) == 1 + len(cases) and not now.get("candidate"), "all are decided", within=200
        )
        ended = {one["offer"].removeprefix("offer/"): one for one in status["versions"]}
        for name, (state, why) in cases.items():
            assert ended[name]["state"] == state, ended[name]
            assert why in ended[name]["reason"], ended[name]
        assert status["live"] == 1

        # A gateway that dies during a canary costs time, and not the version.
        served.change(offers=[{"name": "again", "claim": "cancer-1-workspace", "path": "again"}])
        await served.reaches(lambda now: now.get("candidate", {}).get("step") == "Canary", "a canary")
        for process in served.processes("gateway"):
            os.kill(process, signal.SIGKILL)
        await served.reaches(lambda now: now.get("live") == 9, "the version is live after all")
        await eventually(lambda: clients.answers["9"] > 20, within=60, every=0.2, what="it answers")
    # While the only gateway is gone nobody can answer; what was answered before and after was answered well.
    assert [one for one in clients.failures if not re.search("Connect|Disconnect|reset", one)] == []
    files = {path.name for path in (served.models() / "versions").iterdir()}
    assert files == {"1", "9"}, "nothing is left of versions that were refused or rolled back"
    assert json.loads((served.models() / "records" / "9" / "manifest.json").read_text())["step"] == 2


@pytest.mark.timeout(240)
async def test_only_what_is_signed_is_taken_where_a_key_is_named(twin: RunningTwin, space: str, tmp_path: Path) -> None:
    private, public = tmp_path / "release.pem", tmp_path / "release.pub"
    key = ec.generate_private_key(ec.SECP256R1())
    none = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none))
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, spki))
    twin.kubectl("create", "configmap", "release-key", f"--from-file=model.pub={public}", "-n", space)
    twin.kubectl("apply", "-n", space, "-f", SAMPLES / "serve-sklearn.yaml")
    served = Served(twin, space, NAME)
    served.change(verify={"publicKey": {"configMap": {"name": "release-key", "key": "model.pub"}}})
    await succeeded(twin, space, "cancer-1")
    status = await served.reaches(lambda now: now.get("ended", {}).get("Refused") == 1, "what is not signed is refused")
    assert "NotSigned" in status["versions"][0]["reason"]
    artifact = served.workspace("cancer-1") / "artifacts"
    publisher = ROOT / "trainer_images/serving/publisher/.venv/bin/trainwright-publisher"
    subprocess.run([publisher, "sign", "--source", artifact, "--private-key", private], check=True, capture_output=True)
    offered = twin.cli("publish", "cancer-1", "--to", NAME, "-n", space, "--follow", timeout=150)
    assert offered.returncode == 0, offered.stderr
    verified = next(one for one in served.status()["conditions"] if one["type"] == "Verified")
    assert ", signed" in verified["message"]


@pytest.mark.timeout(300)
async def test_tensorflow_serving_holds_all_versions_and_labels_follow(twin: RunningTwin, space: str) -> None:
    # The double installs what it speaks by when it is first called; a pod has no index to install from.
    subprocess.run([ROOT / "tests/support/tfserving/tensorflow_model_server", "--help"], check=True, capture_output=True)
    twin.kubectl("apply", "-n", space, "-f", SAMPLES / "serve-tensorflow.yaml")
    served = Served(twin, space, "wine")
    await succeeded(twin, space, "wine-1")
    await served.reaches(lambda now: now.get("live") == 1, "the first version is live")
    good = served.workspace("wine-1") / "artifacts"
    inputs = samples(good)["inputs"]
    request = {"inputs": {name: rows[:1] for name, rows in inputs.items()}}
    Path(served.twin.home / "request.json").write_text(json.dumps(request))
    told = twin.cli("predict", "wine", served.twin.home / "request.json", "-n", space)
    assert told.returncode == 0, told.stderr
    assert "outputs" in json.loads(told.stdout)
    assert "version 1" in told.stderr

    resealed(good, "again", facts={"step": 2})
    served.change(canary={"steps": [{"weight": 50, "holdSeconds": 1, "minRequests": 30}], "maxLatencyRatio": 50})
    served.change(offers=[{"name": "again", "claim": "wine-1-workspace", "path": "again"}])
    bodies = [{"inputs": {name: [rows[row]] for name, rows in inputs.items()}} for row in range(20)]
    async with load(served.gateways, "/v1/models/wine:predict", bodies, clients=1, pause=0.05) as clients:
        await served.reaches(lambda now: now.get("live") == 2, "the second version is live", within=150)
        await eventually(lambda: clients.answers["2"] > 50, within=60, every=0.2, what="it answers")
    assert clients.failures == []
    assert len(served.processes("server")) > 0
    pods = [pod["metadata"]["name"] for pod in served.pods("server")]
    assert len(pods) == 1, "one server for all versions"
