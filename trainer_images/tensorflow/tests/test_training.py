"""The recipe on gangs of real workers: what it reaches, that workers agree, and that what happens to it shows in no result."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from artifacts import require_digits
from launching import Gang, Worker, wait_for
from smoothing import LEAST_SMOOTHED

from trainwright_runtime.sealed import read_seal, verify

RECIPE = ("recipe", "image-classification")
START_SECONDS = 180
"""For a gang of two to load TensorFlow on a busy machine of two cores, and to do what little is asked of it."""


def start(gang: Gang, *arguments: str, **given: Any) -> list[Worker]:
    return gang.start(*(arguments or RECIPE), framework="tensorflow", **given)


def finish(workers: list[Worker]) -> None:
    assert [worker.wait(START_SECONDS) for worker in workers] == [0] * len(workers), "\n".join(one.output for one in workers)


def digests(gang: Gang, workers: int, attempt: int = 1) -> list[str]:
    """What each worker says that its weights are."""
    return [re.findall(r"sha256 (\w{64})", gang.log(rank, attempt))[0] for rank in range(workers)]


def assert_same_curve(one: Any, other: Any, tolerance: float) -> None:
    """The test says which step differs."""
    assert [step for step, _ in one] == [step for step, _ in other]
    for (step, loss), (_, expected) in zip(one, other, strict=True):
        assert abs(loss - expected) <= tolerance, f"step {step}: {loss} against {expected}"


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gang]:
    """Digits by two workers, undisturbed. 1,259 images in steps of 64: the last has 43, unequally shared."""
    gang = Gang(tmp_path_factory.mktemp("two"))
    finish(start(gang, workers=2, config="log_every_steps: 1", TRAINWRIGHT_CHECKPOINT_EVERY_STEPS="50"))
    yield gang
    gang.end()


# --- what it reaches --------------------------------------------------------------------------------------------------


def test_digits_are_learned_by_two_workers(two_workers: Gang) -> None:
    test = two_workers.report()["test"]
    assert test["accuracy"] >= 0.97
    assert test["macro_f1"] >= 0.97
    assert sum(map(sum, test["confusion"])) == 269
    assert two_workers.report()["worldSize"] == 2
    assert two_workers.report()["steps"] == 300


def test_workers_that_saw_different_images_end_with_equal_weights(two_workers: Gang) -> None:
    one, other = digests(two_workers, 2)
    assert one == other


def test_checkpoints_are_kept_as_asked(two_workers: Gang) -> None:
    kept = sorted((two_workers.workspace / "checkpoints").iterdir())
    assert [path.name for path in kept] == ["step-200", "step-250", "step-300"]
    manifest = read_seal(kept[-1])
    assert (manifest["framework"], manifest["worldSize"]) == ("tensorflow", 2)
    assert set(manifest["files"]) == {"model.npz", "optimizer.npz", "state.npz", "training.json", "rank-0.json", "rank-1.json"}


LOAD = """
import json, os, sys
import numpy as np
from pathlib import Path

folder = Path(sys.argv[1])
images = np.load(sys.argv[2])
import keras, tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

