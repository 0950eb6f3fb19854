"""How good a fitted pipeline is on a part of the data, and which columns it goes by."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.inspection import permutation_importance
from sklearn.pipeline import Pipeline

from trainwright_runtime.reporting import Importance
from trainwright_runtime.reporting.scores import classification, regression
from trainwright_runtime.tabular.data import Part, TabularData
from trainwright_sklearn.tabular.config import TrainingConfig
from trainwright_sklearn.tabular.estimators import STEP


def measured(model: Pipeline, data: TabularData, part: Part) -> dict[str, Any]:
    """What `reporting.scores` makes of the model's predictions for this part."""
    predicted = model.predict(part.features)
    if data.task == "regression":
        return regression(part.target, predicted)
    if hasattr(model, "predict_proba"):
        return classification(part.target, predicted, data.classes, model.predict_proba(part.features))
    decided = model.decision_function(part.features)
    if decided.ndim == 1:
        decided = np.column_stack([-decided, decided])
    return classification(part.target, predicted, data.classes, decided, are_probabilities=False)


def importances(model: Pipeline, data: TabularData, config: TrainingConfig) -> list[Importance]:
    """By shuffling columns of the validation part; and those that the estimator has of itself."""
    found = []
    scoring = data.main_metric
    if config.permutation_repeats:
        part = data.validation
        shuffled = permutation_importance(
            model, part.features, part.target, scoring=scoring, n_repeats=config.permutation_repeats, random_state=config.seed
        )
        found.append(
            Importance(
                title="Permutation importance",
                meaning=f"{'accuracy' if scoring == 'accuracy' else 'R²'} lost on the validation part when shuffled",
                names=[str(name) for name in part.features.columns],
                values=shuffled.importances_mean.tolist(),
                spread=shuffled.importances_std.tolist(),
            )
        )
    if hasattr(model[STEP], "feature_importances_"):
        found.append(
            Importance(
                title="Feature importance of the trees",
                meaning="share of the impurity that splits by it take away",
                names=[str(name) for name in model["prepare"].get_feature_names_out()],
                values=model[STEP].feature_importances_.tolist(),
            )
        )
    return found
