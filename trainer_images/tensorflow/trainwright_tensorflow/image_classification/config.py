"""Every key of the recipe's configuration, with its meaning; what means the same in other frameworks is in the runtime's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainwright_runtime.images.config import ImageConfig
from trainwright_tensorflow.config import TensorFlowConfig


class TrainingConfig(TensorFlowConfig, ImageConfig):
    """Configuration of `image-classification`."""

    model: str = Field(
        "small-cnn", description="`small-cnn`, or a model of `keras.applications` by name, such as `MobileNetV2`, untrained."
    )
    augment: tuple[Literal["flip", "rotate"], ...] = Field(
        (), description="Changes at random to training images: `flip` left to right, `rotate` by up to 18 degrees."
    )
    loader_workers: int = Field(
        0, ge=0, description="Threads that decode images ahead of the steps; 0 decodes between the steps."
    )
    cache: bool = Field(False, description="Keep decoded images in memory after the first epoch; for a directory of images.")