logits = {name: keras.models.load_model(folder / name)(images).numpy() for name in ("model.keras", "model.h5")}
served = tf.saved_model.load(folder / "saved_model").signatures["serving_default"]
logits["saved_model"] = served(images=tf.constant(images))["logits"].numpy()
logits["model.tflite"] = Interpreter(model_path=str(folder / "model.tflite")).get_signature_runner()(images=images)["logits"]
np.savez(sys.argv[3], **logits)
assert "trainwright_runtime" not in sys.modules
"""


def test_each_form_of_the_model_gives_what_the_trainer_saw(two_workers: Gang, tmp_path: Path) -> None:
    """Loaded by a process that has none of our code: every test image is taken for what the report says."""
    from trainwright_runtime.environment import DataSource
    from trainwright_runtime.images.config import ImageConfig
    from trainwright_runtime.images.data import load

    path = two_workers.workspace / "artifacts"
    manifest = read_seal(path)
    verify(path, manifest)
    assert {name.split("/")[0] for name in manifest["files"]} == {one.name for one in path.iterdir()} - {"manifest.json"}
    assert manifest["signature"]["inputs"][0]["shape"] == [-1, 8, 8, 1]
    samples = require_digits(path, manifest)
    few = np.array(samples["inputs"]["images"], dtype=np.float32)
    test = load([DataSource(name="train", builtin="digits")], ImageConfig()).test
    images, labels = test.take(range(len(test)))
    np.save(tmp_path / "images.npy", np.concatenate([images, few]))
    (tmp_path / "load.py").write_text(LOAD)
    argv = [sys.executable, "load.py", str(path), "images.npy", "logits.npz"]
    subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True, timeout=START_SECONDS)
    found = np.load(tmp_path / "logits.npz")
    np.testing.assert_allclose(found["saved_model"][-len(few) :], samples["outputs"]["logits"], atol=1e-4)
    logits = {name: found[name][: -len(few)] for name in found.files}
    assert len(logits) == 4
    for name, answers in logits.items():
        np.testing.assert_allclose(answers, logits["model.keras"], atol=1e-4, err_msg=name)
        confusion = np.zeros((10, 10), dtype=int)
        np.add.at(confusion, (labels, answers.argmax(1)), 1)
        assert confusion.tolist() == two_workers.report()["test"]["confusion"], name
    powers = np.exp(logits["model.keras"].astype(np.float64))
    loss = -np.log(powers[np.arange(len(labels)), labels] / powers.sum(1)).mean()
    assert loss == pytest.approx(two_workers.report()["test"]["loss"], abs=1e-5)


# --- any number of workers --------------------------------------------------------------------------------------------


def test_one_worker_has_the_loss_curve_of_two(two_workers: Gang, gang: Gang) -> None:
    finish(start(gang, config="log_every_steps: 1"))
    assert_same_curve(gang.report()["losses"], two_workers.report()["losses"], 2e-2)


def test_gradients_are_clipped_by_their_common_length_and_smoothed_labels_are_never_certain(tmp_path: Path) -> None:
    curves = []
    for replicas in (1, 2):
        gang = Gang(tmp_path / str(replicas))
        gang.folder.mkdir()
        config = "{epochs: 4, label_smoothing: 0.1, clip_norm: 0.5, warmup_epochs: 1, log_every_steps: 1, replicas: %d}"
        finish(start(gang, config=config % replicas))
        curves.append(gang.report()["losses"])
        gang.end()
    assert_same_curve(*curves, 2e-2)
    assert LEAST_SMOOTHED < min(loss for _, loss in curves[0]) < 0.8


# --- killed and resumed -----------------------------------------------------------------------------------------------

GOLDEN = "{epochs: 4, dropout: 0.2, augment: [rotate], log_every_steps: 1, schedule: step, step_delay_seconds: %s}"
EVERY = {"TRAINWRIGHT_CHECKPOINT_EVERY_STEPS": "7"}


def test_stopped_then_killed_then_resumed_is_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """Golden: weights equal to the bit and the same losses, dropout and augmentation included."""
    unbroken = Gang(tmp_path / "unbroken")
    unbroken.folder.mkdir()
    finish(start(unbroken, workers=2, config=GOLDEN % 0))
    unbroken.end()

    gang = Gang(tmp_path / "broken")
    gang.folder.mkdir()
    workers = start(gang, workers=2, config=GOLDEN % 0.05, **EVERY)
    wait_for(lambda: workers[0].has_reached(10), "step 10", START_SECONDS)
    workers[1].process.terminate()
    assert [worker.wait() for worker in workers] == [143, 143], workers[0].output
    assert {worker.message["cause"] for worker in workers} == {"Terminated"}

    workers = start(gang, workers=2, attempt=2, config=GOLDEN % 0.05, **EVERY)
    wait_for(lambda: workers[0].has_reached(30), "step 30", START_SECONDS)
    (rank,) = workers[0].ranks()
    os.kill(rank, signal.SIGKILL)
    assert workers[0].wait() == 137
    assert workers[1].wait(40) not in (0, 143), "worker 1 doesn't wait for a peer that is gone"
    assert workers[1].message["cause"] == "PeerLost", workers[1].message

    workers = start(gang, workers=2, attempt=3, config=GOLDEN % 0, **EVERY)
    finish(workers)
    assert workers[0].message["progress"]["resumedFrom"] >= 28
    assert gang.report()["losses"] == unbroken.report()["losses"]
    assert gang.report()["epochs"] == unbroken.report()["epochs"]
    assert digests(gang, 2, attempt=3) == digests(unbroken, 2)
    gang.end()


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "code", "message"),
    [
        ("epoch: 3", 64, "unknown key 'epoch' (value 3); did you mean 'epochs'?"),
        ("model: mobilenetv3smal", 64, "which is no model of keras.applications; near it: MobileNetV3Small"),
        ("device: cuda", 64, "key 'device' has the value 'cuda', but this worker has no GPU that TensorFlow can use"),
    ],
    ids=["unknown key", "unknown model", "no GPU"],
)
def test_what_is_refused_is_said(gang: Gang, config: str, code: int, message: str) -> None:
    (worker,) = start(gang, config=config, CUDA_VISIBLE_DEVICES="-1")
    assert worker.wait(START_SECONDS) == code, worker.output
    assert worker.message["cause"] == "InvalidConfig"
    assert message in worker.message["message"]
