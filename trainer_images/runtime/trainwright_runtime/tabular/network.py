"""A table as a network learns from it, the same for every framework: rows and targets as numpy arrays, what the training rows say
of the columns, and what is kept of a training's course.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from trainwright_runtime.exits import Exit, leave
from trainwright_runtime.reporting.scores import classification, regression
from trainwright_runtime.tabular.data import Part, TabularData
from trainwright_runtime.tabular.preprocess import preprocessor

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """What the training rows say of the columns, and the target: a network has it inside, so that it takes columns as they are.

    `medians`, `means` and `scales` are one a numeric column; means and scales are those of columns filled with the medians.
    `categories` are the words of each categorical column: a word's code is its place among them. `target_mean` and `target_scale`
    bring a network's output to the unit of the target; 0 and 1 where classes are told apart.
    """

    medians: Floats
    means: Floats
    scales: Floats
    categories: tuple[tuple[str, ...], ...]
    target_mean: float
    target_scale: float

    @property
    def width(self) -> int:
        """Numbers that a row is encoded as: the numeric columns, and one for each word."""
        return len(self.medians) + sum(map(len, self.categories))


def columns_of(data: TabularData) -> Columns:
    """By scikit-learn's transformers, as the recipes of sklearn use them."""
    fitted = preprocessor(data, scale=True).fit(data.train.features).named_transformers_
    numeric = fitted["numeric"] if data.numeric else None
    is_regression = data.task == "regression"
    return Columns(
        medians=_floats(numeric["impute"].statistics_ if numeric else ()),
        means=_floats(numeric["scale"].mean_ if numeric else ()),
        scales=_floats(numeric["scale"].scale_ if numeric else ()),
        categories=tuple(tuple(map(str, one)) for one in fitted["categorical"].categories_) if data.categorical else (),
        target_mean=float(data.train.target.mean()) if is_regression else 0.0,
        target_scale=float(data.train.target.std() or 1.0) if is_regression else 1.0,
    )


def rows_of(part: Part, data: TabularData, columns: Columns) -> tuple[Floats, Codes]:
    """A part's features: numbers, (rows, numeric columns), NaN where missing; codes of words, (rows, categorical columns), -1 for
    a word that the training part lacks.
    """
    numbers = part.features[list(data.numeric)].to_numpy(dtype=np.float32, copy=True)
    codes = [
        part.features[name].map({word: code for code, word in enumerate(known)}).fillna(-1).to_numpy(dtype=np.int64)
        for name, known in zip(data.categorical, columns.categories, strict=True)
    ]
    return numbers, np.stack(codes, axis=1) if codes else np.zeros((len(part), 0), dtype=np.int64)


def targets_of(part: Part, data: TabularData) -> npt.NDArray[Any]:
    """A part's targets, (rows,): places in `data.classes`, int64; or values, float32."""
    if data.task == "regression":
        return _floats(part.target)
    places = {name: place for place, name in enumerate(data.classes)}
    return np.array([places[one] for one in part.target], dtype=np.int64)


def measured(outputs: npt.NDArray[Any], part: Part, data: TabularData) -> dict[str, Any]:
    """What `reporting.scores` makes of a network's outputs for this part: logits, (rows, classes), or values, (rows,).

    Ends the process with code 64 when they aren't finite: the same seed would bring every other attempt there too.
    """
    if not np.isfinite(outputs).all():
        leave(Exit.INVALID_CONFIG, "the network's answers are NaN or infinite: it has diverged; try a lower 'learning_rate'")
    if data.task == "regression":
        return regression(part.target, outputs.tolist())
    powers = np.exp(outputs.astype(np.float64) - outputs.max(axis=1, keepdims=True))
    predicted = [data.classes[place] for place in outputs.argmax(axis=1)]
    return classification(part.target, predicted, data.classes, powers / powers.sum(axis=1, keepdims=True))


def _floats(values: Any) -> Floats:
    return np.asarray(values, dtype=np.float32)
