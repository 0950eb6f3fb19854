"""What a finished training leaves behind: weights, an exported program that needs no code of ours, sample rows, the report."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import torch

from trainwright_runtime import artifact
from trainwright_runtime.artifact import Model, Tensor
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.reporting import Curve, Report, files
from trainwright_runtime.tabular.data import TabularData
from trainwright_runtime.torch import Run
from trainwright_runtime.torch.artifacts import model_files
from trainwright_torch.tabular.config import TrainingConfig
from trainwright_torch.tabular.model import Perceptron, rows_of

SAMPLE_ROWS = 20


def save(
    environment: RankEnvironment, config: TrainingConfig, data: TabularData, model: Perceptron, run: Run, test: dict[str, Any]
) -> Path:
    """Write the artifact; returns its directory."""
    on_cpu = model.to("cpu").eval()
    few = dataclasses.replace(data.test, features=data.test.features.head(SAMPLE_ROWS), target=data.test.target[:SAMPLE_ROWS])
    rows = rows_of(few, data, model.categories)
    name = "predictions" if model.is_regression else "logits"
    with torch.no_grad():
        answers = on_cpu(*rows)
    # JSON has no NaN.
    numbers = [[None if value != value else value for value in row] for row in rows[0].tolist()]  # noqa: PLR0124
    facts = Model(
        framework="torch",
        recipe="tabular",
        step=run.steps,
        inputs=[
            Tensor(name="numbers", dtype="float32", shape=(-1, len(data.numeric))),
            Tensor(name="words", dtype="int64", shape=(-1, len(data.categorical))),
        ],
        outputs=[Tensor(name=name, dtype="float32", shape=(-1,) if model.is_regression else (-1, len(data.classes)))],
        classes=data.classes,
        metrics=test["metrics"],
        data=data.fingerprint,
        features=data.histograms,
        libraries=("torch", "numpy", "pandas", "scikit-learn"),
        more={
            "task": data.task,
            "target": data.target,
            # A word's number is its place here; -1 for one that is not.
            "columns": {"numbers": list(data.numeric), "words": dict(zip(data.categorical, model.categories, strict=True))},
        },
    )
    made = {
        # The first two rows are an example for the exporter.
        **model_files(on_cpu, rows[0][:2].nan_to_num(), rows[1][:2]),
        **artifact.samples({"numbers": numbers, "words": rows[1].tolist()}, {name: answers.tolist()}),
        **files(_report(environment, config, data, run, test)),
    }
    return artifact.write(environment, facts, made)


def _report(environment: RankEnvironment, config: TrainingConfig, data: TabularData, run: Run, test: dict[str, Any]) -> Report:
    main, value = next(iter(test["metrics"].items()))
    validated = [[record["epoch"] + 1, record[f"val_{main}"]] for record in run.state["epochs"]]
    metrics = {f"test_{main}": value, f"val_{main}": validated[-1][1]}
    return Report(
        title=environment.job,
        recipe="torch · tabular",
        summary=(
            f"{'R²' if main == 'r2' else 'Accuracy'} {value:.4f} on {test['rows']} test rows, {validated[-1][1]:.4f} on the "
            "validation part."
        ),
        metrics={**metrics, **{f"test_{name}": one for name, one in test["metrics"].items()}},
        evaluation=test,
        curves=[
            Curve(title="Training loss", x_label="step", y_label="loss", lines={"training": run.state["losses"]}, log=True),
            Curve(title="Validation", x_label="epoch", y_label=main, lines={main: validated}),
        ],
        config=config.model_dump(mode="json"),
        environment={
            "rows": f"{len(data.train):,} training, {len(data.validation):,} validation, {len(data.test):,} test",
            "data": f"sha256 {data.fingerprint['sha256'][:16]}…",
            "ranks": environment.world_size,
            "attempt": environment.attempt,
            "steps": run.steps,
            "finished": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            "torch": str(torch.__version__),
        },
    )
