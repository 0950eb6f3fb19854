"""The pipeline as ONNX, for servers without Python: only where it can be converted, and answers as the pipeline does.

Conversion goes through 32-bit numbers, and a tree may send a value that lies on a threshold the other way; so what was converted
is run on rows it will be asked for, and left out when it disagrees.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import warnings
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from trainwright_runtime.tabular.data import TabularData
from trainwright_sklearn.tabular.estimators import STEP

ROWS_COMPARED = 200
TOLERANCE = 1e-4
"""Of probabilities; of a regression's predictions relative to their spread."""


class NotExported(Exception):
    """There is no ONNX of this model; the message says why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exported:
    """`inputs`: name in ONNX by name of column, each (rows, 1), float32 or string. `outputs`: names in ONNX."""

    content: bytes
    inputs: dict[str, str]
    outputs: list[str]


def export(model: Pipeline, data: TabularData) -> Exported:
    """The converted pipeline; raises NotExported."""
    import onnxruntime  # noqa: PLC0415 - two seconds, and only once all is done
    import skl2onnx  # noqa: PLC0415
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType  # noqa: PLC0415

    logging.getLogger("skl2onnx").setLevel(logging.ERROR)
    columns = list(data.train.features.columns)
    inputs = {name: f"input_{number}" for number, name in enumerate(columns)}
    # skl2onnx finds the columns of the preprocessing by name, and can't have all names that columns have.
    types = [(name, StringTensorType([None, 1]) if name in data.categorical else FloatTensorType([None, 1])) for name in columns]
    options = {id(model): {"zipmap": False}} if hasattr(model[STEP], "classes_") else None
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            converted = skl2onnx.convert_sklearn(model, "tabular", types, options=options, target_opset={"": 21, "ai.onnx.ml": 3})
        content = converted.SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # converter and runtime have many of their own
        said = " ".join(str(error).split())
        raise NotExported(f"{type(model[STEP]).__name__} can't be converted ({type(error).__name__}: {said[:160]})") from None
    inputs = dict(zip(columns, [one.name for one in session.get_inputs()], strict=True))
    exported = Exported(content=content, inputs=inputs, outputs=[one.name for one in session.get_outputs()])
    _compare(model, data, session, exported)
    return exported


def feed(exported_inputs: dict[str, str], features: Any, categorical: tuple[str, ...]) -> dict[str, Any]:
    """Rows as onnxruntime takes them."""
    return {
        inner: features[[name]].to_numpy(dtype=object if name in categorical else np.float32)
        for name, inner in exported_inputs.items()
    }


def _compare(model: Pipeline, data: TabularData, session: Any, exported: Exported) -> None:
    rows = data.test.features.head(ROWS_COMPARED)
    answers = session.run(None, feed(exported.inputs, rows, data.categorical))
    predicted = model.predict(rows)
    if data.task == "regression":
        off = float(np.abs(answers[0].ravel() - predicted).max() / (np.std(data.train.target) or 1.0))
    elif hasattr(model, "predict_proba"):
        off = float(np.abs(answers[1] - model.predict_proba(rows)).max())
    else:
        off = float((answers[0] != predicted).mean())
    if off > TOLERANCE:
        raise NotExported(f"converted, its answers are up to {off:.2g} from the model's, more than {TOLERANCE:g}")
