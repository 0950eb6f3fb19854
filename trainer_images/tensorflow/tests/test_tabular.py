"""The recipe for tables as a gang of real workers: what it reaches, for any number of them, and what it leaves behind."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from artifacts import require_served_facts
from launching import Gang, Worker, builtin, wait_for
from pages import Page

from trainwright_runtime.environment import DataSource
from trainwright_runtime.sealed import read_seal, verify
from trainwright_runtime.tabular.data import load
from trainwright_runtime.tabular.network import columns_of
from trainwright_tensorflow.tabular.config import TrainingConfig
from trainwright_tensorflow.tabular.model import build_network, with_words

START_SECONDS = 180
SHORT = "{epochs: 20, log_every_steps: 1}"

LOAD = """
import json, sys
from pathlib import Path
import keras, numpy as np, tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

folder = Path(sys.argv[1])
given = json.loads((folder / "samples.json").read_text())
inputs = {name: np.array(rows, dtype=object if name == "words" else "float32") for name, rows in given["inputs"].items()}
(name,) = given["outputs"]
tensors = {name: tf.constant(array) for name, array in inputs.items()}
answers = {
    "model.keras": keras.models.load_model(folder / "model.keras")(tensors if len(tensors) > 1 else tensors[next(iter(tensors))]),
    "saved_model": tf.saved_model.load(folder / "saved_model").signatures["serving_default"](**tensors)[name],
}
if (folder / "model.tflite").exists():
    runner = Interpreter(model_path=str(folder / "model.tflite")).get_signature_runner()
    answers["model.tflite"] = runner(**{name: tensor.numpy() for name, tensor in tensors.items()})[name]
