"""Every key of the recipe's configuration, with its meaning; those that all recipes for tables have are in the runtime."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from trainwright_runtime.config import Config
from trainwright_runtime.tabular.config import TabularConfig

Estimator = Literal["linear", "logistic", "ridge", "lasso", "tree", "forest", "boosting", "svm", "knn"]


class Range(Config):
    """Numbers to draw from, for a random search."""

    low: int | float = Field(description="Least number.")
    high: int | float = Field(description="Greatest number; whole numbers are drawn when both are whole.")
    log: bool = Field(False, description="Draw the logarithm evenly: for numbers that span orders of magnitude.")

    @model_validator(mode="after")
    def refuse_an_empty_range(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low is {self.low} and high is {self.high}; low must be less")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low}; with log it must be more than 0")
        return self


class SearchConfig(Config):
    """What is tried, and how the best is found."""

    kind: Literal["grid", "random"] = Field("grid", description="`grid`: every combination. `random`: as many as `iterations`.")
    parameters: dict[str, list[Any] | Range] = Field(
        min_length=1,
        description="Values to try for each of the estimator's parameters; for `random` also {low: 0.1, high: 10, log: true}.",
    )
    iterations: int = Field(10, ge=1, description="Candidates of a `random` search.")
    folds: int = Field(5, ge=2, le=100, description="Each candidate is trained this often, each time without one fold.")
    scoring: str | None = Field(
        None, description="Name of a scikit-learn scorer, such as `f1_macro`; `accuracy` or `r2` if not given."
    )

    @model_validator(mode="after")
    def refuse_what_would_be_ignored(self) -> Self:
        for name, values in self.parameters.items():
            if values == []:
                raise ValueError(f"parameter {name!r} has no value to try")
            if self.kind == "grid" and isinstance(values, Range):
                raise ValueError(f"parameter {name!r} is a range; a grid takes a list of values, kind: random takes both")
        if self.kind == "grid" and "iterations" in self.model_fields_set:
            raise ValueError("key 'iterations' has no effect with kind: grid; it goes with random")
        return self


class TrainingConfig(TabularConfig):
    """Configuration of `tabular`."""

    estimator: Estimator = Field(
        "forest",
        description="What learns: `linear`, `ridge`, `lasso` numbers, `logistic` classes, the others both; `boosting` is "
        "HistGradientBoosting.",
    )
    parameters: dict[str, Any] = Field({}, description="Parameters of the estimator, by scikit-learn's names.")
    scale: bool | None = Field(
        None, description="Bring numbers to mean 0 and variance 1; if not given, for all but `tree`, `forest` and `boosting`."
    )
    search: SearchConfig | None = Field(
        None, description="Find the best parameters by cross-validation over the training part; workers share the work."
    )
    format: Literal["skops", "joblib"] = Field(
        "skops", description="File of the model. `joblib` is a pickle: loading one runs whatever code is in it."
    )
    permutation_repeats: int = Field(
        5, ge=0, description="How often a column is shuffled to measure its importance; 0: not at all."
    )
    unit_delay_seconds: float = Field(
        0.0,
        ge=0,
        description="Wait this long after every unit of a search: for demonstrations, where there must be time to look.",
    )

    @model_validator(mode="after")
    def refuse_parameters_given_twice(self) -> Self:
        if self.search is not None and (both := sorted(self.search.parameters.keys() & self.parameters.keys())):
            raise ValueError(f"parameter {both[0]!r} is both in 'parameters' and in 'search.parameters'")
        if self.search is None and "unit_delay_seconds" in self.model_fields_set:
            raise ValueError("key 'unit_delay_seconds' has no effect without 'search'")
        return self
