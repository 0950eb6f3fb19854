"""Every key of the recipe's configuration, with its meaning; what other recipes for tables have, too, is in the runtime."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainwright_runtime.tabular.config import PerceptronConfig


class TrainingConfig(PerceptronConfig):
    """Configuration of `tabular`."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to train; `auto` takes the GPU that the rank has.")
