"""Shared by the tests of the scikit-learn server: real pipelines, published by the publisher, in a real MLServer."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest
import skops.io
from serving import Server, publish, write_artifact
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

COMMAND = "trainwright-sklearn-server"
INPUTS = [{"name": "size", "dtype": "float64", "shape": [-1]}, {"name": "place", "dtype": "string", "shape": [-1]}]


def table(rows: int, start: int = 0) -> Any:
    sizes = [None if row % 7 == 3 else row / 3 for row in range(start, start + rows)]
    return pd.DataFrame(
        {
            "size": pd.Series(sizes, dtype="float64"),
            "place": pd.Series([["nörth", "south", ""][row % 3] for row in range(start, start + rows)], dtype=object),
        }
    )


def pipeline(last: Any) -> Pipeline:
    prepare = ColumnTransformer(
        [("numeric", SimpleImputer(), ["size"]), ("words", OneHotEncoder(handle_unknown="ignore"), ["place"])]
    )
    rows = table(60)
    is_regression = isinstance(last, LinearRegression)
    target = [float(row) if is_regression else ["small", "large"][row // 30] for row in range(60)]
    return Pipeline([("prepare", prepare), ("last", last)]).fit(rows, target)


def dumped(model: Pipeline, form: str) -> bytes:
    if form == "skops":
        return skops.io.dumps(model)
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    return buffer.getvalue()


def listed(column: Any) -> list[Any]:
    return [None if value != value else value for value in column.tolist()]


def make_artifact(folder: Path, model: Pipeline, form: str = "skops") -> Path:
    rows = table(20)
    outputs = [{"name": "prediction", "dtype": "string", "shape": [-1]}]
    answers = {"prediction": model.predict(rows).tolist()}
    if hasattr(model, "predict_proba"):
        outputs.append({"name": "probabilities", "dtype": "float64", "shape": [-1, 2]})
        answers["probabilities"] = model.predict_proba(rows).tolist()
    samples = {"inputs": {name: listed(column) for name, column in rows.items()}, "outputs": answers}
    facts = {"framework": "sklearn", "signature": {"inputs": INPUTS, "outputs": outputs, "classes": ["large", "small"]}}
    return write_artifact(folder, {f"model.{form}": dumped(model, form)}, facts, samples)


def tensors(rows: Any) -> dict[str, Any]:
    """As a client of the Open Inference Protocol writes them."""
    return {
        "inputs": [
            {"name": "size", "shape": [len(rows)], "datatype": "FP64", "data": listed(rows["size"])},
            {"name": "place", "shape": [len(rows), 1], "datatype": "BYTES", "data": listed(rows["place"])},
        ]
    }


@pytest.fixture(scope="session")
def model() -> Pipeline:
    return pipeline(RandomForestClassifier(n_estimators=5, random_state=0))


@pytest.fixture
def published(model: Pipeline, tmp_path: Path) -> tuple[Path, str]:
    """The volume, and the sha256 of the record of version 1 on it."""
    return tmp_path / "models", publish(make_artifact(tmp_path / "artifact", model), tmp_path / "models", server="sklearn")


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Starts servers; ends them."""
    servers: list[Server] = []

    def started(*arguments: Any, **keywords: Any) -> Server:
        servers.append(Server(COMMAND, *arguments, **keywords))
        return servers[-1]

    yield started
    for server in servers:
        server.end()


def samples_of(models: Path) -> dict[str, Any]:
    return json.loads((models / "records/1/samples.json").read_text())
