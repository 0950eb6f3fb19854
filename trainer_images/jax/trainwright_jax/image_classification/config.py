"""Every key of the recipe's configuration, with its meaning; what means the same in other frameworks is in the runtime's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainwright_runtime.images.config import ImageConfig


class TrainingConfig(ImageConfig):
    """Configuration of `image-classification`."""

    model: Literal["small-cnn", "resnet18"] = Field(
        "small-cnn", description="`small-cnn`, or a `resnet18` with group instead of batch normalisation."
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Arithmetic of the model; its weights stay fp32.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to train; `auto` takes all GPUs of the worker.")
