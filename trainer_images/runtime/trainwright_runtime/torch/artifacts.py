"""What a finished training leaves behind: the model twice (weights, and an exported program that needs no code of ours), a
report, and a picture. Sealed with a manifest and put in place by a rename: whoever finds a model finds a whole one.
"""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import torch

from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.images.config import ImageConfig
from trainwright_runtime.images.data import ImageData
from trainwright_runtime.images.scores import Scores
from trainwright_runtime.sealed import Writer, write_sealed
from trainwright_runtime.torch import Run


def save(
    environment: RankEnvironment,
    config: ImageConfig,
    images: ImageData,
    model: torch.nn.Module,
    run: Run,
    scores: Scores,
    *,
    framework: tuple[str, str],
) -> Path:
    """Write the artifact of an image classifier; returns its directory. `framework`: name and version."""
    path = environment.artifact_dir or Path("artifacts")
    path.parent.mkdir(parents=True, exist_ok=True)
    on_cpu = model.to("cpu").eval()
    metrics = {"accuracy": scores.accuracy, "macro_f1": scores.macro_f1, "loss": scores.loss}
    report = {
        "test": {**metrics, "f1": dict(zip(images.classes, scores.f1, strict=True)), "confusion": scores.confusion},
        "classes": images.classes,
        "epochs": run.state["epochs"],
        "losses": run.state["losses"],
        "steps": run.steps,
        "worldSize": environment.world_size,
        "config": config.model_dump(),
    }
    height, width, channels = images.shape
    exported = _exported(on_cpu, (channels, height, width))
    picture = _picture(run.state, run.steps, scores, images.classes)
    report_text = json.dumps(report, indent=1).encode()
    files: dict[str, Writer] = {
        "model.pt": lambda stream: torch.save(on_cpu.state_dict(), stream),
        "model.pt2": lambda stream: stream.write(exported),
        "report.json": lambda stream: stream.write(report_text),
        "curves.png": lambda stream: stream.write(picture),
    }
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
            "inputs": [{"name": "images", "dtype": "float32", "shape": [-1, channels, height, width], "range": [0.0, 1.0]}],
            "outputs": [{"name": "logits", "dtype": "float32", "shape": [-1, len(images.classes)]}],
            "classes": images.classes,
        },
        "metrics": metrics,
        "data": images.fingerprint,
    }
    write_sealed(path, files, facts)
    return path


def _exported(model: torch.nn.Module, shape: tuple[int, int, int]) -> bytes:
    # Two examples: a batch of one is taken for a constant by the exporter.
    example = torch.zeros(2, *shape)
    program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _picture(history: dict[str, Any], steps: int, scores: Scores, classes: tuple[str, ...]) -> bytes:
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
