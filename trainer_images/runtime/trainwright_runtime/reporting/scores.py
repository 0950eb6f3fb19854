"""How good predictions are, by scikit-learn's measures, as plain numbers that a report and a manifest can carry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn import metrics as measures

from trainwright_runtime.histogram import of_classes, of_numbers

MAX_POINTS = 200
"""Of a curve or a scatter plot: more is not seen."""
MAX_CURVES = 12
"""Classes that get curves of their own, the most frequent first."""


def classification(
    truth: Sequence[str], predicted: Sequence[str], classes: Sequence[str], scores: Any = None, *, are_probabilities: bool = True
) -> dict[str, Any]:
    """Metrics, confusion matrix, and curves of each class against the rest.

    `truth`, `predicted`: (rows,) names of classes. `scores`: (rows, classes) in the order of `classes`; without them there are
    no curves. `confusion[i][j]` counts rows of class i that were taken for class j; `baseline` is the share of the most frequent
    class: what always guessing it would reach. `predictions`: a histogram of them.
    """
    true, classes = np.asarray(truth, dtype=object), list(classes)
    confusion = measures.confusion_matrix(true, predicted, labels=classes)
    report = measures.classification_report(true, predicted, labels=classes, output_dict=True, zero_division=0)
    found: dict[str, Any] = {
        "kind": "classification",
        "rows": len(truth),
        "metrics": {
            "accuracy": float(measures.accuracy_score(true, predicted)),
            "macro_f1": float(report["macro avg"]["f1-score"]),
        },
        "baseline": float(confusion.sum(axis=1).max() / len(truth)),
        "classes": classes,
        "confusion": confusion.tolist(),
        "predictions": of_classes(predicted, classes),
        "perClass": [
            {
                "class": name,
                "precision": float(report[name]["precision"]),
                "recall": float(report[name]["recall"]),
                "f1": float(report[name]["f1-score"]),
                "support": int(report[name]["support"]),
            }
            for name in classes
        ],
    }
    if scores is None:
        return found
    scores = np.asarray(scores, dtype="float64")
    if are_probabilities:
        rows = np.arange(len(truth))
        own = scores[rows, [classes.index(one) for one in truth]]
        found["metrics"]["log_loss"] = float(-np.log(np.clip(own, 1e-15, 1)).mean())
    add_curves(found, lambda index: (true == classes[index], scores[:, index], np.ones(len(true))))
    return found


def add_curves(found: dict[str, Any], samples_of: Callable[[int], tuple[Any, Any, Any]]) -> None:
    """Add the curves of each class, and the mean area under them, to what `classification` found.

    `samples_of` gives for the number of a class three arrays of one length: whether a sample is of the class, its score for the
    class, and how many such samples there are.
    """
    classes = found["classes"]
    by_size = np.argsort([-one["support"] for one in found["perClass"]], kind="stable")
    # Two classes mirror each other: one curve says all.
    shown = [1] if len(classes) == 2 else sorted(by_size[:MAX_CURVES].tolist())
    found["roc"], found["precisionRecall"], areas = {}, {}, []
    for index in shown:
        is_class, scores, counts = _there(*samples_of(index))
        if is_class.all() or not is_class.any():
            continue
        false_rate, true_rate, _ = measures.roc_curve(is_class, scores, sample_weight=counts)
        precision, recall, _ = measures.precision_recall_curve(is_class, scores, sample_weight=counts)
        areas.append(float(measures.auc(false_rate, true_rate)))
        found["roc"][classes[index]] = {"area": areas[-1], "points": _thinned(false_rate, true_rate)}
        found["precisionRecall"][classes[index]] = {
            "average": float(measures.average_precision_score(is_class, scores, sample_weight=counts)),
            "points": _thinned(recall, precision),
        }
    if areas and len(shown) in (1, len(classes)):
        found["metrics"]["roc_auc"] = sum(areas) / len(areas)


def regression(truth: Sequence[float], predicted: Sequence[float]) -> dict[str, Any]:
    """Metrics (in units of the target; `mse` in its square) and points (truth, prediction) for a plot.

    `baseline` is the mean absolute error of always answering with the median of the truth; `predictions` a histogram of them.
    """
    true, said = np.asarray(truth, dtype="float64"), np.asarray(predicted, dtype="float64")
    mse = float(measures.mean_squared_error(true, said))
    return {
        "kind": "regression",
        "rows": len(true),
        "metrics": {
            "r2": float(measures.r2_score(true, said)),
            "mae": float(measures.mean_absolute_error(true, said)),
            "rmse": mse**0.5,
            "mse": mse,
        },
        "baseline": float(np.abs(true - np.median(true)).mean()),
        "points": _thinned(true, said, most=5 * MAX_POINTS),
        "predictions": of_numbers(said),
    }


def _there(is_class: Any, scores: Any, counts: Any) -> tuple[Any, Any, Any]:
    there = counts > 0
    return is_class[there], scores[there], counts[there]


def _thinned(x: Any, y: Any, most: int = MAX_POINTS) -> list[list[float]]:
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), most)).round().astype(int))
    return [[float(x[index]), float(y[index])] for index in chosen]
