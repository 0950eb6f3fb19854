"""The keys that every recipe for tables has, whatever the framework: they mean the same everywhere."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from trainwright_runtime.config import Config

Task = Literal["classification", "regression"]


class TabularConfig(Config):
    """What is learned from which columns, and which rows are held back. The builtin tables ship with scikit-learn."""

    BUILTINS = ("breast_cancer", "wine", "iris", "diabetes", "digits")

    target: str | None = Field(
        None, min_length=1, description="Name of the column to predict; a builtin table's own if not given."
    )
    features: tuple[str, ...] | None = Field(
        None, min_length=1, description="Names of the columns to learn from; all but the target if not given."
    )
    drop: tuple[str, ...] = Field((), description="Names of columns that are left out, such as an identifier.")
    categorical: tuple[str, ...] = Field(
        (), description="Names of columns whose numbers are names of something, such as a postcode; words always are."
    )
    task: Literal["auto", "classification", "regression"] = Field(
        "auto", description="`auto` takes words, truth values, and at most 20 different whole numbers for classes."
    )
    missing: Literal["impute", "drop", "refuse"] = Field(
        "impute",
        description="Missing values: the training part's median (for words a category of their own), rows left out, or refused.",
    )
    validation_share: float = Field(0.15, gt=0, lt=0.5, description="Share of rows for val_* metrics, never trained on.")
    test_share: float = Field(0.15, gt=0, lt=0.5, description="Share of rows for test_* metrics, looked at once, at the end.")
    seed: int = Field(0, ge=0, description="Start of all random numbers: the same seed gives the same split and the same model.")

    @model_validator(mode="after")
    def refuse_columns_named_twice(self) -> Self:
        chosen, left_out = set(self.features or ()), set(self.drop)
        if both := chosen & left_out:
            raise ValueError(f"column {min(both)!r} is both in 'features' and in 'drop'")
        if self.target is not None and self.target in chosen | left_out:
            raise ValueError(f"column {self.target!r} is the 'target': it can't be in 'features' or 'drop'")
        return self
