"""The keys that every recipe for time series has, whatever the framework: they mean the same everywhere."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from trainwright_runtime.config import Config
from trainwright_runtime.schedule import cosine


class SeriesConfig(Config):
    """What is forecast from what, and which stretch of time is held back."""

    BUILTINS = ("co2",)

    target: str | None = Field(
        None, min_length=1, description="Name of the column to forecast; a builtin series' own if not given."
    )
    time: str | None = Field(
        None, min_length=1, description="Name of the column of times, dates or numbers; the rows' own order if not given."
    )
    series: str | None = Field(
        None, min_length=1, description="Name of the column that tells several series of one table apart, such as a shop."
    )
    covariates: tuple[str, ...] = Field(
        (), description="Names of other columns of numbers to look at; of them, too, the past alone is known to a forecast."
    )
    window: int = Field(24, ge=1, description="Rows that a forecast looks back on.")
    horizon: int = Field(1, ge=1, description="Rows that are forecast at once.")
    season: int | None = Field(
        None,
        ge=1,
        description="Rows until a pattern comes again: the naive forecast then repeats the season before, else the last value.",
    )
    missing: Literal["carry", "refuse"] = Field(
        "carry", description="Missing values: the last one known is carried on (what comes later would tell), or refused."
    )
    validation_share: float = Field(0.15, gt=0, lt=0.5, description="Share of the time for val_* metrics, after the training's.")
    test_share: float = Field(0.15, gt=0, lt=0.5, description="Share of the time for test_* metrics: the end of it.")
    seed: int = Field(0, ge=0, description="Start of all random numbers: the same seed gives the same model.")

    @model_validator(mode="after")
    def refuse_what_can_not_be(self) -> Self:
        chosen = [name for name in (self.target, self.time, self.series, *self.covariates) if name is not None]
        if repeated := [name for name in chosen if chosen.count(name) > 1]:
            raise ValueError(f"column {repeated[0]!r} is named twice among 'target', 'time', 'series' and 'covariates'")
        if self.season is not None and not self.horizon <= self.season <= self.window:
            raise ValueError(
                f"key 'season' has the value {self.season}; accepted: from 'horizon' ({self.horizon}) to 'window' "
                f"({self.window}), where the season before lies"
            )
        if self.validation_share + self.test_share >= 0.9:
            raise ValueError("'validation_share' and 'test_share' leave less than a tenth to train on")
        return self


class NetworkConfig(SeriesConfig):
    """What the recipes have that train a network; the devices they train on are each framework's own."""

    model: Literal["lstm", "transformer"] = Field(
        "lstm", description="`lstm`: a recurrent network; `transformer`: an encoder whose rows look at each other."
    )
    units: int = Field(32, ge=1, description="Width of each layer.")
    layers: int = Field(1, ge=1, description="Layers above each other.")
    heads: int = Field(4, ge=1, description="Attention heads of `transformer`, which share `units` evenly.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of a layer's outputs dropped in training.")
    epochs: int = Field(30, ge=1, description="Passes over the training windows.")
    global_batch: int = Field(
        64, ge=1, description="Windows in one optimizer step, over all ranks: the same for any number of workers."
    )
    learning_rate: float = Field(0.003, gt=0, description="Learning rate at the start; it falls along a cosine.")
    weight_decay: float = Field(0.0001, ge=0, description="Weight decay of AdamW.")
    clip_norm: float = Field(1.0, gt=0, description="Gradients longer than this, all taken together, are shortened to it.")
    log_every_steps: int = Field(10, ge=1, description="Steps between two points of the loss curve.")
    step_delay_seconds: float = Field(
        0.0, ge=0, description="Wait this long in every step: for demonstrations, where there must be time to look."
    )

    @model_validator(mode="after")
    def refuse_heads_that_do_not_share_evenly(self) -> Self:
        if self.model == "transformer" and self.units % self.heads:
            raise ValueError(f"key 'units' has the value {self.units}, which {self.heads} 'heads' can't share evenly")
        return self

    def learning_rate_at(self, epoch: int) -> float:
        """The rate as a function of the epoch, from 0; it ends just above nothing, in the last epoch."""
        return cosine(self.learning_rate, epoch, self.epochs)
