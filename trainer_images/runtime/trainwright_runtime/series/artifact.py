"""What a finished training of a network over a series leaves behind, whatever the framework: a model, its manifest, a report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from trainwright_runtime import artifact
from trainwright_runtime.artifact import Tensor
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.exits import say
from trainwright_runtime.reporting import Curve, Report, files
from trainwright_runtime.run import BaseRun
from trainwright_runtime.sealed import Writer
from trainwright_runtime.series.config import NetworkConfig
from trainwright_runtime.series.data import Floats, SeriesData
from trainwright_runtime.series.scores import MAIN_METRIC, lines

LIBRARIES = ("numpy", "pandas")
SAMPLES = 20
INPUT, OUTPUT = "values", "forecast"


def save(
    environment: RankEnvironment,
    config: NetworkConfig,
    data: SeriesData,
    run: BaseRun,
    test: Mapping[str, Any],
    *,
    framework: str,
    said: Floats,
    outputs: Floats,
    model: Mapping[str, Writer],
) -> Path:
    """Write the artifact, sealed, and say where; returns its directory.

    `framework`: its name in the API and of its distribution; `said`: all forecasts of the test part, (forecasts, horizon);
    `outputs`: the saved model's answers to the first of them; `model`: the files that the framework makes of it.
    """
    starts = data.starts["test"]
    about = artifact.Model(
        framework=framework,
        recipe="sequence",
        step=run.steps,
        inputs=[Tensor(name=INPUT, dtype="float32", shape=(-1, data.window, len(data.channels)))],
        outputs=[Tensor(name=OUTPUT, dtype="float32", shape=(-1, data.horizon))],
        metrics=test["metrics"],
        data=data.fingerprint,
        features=data.histograms,
        predictions=test["predictions"],
        libraries=(framework, *LIBRARIES),
        more={"task": "forecast", "target": data.target, "channels": list(data.channels), "season": data.season},
    )
    inputs = data.windows(starts[:SAMPLES])
    written = _report(environment, config, data, run, test, said, framework)
    sampled = artifact.samples({INPUT: inputs.tolist()}, {OUTPUT: outputs.tolist()})
    path = artifact.write(environment, about, {**model, **sampled, **files(written)})
    scores = test["metrics"]
    say(f"test RMSE {scores['rmse']:.4g}, {scores['naive_rmse']:.4g} without a model; model and report in {path}")
    return path


def summary(test: Mapping[str, Any], data: SeriesData) -> str:
    """One sentence: how good, and how good that is beside what needs no model."""
    scores = test["metrics"]
    naive = "repeating the last value" if data.season is None else f"repeating what was {data.season} rows before"
    better = f"{abs(scores[MAIN_METRIC]):.0%} {'less' if scores[MAIN_METRIC] >= 0 else 'more'} by RMSE"
    return (
        f"{test['rows']:,} forecasts of {data.horizon} row{'s' * (data.horizon > 1)} of {data.target} are {scores['mae']:.4g} "
        f"off on average; {naive} is {scores['naive_mae']:.4g} off. That is {better}."
    )


def _report(
    environment: RankEnvironment,
    config: NetworkConfig,
    data: SeriesData,
    run: BaseRun,
    test: Mapping[str, Any],
    said: Floats,
    framework: str,
) -> Report:
    last = run.state["epochs"][-1]
    metrics: dict[str, float] = {}
    for name, value in test["metrics"].items():
        metrics |= {f"test_{name}": value, f"val_{name}": last[f"val_{name}"]}
    epochs = [record["epoch"] + 1 for record in run.state["epochs"]]
    validated = {
        name: [[epoch, record[f"val_{key}"]] for epoch, record in zip(epochs, run.state["epochs"], strict=True)]
        for name, key in (("model", "rmse"), ("naive", "naive_rmse"))
    }
    ahead = f"{data.horizon} row{'s' * (data.horizon > 1)} ahead"
    return Report(
        title=environment.job,
        recipe=f"{framework} · sequence",
        summary=summary(test, data),
        metrics=metrics,
        evaluation=dict(test),
        curves=[
            Curve(title="Training loss", x_label="step", y_label="loss", lines={"training": run.state["losses"]}, log=True),
            Curve(title="Validation", x_label="epoch", y_label=f"RMSE of {data.target}", lines=validated),
            Curve(
                title=f"The end of the test part, forecast {ahead}",
                x_label="row",
                y_label=data.target,
                lines=lines(said, data.starts["test"], data),
            ),
        ],
        tables={"By how far ahead": test["byStep"]},
        config=config.model_dump(mode="json"),
        environment={
            "windows": data.sizes,
            "series": data.count,
            "data": f"sha256 {data.fingerprint['sha256'][:16]}…",
            "ranks": environment.world_size,
            "workers": environment.workers,
            "attempt": environment.attempt,
            "steps": run.steps,
            "finished": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            **{name: metadata.version(name) for name in (framework, *LIBRARIES)},
        },
    )
