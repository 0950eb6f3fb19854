"""Estimators by the names that the configuration has for them, and the pipeline around one."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from typing import Any

from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils._param_validation import InvalidParameterError

from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.tabular.data import TabularData
from trainwright_runtime.tabular.preprocess import preprocessor
from trainwright_sklearn.tabular.config import TrainingConfig

KINDS: dict[str, dict[str, type]] = {
    "linear": {"regression": LinearRegression},
    "logistic": {"classification": LogisticRegression},
    "ridge": {"regression": Ridge},
    "lasso": {"regression": Lasso},
    "tree": {"classification": DecisionTreeClassifier, "regression": DecisionTreeRegressor},
    "forest": {"classification": RandomForestClassifier, "regression": RandomForestRegressor},
    "boosting": {"classification": HistGradientBoostingClassifier, "regression": HistGradientBoostingRegressor},
    "svm": {"classification": SVC, "regression": SVR},
    "knn": {"classification": KNeighborsClassifier, "regression": KNeighborsRegressor},
}
DEFAULTS: dict[str, dict[str, Any]] = {"logistic": {"max_iter": 1000}}
INDIFFERENT_TO_SCALE = ("tree", "forest", "boosting")
OURS = ("random_state", "n_jobs", "verbose", "warm_start")
"""Parameters that follow from the seed, the CPU limit and the way we train."""

WITH_JOBS = (RandomForestClassifier, RandomForestRegressor, KNeighborsClassifier, KNeighborsRegressor)

STEP = "model"
"""The estimator's step of the pipeline: its parameters are `model__…` there."""


def build(config: TrainingConfig, data: TabularData) -> Pipeline:
    """The unfitted pipeline: features of the data in, predictions out. Raises InvalidConfig where it can't be."""
    kinds = KINDS[config.estimator]
    if data.task not in kinds:
        fitting = ", ".join(name for name, tasks in KINDS.items() if data.task in tasks)
        raise InvalidConfig(
            f"key 'estimator' has the value {config.estimator!r}, which is not for {data.task}; accepted: {fitting}"
        )
    kind = kinds[data.task]
    known = list(inspect.signature(kind).parameters)
    check_names("parameters", config.parameters, known)
    if config.search is not None:
        check_names("search.parameters", config.search.parameters, known)
    ours = {"random_state": config.seed} if "random_state" in known else {}
    estimator = kind(**{**DEFAULTS.get(config.estimator, {}), **ours, **config.parameters})
    check_values(estimator, "parameters")
    scale = config.estimator not in INDIFFERENT_TO_SCALE if config.scale is None else config.scale
    return Pipeline([("prepare", preprocessor(data, scale=scale)), (STEP, estimator)])


def check_names(key: str, names: Iterable[str], known: list[str]) -> None:
    """Raises InvalidConfig for a parameter that the estimator lacks, or that isn't the user's to set."""
    for name in names:
        if name in OURS:
            raise InvalidConfig(f"key '{key}.{name}' is set by Trainwright: by 'seed', the CPU limit, and the way it trains")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            accepted = ", ".join(one for one in known if one not in OURS)
            raise InvalidConfig(f"unknown key '{key}.{name}'; {hint}accepted: {accepted}")


def check_values(estimator: Any, key: str) -> None:
    """Raises InvalidConfig for a value that the estimator says it can't have."""
    try:
        estimator._validate_params()
    except InvalidParameterError as error:
        raise InvalidConfig(f"{key}: {error}") from None


def with_threads(pipeline: Pipeline, threads: int) -> Pipeline:
    """The same pipeline, its estimator allowed that many threads, where it has a say in that. Scores don't depend on it."""
    if isinstance(pipeline[STEP], WITH_JOBS):
        pipeline.set_params(**{f"{STEP}__n_jobs": threads})
    return pipeline
