"""Every key of the recipe's configuration, with its meaning; what means the same in other frameworks is in the runtime's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainwright_runtime.images.config import ImageConfig


class TrainingConfig(ImageConfig):
    """Configuration of `image-classification`."""

    model: str = Field(
        "small-cnn", description="`small-cnn`, or a classification model of torchvision by name, such as `resnet18`."
    )
    compression: Literal["none", "fp16"] = Field("none", description="What gradients are brought to before they are exchanged.")
    loader_workers: int = Field(0, ge=0, description="Processes a rank decodes images with; 0 decodes between the steps.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to train; `auto` takes the GPU that the rank has.")
