"""The keys that every recipe for tables has, whatever the framework: they mean the same everywhere."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainwright_runtime.config import Config
from trainwright_runtime.schedule import cosine

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


class PerceptronConfig(TabularConfig):
    """What the recipes have that train a perceptron; the devices they train on are each framework's own."""

    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (64, 32), description="Units of each hidden layer; none for a linear model."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of hidden units dropped in training.")
    epochs: int = Field(60, ge=1, description="Passes over the training rows.")
    global_batch: int = Field(
        32, ge=1, description="Rows in one optimizer step, over all ranks: the same for any number of workers."
    )
    learning_rate: float = Field(0.003, gt=0, description="Learning rate at the start; it falls along a cosine.")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay of AdamW.")
    log_every_steps: int = Field(10, ge=1, description="Steps between two points of the loss curve.")
    step_delay_seconds: float = Field(
        0.0, ge=0, description="Wait this long in every step: for demonstrations, where there must be time to look."
    )

    def learning_rate_at(self, epoch: int) -> float:
        """The rate as a function of the epoch, from 0; it ends just above nothing, in the last epoch."""
        return cosine(self.learning_rate, epoch, self.epochs)
