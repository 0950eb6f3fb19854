"""The keys of `image-classification` that mean the same in every framework."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainwright_runtime.config import Config
from trainwright_runtime.schedule import cosine


class ImageConfig(Config):
    """What each framework's configuration of the recipe derives from; `model` and what else is its own it adds."""

    BUILTINS = ("digits",)

    NEEDED_BY: ClassVar[dict[str, tuple[str, tuple[str, ...]]]] = {
        "momentum": ("optimizer", ("sgd",)),
        "schedule_factor": ("schedule", ("step", "exponential")),
        "schedule_epochs": ("schedule", ("step",)),
        "dropout": ("model", ("small-cnn",)),
    }
    """Keys that mean something only beside certain values of another key; elsewhere they are refused."""

    dropout: float = Field(0.0, ge=0, lt=1, description="Share of features dropped in training; `small-cnn` only.")
    epochs: int = Field(15, ge=1, description="Passes over the training images.")
    global_batch: int = Field(
        64, ge=1, description="Images in one optimizer step, over all ranks: the same for any number of workers."
    )
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adamw", description="How gradients change the weights.")
    learning_rate: float = Field(0.005, gt=0, description="Learning rate at the start.")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay of the optimizer.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of `sgd`.")
    schedule: Literal["none", "step", "cosine", "exponential"] = Field(
        "cosine", description="How the learning rate falls, from one epoch to the next."
    )
    schedule_epochs: int = Field(5, ge=1, description="Epochs from one fall to the next, for `step`.")
    schedule_factor: float = Field(
        0.5, gt=0, le=1, description="What the rate is multiplied by at a fall, for `step` and `exponential`."
    )
    warmup_epochs: int = Field(0, ge=0, description="Epochs in which the learning rate climbs to its start, before it falls.")
    clip_norm: float | None = Field(
        None, gt=0, description="Gradients longer than this, all taken together, are shortened to it; never if not given."
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of each label that is spread over all classes, against answers that are too sure."
    )
    early_stopping_epochs: int | None = Field(
        None, ge=1, description="Stop after this many epochs without a better validation loss, and take the best weights."
    )
    image_size: int | None = Field(
        None, ge=8, description="Height and width that images of a directory are brought to; 64 if not given."
    )
    image_channels: Literal[1, 3] | None = Field(
        None, description="1 for grey, 3 for colour images of a directory; 3 if not given."
    )
    seed: int = Field(0, ge=0, description="Start of all random numbers: the same seed gives the same training.")
    log_every_steps: int = Field(10, ge=1, description="Steps between two points of the loss curve.")
    step_delay_seconds: float = Field(
        0.0, ge=0, description="Wait this long in every step: for demonstrations, where there must be time to look."
    )

    @model_validator(mode="after")
    def refuse_what_would_be_ignored(self) -> Self:
        for key, (other, values) in self.NEEDED_BY.items():
            if key in self.model_fields_set and (chosen := getattr(self, other)) not in values:
                raise ValueError(f"key {key!r} has no effect with {other}: {chosen}; it goes with {' or '.join(values)}")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"key 'warmup_epochs' has the value {self.warmup_epochs}; accepted: fewer than 'epochs' ({self.epochs})"
            )
        return self

    def learning_rate_at(self, epoch: int) -> float:
        """The schedule as a function of the epoch, from 0. Cosine ends just above nothing, in the last epoch."""
        if epoch < self.warmup_epochs:
            return self.learning_rate * (epoch + 1) / (self.warmup_epochs + 1)
        epoch, epochs = epoch - self.warmup_epochs, self.epochs - self.warmup_epochs
        match self.schedule:
            case "none":
                return self.learning_rate
            case "step":
                return self.learning_rate * self.schedule_factor ** (epoch // self.schedule_epochs)
            case "cosine":
                return cosine(self.learning_rate, epoch, epochs)
            case "exponential":
                return self.learning_rate * self.schedule_factor**epoch