assert not [name for name in sys.modules if name.startswith("trainwright")]
print(json.dumps({name: np.asarray(answer).tolist() for name, answer in answers.items()}))
"""


def start(gang: Gang, config: str, data: str = builtin("breast_cancer"), **given: Any) -> list[Worker]:
    return gang.start("recipe", "tabular", framework="tensorflow", config=config, TRAINWRIGHT_DATA=data, **given)


def finished(gang: Gang, workers: list[Worker]) -> dict[str, Any]:
    assert [worker.wait(START_SECONDS) for worker in workers] == [0] * len(workers), "\n".join(one.output for one in workers)
    return gang.report()


def losses(report: dict[str, Any]) -> list[Any]:
    return report["curves"][0]["lines"]["training"]


def digests(workers: list[Worker]) -> list[str]:
    """What each worker says that its weights are."""
    return [re.findall(r"sha256 (\w{64})", worker.output)[0] for worker in workers]


def assert_each_form_answers_as_the_trainer_did(path: Path) -> None:
    """In a process that knows nothing of ours."""
    argv = [sys.executable, "-c", LOAD, path]
    result = subprocess.run(argv, cwd=path, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert result.returncode == 0, result.stderr
    (expected,) = json.loads((path / "samples.json").read_text())["outputs"].values()
    for name, answer in json.loads(result.stdout.splitlines()[-1]).items():
        np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gang, list[Worker], dict[str, Any]]]:
    """Tumours told apart by two workers, undisturbed. 397 rows in steps of 32: the last has 13, unequally shared."""
    gang = Gang(tmp_path_factory.mktemp("two"))
    workers = start(gang, SHORT, workers=2)
    yield gang, workers, finished(gang, workers)
    gang.end()


def test_tumours_are_told_apart_and_the_artifact_says_so(two_workers: tuple[Gang, list[Worker], dict[str, Any]]) -> None:
    gang, workers, report = two_workers
    path = gang.workspace / "artifacts"
    manifest = read_seal(path)
    verify(path, manifest)
    assert manifest["metrics"]["accuracy"] >= 0.95
    assert report["metrics"]["test_accuracy"] == manifest["metrics"]["accuracy"]
    files = {name.split("/")[0] for name in manifest["files"]}
    assert files >= {"saved_model", "model.keras", "model.tflite", "samples.json", "report.json", "report.html", "curves.png"}
    assert "model.h5" not in files
    assert "model.h5 is left out: this model can't be converted" in workers[0].output
    assert manifest["columns"]["numbers"][0] == "mean radius"
    require_served_facts(path, manifest, tested=86)
    assert manifest["signature"]["inputs"] == [{"name": "numbers", "dtype": "float32", "shape": [-1, 30]}]
    assert manifest["signature"]["classes"] == ["benign", "malignant"]
    assert set(manifest["features"]) == {*manifest["columns"]["numbers"], "target"}
    assert len(losses(report)) == 20 * 13
    assert {"Training loss", "Validation", "Confusion matrix", "ROC"} <= set(Page((path / "report.html").read_text()).pictures)
    assert_each_form_answers_as_the_trainer_did(path)
    one, other = digests(workers)
    assert one == other


def test_one_worker_has_the_loss_curve_of_two(two_workers: tuple[Gang, list[Worker], dict[str, Any]], gang: Gang) -> None:
    report = finished(gang, start(gang, SHORT))
    for (step, loss), (_, expected) in zip(losses(report), losses(two_workers[2]), strict=True):
        assert loss == pytest.approx(expected, rel=1e-2, abs=1e-4), f"step {step}"


def test_stopped_and_resumed_is_as_if_nothing_had_happened(gang: Gang, tmp_path: Path) -> None:
    config = "{epochs: 6, log_every_steps: 1, dropout: 0.2, step_delay_seconds: %s}"
    unbroken = Gang(tmp_path / "unbroken")
    unbroken.folder.mkdir()
    undisturbed = start(unbroken, config % 0)
    expected = finished(unbroken, undisturbed)
    unbroken.end()
    (worker,) = start(gang, config % 0.05)
    wait_for(lambda: worker.progress().get("step", 0) >= 20, "step 20", START_SECONDS)
    worker.process.terminate()
    assert worker.wait() == 143
    resumed = start(gang, config % 0, attempt=2)
    assert losses(finished(gang, resumed)) == losses(expected)
    assert resumed[0].message["progress"]["resumedFrom"] >= 20
    assert digests(resumed) == digests(undisturbed)


def test_words_gaps_and_numbers_to_predict(gang: Gang) -> None:
    """A regression over a file of one's own: the model takes the file's words, and answers are in the unit of the target."""
    folder = gang.folder / "data"
    folder.mkdir()
    lines = ["size,place,kind,price"]
    for row in range(200):
        size, place = row % 20, ("nörth", "south", "[UNK]")[row % 3]
        price = 1000 + 50 * size + {"nörth": 300, "south": -200, "[UNK]": 0}[place]
        lines.append(f"{'' if row % 13 == 5 else size},{'' if row % 31 == 5 else place},{'ab'[row % 2]},{price}")
    (folder / "houses.csv").write_text("\n".join(lines))
    data = json.dumps({"train": {"path": str(folder)}})
    report = finished(gang, start(gang, "{target: price, task: regression, hidden: [32], epochs: 80, learning_rate: 0.02}", data))
    assert report["metrics"]["test_r2"] >= 0.9
    path = gang.workspace / "artifacts"
    manifest = read_seal(path)
    assert manifest["columns"] == {"numbers": ["size"], "words": {"place": ["", "[UNK]", "nörth", "south"], "kind": ["a", "b"]}}
    assert [(one["name"], one["dtype"], one["shape"]) for one in manifest["signature"]["inputs"]] == [
        ("numbers", "float32", [-1, 1]),
        ("words", "string", [-1, 2]),
    ]
    samples = json.loads((path / "samples.json").read_text())
    assert {word for row in samples["inputs"]["words"] for word in row} >= {"[UNK]", "nörth", "south", "a", "b"}
    assert None in [number for (number,) in samples["inputs"]["numbers"]], "a gap stays a gap"
    assert 500 < min(samples["outputs"]["predictions"]) < max(samples["outputs"]["predictions"]) < 2500
    assert_each_form_answers_as_the_trainer_did(path)


def test_a_word_that_training_never_saw_is_none_of_those_it_saw(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("place,price\n" + "".join(f"{'abc'[row % 3]},{row}\n" for row in range(60)))
    config = TrainingConfig(target="price", task="regression")
    data = load([DataSource(name="train", path=tmp_path)], config)
    columns = columns_of(data)
    network = build_network(data, columns, config)
    served = with_words(network, columns)({"words": tf.constant([["b"], ["moon"], [""]])}).numpy()
    assert served.tolist() == network({"codes": tf.constant([[1], [-1], [-1]])}).numpy().tolist()
    assert served[0] != served[1]


def test_replicas_that_are_compiled_learn_in_half_the_precision(gang: Gang) -> None:
    """Two shares of the CPU stand for two GPUs."""
    config = "{replicas: 2, jit: true, precision: fp16, epochs: 15, learning_rate: 0.01}"
    (worker,) = workers = start(gang, config, builtin("wine"))
    assert finished(gang, workers)["metrics"]["test_accuracy"] >= 0.9
    assert "1 worker, 2 replicas on CPU: classification of 'target', 124 training, 27 validation, 27 test rows" in worker.output
    assert_each_form_answers_as_the_trainer_did(gang.workspace / "artifacts")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("hidden: [64, 0]", "key 'hidden.1' has the value 0"),
        ("momentum: 0.9", "unknown key 'momentum' (value 0.9)"),
        ("target: diagnosis", "key 'target' has the value 'diagnosis', which builtin: breast_cancer lacks"),
    ],
    ids=["no units", "another recipe's key", "no such column"],
)
def test_what_is_refused_is_said(gang: Gang, config: str, message: str) -> None:
    (worker,) = start(gang, config)
    assert worker.wait(START_SECONDS) == 64, worker.output
    assert worker.message["cause"] == "InvalidConfig"
    assert message in worker.message["message"]
