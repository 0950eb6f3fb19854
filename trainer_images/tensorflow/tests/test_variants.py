"""The recipe's other ways to train, each in a process of its own: TensorFlow can be told its devices only once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from launching import Gang, Worker, wait_for
from PIL import Image, ImageDraw

pytestmark = pytest.mark.long

START_SECONDS = 180


def run(gang: Gang, config: str, **given: Any) -> tuple[Worker, dict[str, Any]]:
    """Train as configured; returns the worker and the report."""
    (worker,) = gang.start("recipe", "image-classification", framework="tensorflow", config=config, **given)
    assert worker.wait(START_SECONDS) == 0, worker.output
    return worker, gang.report()


def test_replicas_with_a_loss_scale_learn_together(gang: Gang) -> None:
    """Two shares of the CPU stand for two GPUs."""
    worker, report = run(gang, "{epochs: 3, replicas: 2, precision: fp16, augment: [rotate], dropout: 0.1}")
    assert "1 worker, 2 replicas on CPU" in worker.output
    assert report["test"]["accuracy"] > 0.85
    # What is exported is whole precision, and has nothing in it that changes images at random.
    model = keras.models.load_model(gang.workspace / "artifacts/model.keras")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert not [layer for layer in model.layers if "random" in layer.name]


def test_compiled_in_half_the_precision(gang: Gang) -> None:
    _, report = run(gang, "{epochs: 3, jit: true, precision: bf16, optimizer: sgd, learning_rate: 0.1, weight_decay: 0.0}")
    assert report["test"]["accuracy"] > 0.85


def test_a_directory_of_images_and_a_model_of_keras(gang: Gang, tmp_path: Path) -> None:
    for shape in ("circle", "square"):
        (tmp_path / "images" / shape).mkdir(parents=True)
        for number in range(40):
            image = Image.new("L", (32, 32), 20 + number)
            box = (6 + number % 5, 6 + number % 4, 24, 24)
            (ImageDraw.Draw(image).ellipse if shape == "circle" else ImageDraw.Draw(image).rectangle)(box, fill=200)
            image.save(tmp_path / "images" / shape / f"{number}.png")
    worker, report = run(
        gang,
        "{model: mobilenetv2, epochs: 2, global_batch: 16, image_size: 32, image_channels: 1, loader_workers: 2, cache: true,"
        " augment: [flip], replicas: 2, early_stopping_epochs: 1}",
        TRAINWRIGHT_DATA=json.dumps({"shapes": {"path": str(tmp_path / "images")}}),
    )
    assert report["classes"] == ["circle", "square"]
    assert "left out" not in worker.output
    model = keras.models.load_model(gang.workspace / "artifacts/model.keras")
    assert model(np.random.default_rng(0).random((3, 32, 32, 1), dtype=np.float32)).shape == (3, 2)
    # Batch normalisation, which each replica would keep for itself: its statistics have moved, and are in the artifact.
    moved = [weight for weight in model.weights if weight.path.endswith("moving_mean")]
    assert moved
    assert all(np.abs(weight.numpy()).max() > 0 for weight in moved)


def test_a_checkpoint_of_another_training_is_refused(gang: Gang) -> None:
    run(gang, "{epochs: 1, global_batch: 300}")
    (worker,) = gang.start(
        "recipe",
        "image-classification",
        framework="tensorflow",
        config="{epochs: 2, global_batch: 300, optimizer: sgd}",
        attempt=2,
    )
    assert worker.wait(START_SECONDS) == 65, worker.output
    assert worker.message["cause"] == "NoCheckpoint"
    assert "does not fit this training: its optimizer has 18 variables; this training's has" in worker.message["message"]


def test_two_workers_stopped_within_an_epoch_are_finished_by_one(gang: Gang) -> None:
    config = "{epochs: 2, log_every_steps: 1, step_delay_seconds: 0.05}"
    workers = gang.start("recipe", "image-classification", framework="tensorflow", config=config, workers=2)
    wait_for(lambda: workers[0].progress().get("step", 0) >= 8, "step 8", START_SECONDS)
    workers[1].process.terminate()
    assert [worker.wait() for worker in workers] == [143, 143]
    worker, report = run(gang, "{epochs: 2, log_every_steps: 1}", attempt=2)
    assert worker.message["progress"]["resumedFrom"] >= 8
    assert [step for step, _ in report["losses"]] == list(range(1, 41))
    assert report["test"]["accuracy"] > 0.85


@pytest.mark.parametrize(
    ("config", "given", "message"),
    [
        ("replicas: 2", {"workers": 2, "only": (0,)}, "a worker among several has one replica on the CPU; accepted: 1"),
        ("cache: true", {}, "key 'cache' has no effect with builtin: digits; it goes with a directory of images"),
        ("{}", {"workers": 2, "only": (0,), "TF_CONFIG": None}, "TF_CONFIG is missing: without it, 2 workers can't find"),
    ],
    ids=["replicas of several workers", "cache of what is in memory", "no TF_CONFIG"],
)
def test_what_can_not_work_is_refused(gang: Gang, config: str, given: dict[str, Any], message: str) -> None:
    (worker,) = gang.start("recipe", "image-classification", framework="tensorflow", config=config, **given)
    assert worker.wait(START_SECONDS) == 64, worker.output
    assert message in worker.message["message"]
