"""What a finished training of an image classifier leaves behind, whatever the framework: a model, a report, and a picture.

Sealed with a manifest and put in place by a rename: whoever finds a model finds a whole one.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.images.config import ImageConfig
from trainwright_runtime.images.data import ImageData
from trainwright_runtime.images.scores import Scores
from trainwright_runtime.run import BaseRun
from trainwright_runtime.sealed import Writer, write_sealed


def save(
    environment: RankEnvironment,
    config: ImageConfig,
    images: ImageData,
    run: BaseRun,
    scores: Scores,
    *,
    framework: tuple[str, str],
    shape: tuple[int, int, int],
    model: Mapping[str, Writer],
) -> Path:
    """Write the artifact, sealed; returns its directory.

    `framework`: name and version; `shape`: of one image as the model takes it; `model`: the files that the framework makes of it.
    """
    path = environment.artifact_dir or Path("artifacts")
    path.parent.mkdir(parents=True, exist_ok=True)
    metrics = {"accuracy": scores.accuracy, "macro_f1": scores.macro_f1, "loss": scores.loss}
    f1 = dict(zip(images.classes, scores.f1, strict=True))
    report = {
        "test": {**metrics, "f1": f1, "confusion": scores.confusion},
        "classes": images.classes,
        "epochs": run.state["epochs"],
        "losses": run.state["losses"],
        "steps": run.steps,
        "worldSize": environment.world_size,
        "config": config.model_dump(),
    }
    report_text = json.dumps(report, indent=1).encode()
    picture = draw(run.state, run.steps, scores, images.classes)
    facts = {
        "framework": framework[0],
        "frameworkVersion": framework[1],
        "recipe": "image-classification",
        "job": environment.job,
        "uid": environment.uid,
        "attempt": environment.attempt,
        "time": time.time(),
        "step": run.steps,
        "signature": {
            "inputs": [{"name": "images", "dtype": "float32", "shape": [-1, *shape], "range": [0.0, 1.0]}],
            "outputs": [{"name": "logits", "dtype": "float32", "shape": [-1, len(images.classes)]}],
            "classes": images.classes,
        },
        "metrics": metrics,
        "data": images.fingerprint,
    }
    files: dict[str, Writer] = {
        **model,
        "report.json": lambda stream: stream.write(report_text),
        "curves.png": lambda stream: stream.write(picture),
    }
    write_sealed(path, files, facts)
    return path


def draw(history: dict[str, Any], steps: int, scores: Scores, classes: tuple[str, ...]) -> bytes:
    """Curves and confusion matrix as a PNG."""
    # Only the one rank that draws has to wait for matplotlib.
    import matplotlib  # noqa: PLC0415

    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, (curves, matrix) = pyplot.subplots(1, 2, figsize=(12, 5), layout="constrained")
    epochs = [record["epoch"] + 1 for record in history["epochs"]]
    per_epoch = steps / epochs[-1]
    curves.plot(
        [step / per_epoch for step, _ in history["losses"]],
        [loss for _, loss in history["losses"]],
        label="training loss",
        alpha=0.7,
    )
    curves.plot(epochs, [record["val_loss"] for record in history["epochs"]], label="validation loss")
    curves.set(xlabel="epoch", ylabel="loss", yscale="log")
    share = curves.twinx()
    share.plot(epochs, [record["val_accuracy"] for record in history["epochs"]], color="tab:green", label="validation accuracy")
    share.set(ylabel="accuracy", ylim=(0, 1.01))
    handles = [*curves.get_lines(), *share.get_lines()]
    curves.legend(handles, [str(line.get_label()) for line in handles], loc="center right")

    matrix.imshow(scores.confusion, cmap="Blues")
    matrix.set(xlabel="taken for", ylabel="class", title=f"test accuracy {scores.accuracy:.4f}, macro F1 {scores.macro_f1:.4f}")
    if len(classes) <= 30:
        matrix.set_xticks(range(len(classes)), classes, rotation=90 if max(map(len, classes)) > 2 else 0)
        matrix.set_yticks(range(len(classes)), classes)
        half = max(map(max, scores.confusion)) / 2
        for row, counts in enumerate(scores.confusion):
            for column, count in enumerate(counts):
                if count:
                    matrix.text(
                        column, row, str(count), ha="center", va="center", color="white" if count > half else "black", fontsize=8
                    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    pyplot.close(figure)
    return buffer.getvalue()
