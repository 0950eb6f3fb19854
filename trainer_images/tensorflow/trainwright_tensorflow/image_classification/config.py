"""Every key of the recipe's configuration, with its meaning; what means the same in other frameworks is in the runtime's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainwright_runtime.images.config import ImageConfig


class TrainingConfig(ImageConfig):
    """Configuration of `image-classification`."""

    model: str = Field(
        "small-cnn", description="`small-cnn`, or a model of `keras.applications` by name, such as `MobileNetV2`, untrained."
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Arithmetic of the model; other than fp32 is Keras' mixed precision, with its last layer in fp32."
    )
    jit: bool = Field(False, description="Compile the model's gradients with XLA: slow first steps, faster ones after.")
    augment: tuple[Literal["flip", "rotate"], ...] = Field(
        (), description="Changes at random to training images: `flip` left to right, `rotate` by up to 18 degrees."
    )
    deterministic: bool = Field(
        True, description="Use operations that give the same result every time only; on GPUs that costs speed."
    )
    loader_workers: int = Field(
        0, ge=0, description="Threads that decode images ahead of the steps; 0 decodes between the steps."
    )
    cache: bool = Field(False, description="Keep decoded images in memory after the first epoch; for a directory of images.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to train; `auto` takes the GPUs that the pod has.")
    replicas: int | None = Field(
        None, ge=1, description="GPUs that a worker mirrors the model over, all if not given; without GPUs, shares of the CPU."
    )
