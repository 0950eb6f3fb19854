"""What a finished training leaves behind: the pipeline, preprocessing included, as skops (or joblib) and as ONNX where that gives
the same predictions; some rows with their predictions to check a loader by; and the report.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import joblib
import skops.io
from sklearn.pipeline import Pipeline

from trainwright_runtime import artifact
from trainwright_runtime.artifact import Model, Tensor
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.exits import say
from trainwright_runtime.reporting import Report, files
from trainwright_runtime.sealed import Writer
from trainwright_runtime.tabular.data import TabularData
from trainwright_runtime.tabular.report import report
from trainwright_sklearn.tabular import onnx
from trainwright_sklearn.tabular.config import TrainingConfig
from trainwright_sklearn.tabular.measure import importances
from trainwright_sklearn.tabular.search import Search

LIBRARIES = ("scikit-learn", "numpy", "pandas", "skops", "joblib")
SAMPLE_ROWS = 20
TOP_CANDIDATES = 10


def save(
    environment: RankEnvironment,
    config: TrainingConfig,
    data: TabularData,
    model: Pipeline,
    *,
    steps: int,
    metrics: dict[str, float],
    test: dict[str, Any],
    search: Search | None,
    found: dict[str, Any] | None,
) -> Path:
    """Write the artifact; returns its directory."""
    dumped = _dumped(config, model)
    made: dict[str, Writer] = {f"model.{config.format}": dumped}
    more: dict[str, Any] = {"format": 1, "task": data.task, "target": data.target}
    try:
        exported = onnx.export(model, data)
    except onnx.NotExported as why:
        say(f"no model.onnx: {why}")
    else:
        made["model.onnx"] = lambda stream: stream.write(exported.content)
        more["onnx"] = {"inputs": exported.inputs, "outputs": exported.outputs}
    sampled = data.test.features.head(SAMPLE_ROWS)
    inputs = {str(name): _listed(column) for name, column in sampled.items()}
    outputs = {"prediction": model.predict(sampled).tolist()}
    if hasattr(model, "predict_proba"):
        outputs["probabilities"] = model.predict_proba(sampled).tolist()
    made |= artifact.samples(inputs, outputs)
    made |= files(_report(environment, config, data, model, metrics, test, search, found))
    facts = Model(
        framework="sklearn",
        package="scikit-learn",
        recipe="tabular",
        step=steps,
        inputs=[Tensor(name=str(name), dtype=_dtype(data, str(name)), shape=(-1,)) for name in sampled.columns],
        outputs=_outputs(data, model),
        classes=data.classes,
        metrics=test["metrics"],
        data=data.fingerprint,
        features=data.histograms,
        predictions=test["predictions"],
        libraries=LIBRARIES,
        more=more,
    )
    return artifact.write(environment, facts, made)


def _dumped(config: TrainingConfig, model: Pipeline) -> Writer:
    if config.format == "skops":
        content = skops.io.dumps(model, compression=zipfile.ZIP_DEFLATED)
    else:
        # joblib asks its stream for the place it is at, which one that is hashed on its way doesn't know.
        buffer = io.BytesIO()
        joblib.dump(model, buffer)
        content = buffer.getvalue()
    return lambda stream: stream.write(content)


def _dtype(data: TabularData, name: str) -> str:
    return "string" if name in data.categorical else "float64"


def _outputs(data: TabularData, model: Pipeline) -> list[Tensor]:
    if data.task == "regression":
        return [Tensor(name="prediction", dtype="float64", shape=(-1,))]
    label = Tensor(name="prediction", dtype="string", shape=(-1,))
    if not hasattr(model, "predict_proba"):
        return [label]
    return [label, Tensor(name="probabilities", dtype="float64", shape=(-1, len(data.classes)), range=(0.0, 1.0))]


def _listed(column: Any) -> list[Any]:
    """A column as JSON has it: what is missing is null."""
    return [None if value != value else value for value in column.tolist()]  # noqa: PLR0124 - NaN is not itself


def _report(
    environment: RankEnvironment,
    config: TrainingConfig,
    data: TabularData,
    model: Pipeline,
    metrics: dict[str, float],
    test: dict[str, Any],
    search: Search | None,
    found: dict[str, Any] | None,
) -> Report:
    return report(
        environment,
        config,
        data,
        test,
        recipe=f"sklearn · tabular · {config.estimator}",
        metrics=metrics,
        libraries=LIBRARIES[:3],
        importances=importances(model, data, config),
        tables=_search_tables(search, found),
    )


def _search_tables(search: Search | None, found: dict[str, Any] | None) -> dict[str, list[dict[str, Any]]]:
    if search is None or found is None:
        return {}
    order = sorted(range(len(search.candidates)), key=lambda number: found["rank_test_score"][number])
    title = f"Search: best {min(TOP_CANDIDATES, len(order))} of {len(order)} candidates"
    return {
        title: [
            {
                "rank": found["rank_test_score"][number],
                search.scoring: found["mean_test_score"][number],
                "± over folds": found["std_test_score"][number],
                **search.candidates[number],
            }
            for number in order[:TOP_CANDIDATES]
        ]
    }
