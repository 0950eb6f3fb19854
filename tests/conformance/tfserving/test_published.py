"""A version as the publisher puts it in place: served, it answers what the trainer saw."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf

from conftest import DOUBLE, Named, Serving, config, free_port, model, put, wait_for
from trainwright_runtime.sealed import write_sealed
from trainwright_runtime.serving.record import digest_of

PUBLISHER = Path(__file__).parents[3] / "trainer_images/serving/publisher/.venv/bin/trainwright-publisher"
INPUTS = {"numbers": [[1.0, 2.0], [float("nan"), 4.0]], "words": ["a", "b"], "counts": [1, 2]}


def make_artifact(folder: Path) -> Path:
    """What a trainer of TensorFlow leaves, with samples of what the model answers in this process."""
    saved = folder / "saved"
    tf.saved_model.save(module := Named(), str(saved), signatures=module.__call__)
    types = {"numbers": tf.float32, "words": tf.string, "counts": tf.int64}
    answers = module(**{name: tf.constant(values, types[name]) for name, values in INPUTS.items()})
    outputs = {"total": [None if one != one else one for one in answers["total"].numpy().tolist()]}
    samples = {"inputs": {**INPUTS, "numbers": [[1.0, 2.0], [None, 4.0]]}, "outputs": outputs}
    files = {f"saved_model/{path.relative_to(saved)}": path.read_bytes() for path in saved.rglob("*") if path.is_file()}
    files["samples.json"] = json.dumps(samples).encode()
    signature = {
        "inputs": [{"name": name, "dtype": str(types[name].name), "shape": [-1]} for name in INPUTS],
        "outputs": [{"name": "total", "dtype": "float32", "shape": [-1]}],
    }
    facts = {"framework": "tensorflow", "recipe": "tabular", "time": 1.0, "signature": signature}
    write_sealed(
        folder / "artifact", {name: lambda stream, it=content: stream.write(it) for name, content in files.items()}, facts
    )
    return folder / "artifact"


def publish(artifact: Path, models: Path, version: int) -> None:
    digest = digest_of((artifact / "manifest.json").read_bytes())
    what = ["--source", artifact, "--server", "tfserving", "--digest", digest, "--model", "named", "--version", str(version)]
    subprocess.run([PUBLISHER, "publish", *what, "--models", models], check=True, capture_output=True, timeout=60)


def test_publishing_is_deploying(tmp_path: Path, start: Callable[..., Serving]) -> None:
    artifact, models = make_artifact(tmp_path), tmp_path / "models"
    models.mkdir()
    publish(artifact, models, 1)
    server = start(config(model("named", models / "versions"))).wait_until_ready()
    body = json.dumps({"inputs": INPUTS}).encode()
    samples = json.loads((models / "records/1/samples.json").read_text())
    status, answer = server.predict(body, "named")
    assert status == 200
    first, second = answer["outputs"]["total"]
    assert first == pytest.approx(samples["outputs"]["total"][0])
    assert (second != second, samples["outputs"]["total"][1]) == (True, None)
    publish(artifact, models, 2)
    wait_for(lambda: server.states("named") == {1: "END", 2: "AVAILABLE"}, "the version that was published")
    subprocess.run([PUBLISHER, "remove", "--models", models, "--version", "1"], check=True, capture_output=True, timeout=60)
    assert server.predict(body, "named")[0] == 200


@pytest.mark.skipif(
    bool(os.environ.get("TFSERVING_SERVER") or os.environ.get("TFSERVING_IMAGE")), reason="the real one has no such switch"
)
def test_the_double_listens_on_the_pods_address_alone(tmp_path: Path) -> None:
    put(tmp_path / "plus", 1)
    address, ports = f"127.{uuid.uuid4().int % 100 + 100}.7.9", (free_port(), free_port())
    flags = [f"--port={ports[0]}", f"--rest_api_port={ports[1]}", "--model_name=plus", f"--model_base_path={tmp_path / 'plus'}"]
    process = subprocess.Popen([DOUBLE, *flags], env={**os.environ, "TRAINWRIGHT_POD_IP": address}, stderr=subprocess.DEVNULL)

    def answers(host: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{host}:{ports[1]}/v1/models/plus", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        wait_for(lambda: answers(address), "an answer on the pod's address")
        assert not answers("127.0.0.1")
    finally:
        process.terminate()
        assert process.wait(30) == 0
    shutil.rmtree(tmp_path / "plus")
