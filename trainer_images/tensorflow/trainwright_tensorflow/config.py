"""The keys that mean the same in every recipe for TensorFlow: where and how its model is computed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainwright_runtime.config import Config


class TensorFlowConfig(Config):
    """What each recipe's configuration derives from, beside what other frameworks have of the recipe."""

    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Arithmetic of the model; other than fp32 is Keras' mixed precision, with its last layer in fp32."
    )
    jit: bool = Field(False, description="Compile the model's gradients with XLA: slow first steps, faster ones after.")
    deterministic: bool = Field(
        True, description="Use operations that give the same result every time only; on GPUs that costs speed."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to train; `auto` takes the GPUs that the pod has.")
    replicas: int | None = Field(
        None, ge=1, description="GPUs that a worker mirrors the model over, all if not given; without GPUs, shares of the CPU."
    )
