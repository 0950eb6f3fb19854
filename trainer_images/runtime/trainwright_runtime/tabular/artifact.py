"""What a finished training of a network over a table leaves behind, whatever the framework: a model, its manifest, a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainwright_runtime import artifact
from trainwright_runtime.artifact import Tensor
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.exits import say
from trainwright_runtime.reporting import Curve, files
from trainwright_runtime.run import BaseRun
from trainwright_runtime.sealed import Writer
from trainwright_runtime.tabular.config import PerceptronConfig
from trainwright_runtime.tabular.data import Part, TabularData
from trainwright_runtime.tabular.network import Columns
from trainwright_runtime.tabular.report import named, report

LIBRARIES = ("numpy", "pandas", "scikit-learn")
SAMPLE_ROWS = 20


def sample_rows(data: TabularData) -> Part:
    """The rows of the test part that go with the model."""
    part = data.test
    return dataclasses.replace(part, features=part.features.head(SAMPLE_ROWS), target=part.target[:SAMPLE_ROWS])


def output_of(data: TabularData) -> Tensor:
    """What a network answers."""
    if data.task == "regression":
        return Tensor(name="predictions", dtype="float32", shape=(-1,))
    return Tensor(name="logits", dtype="float32", shape=(-1, len(data.classes)))


def save(
    environment: RankEnvironment,
    config: PerceptronConfig,
    data: TabularData,
    columns: Columns,
    run: BaseRun,
    test: Mapping[str, Any],
    *,
    framework: str,
    inputs: Sequence[tuple[Tensor, list[Any]]],
    outputs: list[Any],
    model: Mapping[str, Writer],
) -> Path:
    """Write the artifact, sealed, and say where; returns its directory.

    `framework`: its name in the API and of its distribution; `inputs`: each with its values for `sample_rows`; `outputs`: the
    trained model's answers to them; `model`: the files that the framework makes of it.
    """
    output = output_of(data)
    about = artifact.Model(
        framework=framework,
        recipe="tabular",
        step=run.steps,
        inputs=[tensor for tensor, _ in inputs],
        outputs=[output],
        classes=data.classes,
        metrics=test["metrics"],
        data=data.fingerprint,
        features=data.histograms,
        predictions=test["predictions"],
        libraries=(framework, *LIBRARIES),
        more={
            "task": data.task,
            "target": data.target,
            # A word's code is its place here; -1 for one that is not.
            "columns": {"numbers": list(data.numeric), "words": dict(zip(data.categorical, columns.categories, strict=True))},
        },
    )
    values = {tensor.name: [[_there(one) for one in row] for row in rows] for tensor, rows in inputs}
    written = report(
        environment,
        config,
        data,
        test,
        recipe=f"{framework} · tabular",
        metrics=named(test["metrics"], _validated(run, test)),
        libraries=(framework,),
        facts={"ranks": environment.world_size, "steps": run.steps},
        curves=_curves(run, data),
    )
    path = artifact.write(environment, about, {**model, **artifact.samples(values, {output.name: outputs}), **files(written)})
    say(f"test {data.main_metric} {test['metrics'][data.main_metric]:.4f}; model and report in {path}")
    return path


def _there(value: Any) -> Any:
    """The value as JSON has it, which knows no NaN: null."""
    return None if value != value else value  # noqa: PLR0124 - NaN is not itself


def _validated(run: BaseRun, test: Mapping[str, Any]) -> dict[str, float]:
    last = run.state["epochs"][-1]
    return {name: last[f"val_{name}"] for name in test["metrics"] if f"val_{name}" in last}


def _curves(run: BaseRun, data: TabularData) -> list[Curve]:
    main = data.main_metric
    validated = [[record["epoch"] + 1, record[f"val_{main}"]] for record in run.state["epochs"]]
    return [
        Curve(title="Training loss", x_label="step", y_label="loss", lines={"training": run.state["losses"]}, log=True),
        Curve(title="Validation", x_label="epoch", y_label=main, lines={main: validated}),
    ]
