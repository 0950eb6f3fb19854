"""The recipe's other ways to train, each as the single rank of this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

from trainwright_runtime.config import start
from trainwright_torch.image_classification.config import TrainingConfig
from trainwright_torch.image_classification.train import train

pytestmark = pytest.mark.long

DIGITS = '{"train": {"builtin": "digits"}}'


def run(workspace: Path, monkeypatch: pytest.MonkeyPatch, config: str, data: str = DIGITS) -> dict[str, Any]:
    """Train as configured; returns the report, less where and when it was made."""
    (workspace / "config.yaml").write_text(config)
    monkeypatch.setenv("TRAINWRIGHT_CONFIG", str(workspace / "config.yaml"))
    monkeypatch.setenv("TRAINWRIGHT_DATA", data)
    train(*start(TrainingConfig))
    report: dict[str, Any] = json.loads((workspace / "artifacts/report.json").read_text())
    del report["environment"]
    return report


def test_gradients_added_up_are_those_of_the_whole_batch(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = "{epochs: 1, log_every_steps: 1, global_batch: 50, optimizer: sgd, learning_rate: 0.05, schedule: none%s}"
    whole = run(alone, monkeypatch, config % "")
    monkeypatch.setenv("TRAINWRIGHT_RESUME", "Never")
    parts = run(alone, monkeypatch, config % ", micro_batch: 8")
    assert len(whole["losses"]) == 26
    for (step, loss), (_, expected) in zip(parts["losses"], whole["losses"], strict=True):
        assert loss == pytest.approx(expected, abs=1e-5), f"step {step}"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_too(alone: Path, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    report = run(alone, monkeypatch, f"{{epochs: 2, precision: {precision}}}")
    assert report["test"]["accuracy"] > 0.8


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("none", [0.1, 0.1, 0.1, 0.1]),
        ("step, schedule_epochs: 2, schedule_factor: 0.1", [0.1, 0.1, 0.01, 0.01]),
        ("exponential, schedule_factor: 0.5", [0.1, 0.05, 0.025, 0.0125]),
        ("cosine", [0.1, 0.0853553, 0.05, 0.0146447]),
        ("cosine, warmup_epochs: 2", [0.1 / 3, 0.2 / 3, 0.1, 0.05]),
        ("none, warmup_epochs: 1", [0.05, 0.1, 0.1, 0.1]),
    ],
    ids=["none", "step", "exponential", "cosine", "warm-up and cosine", "warm-up"],
)
def test_the_rate_falls_as_scheduled(alone: Path, monkeypatch: pytest.MonkeyPatch, schedule: str, rates: list[float]) -> None:
    report = run(
        alone, monkeypatch, f"{{epochs: 4, optimizer: sgd, learning_rate: 0.1, global_batch: 300, schedule: {schedule}}}"
    )
    assert [record["learning_rate"] for record in report["epochs"]] == pytest.approx(rates, rel=1e-4)


def test_early_stopping_takes_the_best_weights_and_stays_stopped(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = "{epochs: 40, optimizer: adam, learning_rate: 0.03, schedule: none, early_stopping_epochs: 2}"
    report = run(alone, monkeypatch, config)
    losses = [record["val_loss"] for record in report["epochs"]]
    assert len(losses) < 40
    assert losses.index(min(losses)) == len(losses) - 3
    # What a restart after the end finds is a training that is over.
    assert run(alone, monkeypatch, config) == report


def test_a_directory_of_images_and_a_model_of_torchvisions(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for shape in ("circle", "square"):
        (alone / "images" / shape).mkdir(parents=True)
        for number in range(40):
            image = Image.new("L", (32, 32), 20 + number)
            box = (6 + number % 5, 6 + number % 4, 24, 24)
            (ImageDraw.Draw(image).ellipse if shape == "circle" else ImageDraw.Draw(image).rectangle)(box, fill=200)
            image.save(alone / "images" / shape / f"{number}.png")
    report = run(
        alone,
        monkeypatch,
        "{model: resnet18, epochs: 2, global_batch: 16, image_size: 32, image_channels: 1, loader_workers: 1, schedule: none}",
        json.dumps({"shapes": {"path": str(alone / "images")}}),
    )
    assert report["classes"] == ["circle", "square"]
    assert len(report["epochs"]) == 2
    program = torch.export.load(alone / "artifacts/model.pt2").module()
    assert program(torch.rand(3, 1, 32, 32)).shape == (3, 2)
