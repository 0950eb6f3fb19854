"""What a finished training of an image classifier leaves behind, whatever the framework: a model, its manifest, a report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainwright_runtime import artifact, reporting
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.exits import say
from trainwright_runtime.histogram import of_numbers
from trainwright_runtime.images.config import ImageConfig
from trainwright_runtime.images.data import Floats, ImageData
from trainwright_runtime.images.scores import BINS, ODDS, Scores
from trainwright_runtime.reporting import Curve, Report
from trainwright_runtime.run import BaseRun
from trainwright_runtime.sealed import Writer

MAX_IMAGES = 2000
"""Of the training part: enough for a histogram, and no second pass over a large data set."""
MAX_SAMPLES = 20
SAMPLES_BYTES = 1_800_000
DIGITS = 3
"""Of a pixel in `samples.json`, whose model's answers are those to the pixels that stand there."""

Answer = Callable[[Floats], npt.ArrayLike]
"""What the model answers, (images, classes), to images as it takes them."""


def save(
    environment: RankEnvironment,
    config: ImageConfig,
    images: ImageData,
    run: BaseRun,
    scores: Scores,
    *,
    framework: str,
    model: Mapping[str, Writer],
    answer: Answer,
    channels_first: bool = False,
) -> Path:
    """Write the artifact, sealed, and say so; returns its directory.

    `framework`: its name in the API and of its distribution; `model`: the files that the framework makes of it; `answer`: asks
    the model, for the samples; `channels_first`: the model takes images as (channels, height, width).
    """
    height, width, channels = images.shape
    shape = (channels, height, width) if channels_first else images.shape
    evaluation = _evaluation(images, scores)
    metrics = {"accuracy": scores.accuracy, "macro_f1": scores.macro_f1, "loss": scores.loss, **evaluation["metrics"]}
    about = artifact.Model(
        framework=framework,
        recipe="image-classification",
        step=run.steps,
        inputs=[artifact.Tensor(name="images", dtype="float32", shape=(-1, *shape), range=(0.0, 1.0))],
        outputs=[artifact.Tensor(name="logits", dtype="float32", shape=(-1, len(images.classes)))],
        classes=images.classes,
        metrics=metrics,
        data=images.fingerprint,
        features=_features(images),
        predictions=evaluation["predictions"],
    )
    course = {
        "test": {**metrics, "f1": dict(zip(images.classes, scores.f1, strict=True)), "confusion": scores.confusion},
        "classes": images.classes,
        "epochs": run.state["epochs"],
        "losses": run.state["losses"],
        "steps": run.steps,
        "worldSize": environment.world_size,
    }
    report = _report(environment, config, images, run, scores, evaluation, recipe=f"{framework} · image-classification")
    samples = _samples(images, answer, channels_first=channels_first)
    path = artifact.write(environment, about, {**model, **samples, **reporting.files(report, more=course)})
    say(f"test accuracy {scores.accuracy:.4f}, macro F1 {scores.macro_f1:.4f}; model and report in {path}")
    return path


def _samples(images: ImageData, answer: Answer, *, channels_first: bool) -> dict[str, Writer]:
    """As many test images as fit, of every part of it; none where not even one does."""
    room = SAMPLES_BYTES // (math.prod(images.shape) * (DIGITS + len("0., ")))
    if (count := min(MAX_SAMPLES, len(images.test), room)) == 0:
        return {}
    pixels, _ = images.test.take(np.linspace(0, len(images.test) - 1, count, dtype=int).tolist())
    if channels_first:
        pixels = np.moveaxis(pixels, -1, 1)
    rounded = np.round(pixels.astype(np.float64), DIGITS)
    logits = np.asarray(answer(rounded.astype(np.float32)), dtype=np.float32)
    return artifact.samples({"images": rounded.tolist()}, {"logits": logits.tolist()})


def _features(images: ImageData) -> dict[str, Any]:
    """Brightness (mean) and contrast (standard deviation) of training images, each from 0 to 1."""
    taken = np.linspace(0, len(images.train) - 1, min(MAX_IMAGES, len(images.train)), dtype=int).tolist()
    pixels, _ = images.train.take(taken)
    flat = pixels.reshape(len(pixels), -1)
    return {"brightness": of_numbers(flat.mean(1)), "contrast": of_numbers(flat.std(1))}


def _evaluation(images: ImageData, scores: Scores) -> dict[str, Any]:
    from trainwright_runtime.reporting.scores import add_curves, classification  # noqa: PLC0415 - scikit-learn takes seconds

    cells = [(row, column, count) for row, counts in enumerate(scores.confusion) for column, count in enumerate(counts)]
    truth = [images.classes[row] for row, _, count in cells for _ in range(count)]
    taken_for = [images.classes[column] for _, column, count in cells for _ in range(count)]
    found = classification(truth, taken_for, images.classes)
    of_class = np.repeat([False, True], BINS)
    add_curves(found, lambda index: (of_class, np.tile(ODDS, 2), scores.odds[index].ravel()))
    return found


def _report(
    environment: RankEnvironment,
    config: ImageConfig,
    images: ImageData,
    run: BaseRun,
    scores: Scores,
    test: dict[str, Any],
    *,
    recipe: str,
) -> Report:
    epochs = run.state["epochs"]
    an_epoch = run.steps / max(1, len(epochs))
    curves = [
        Curve(
            title="Loss",
            x_label="epoch",
            y_label="cross-entropy",
            log=True,
            lines={
                "training": [[step / an_epoch, loss] for step, loss in run.state["losses"]],
                "validation": [[record["epoch"] + 1, record["val_loss"]] for record in epochs],
            },
        ),
        Curve(
            title="Validation",
            x_label="epoch",
            y_label="share",
            lines={
                "accuracy": [[record["epoch"] + 1, record["val_accuracy"]] for record in epochs],
                "macro F1": [[record["epoch"] + 1, record["val_f1"]] for record in epochs],
            },
        ),
    ]
    last = epochs[-1]
    return Report(
        title=environment.job,
        recipe=f"{recipe} · {getattr(config, 'model', '')}",
        summary=(
            f"Accuracy {scores.accuracy:.1%} on {test['rows']} test images of {len(images.classes)} classes; always guessing the "
            f"most frequent class reaches {test['baseline']:.1%}."
        ),
        metrics={
            "test_accuracy": scores.accuracy,
            "test_f1": scores.macro_f1,
            "test_loss": scores.loss,
            **{f"test_{name}": value for name, value in test["metrics"].items() if name == "roc_auc"},
            "val_accuracy": last["val_accuracy"],
            "val_loss": last["val_loss"],
        },
        evaluation=test,
        curves=curves,
        config=config.model_dump(mode="json"),
        environment={
            "images": str(images),
            "data": f"sha256 {images.fingerprint['sha256'][:16]}…",
            "steps": run.steps,
            "ranks": environment.world_size,
            "workers": environment.workers,
            "attempt": environment.attempt,
            "finished": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        },
    )
