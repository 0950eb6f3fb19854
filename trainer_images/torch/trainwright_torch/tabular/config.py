"""Every key of the recipe's configuration, with its meaning; those that all recipes for tables have are in the runtime."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainwright_runtime.tabular.config import TabularConfig


class TrainingConfig(TabularConfig):
    """Configuration of `tabular`."""

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
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to train; `auto` takes the GPU that the rank has.")
    log_every_steps: int = Field(10, ge=1, description="Steps between two points of the loss curve.")
    step_delay_seconds: float = Field(
        0.0, ge=0, description="Wait this long in every step: for demonstrations, where there must be time to look."
    )
