"""Every key of the recipe's configuration, with its meaning; what other recipes for series have, too, is in the runtime."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainwright_runtime.series.config import NetworkConfig


class TrainingConfig(NetworkConfig):
    """Configuration of `sequence`."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to train; `auto` takes the GPU that the rank has.")
