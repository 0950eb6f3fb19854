"""Every key of the recipe's configuration: those that series and network have in every framework, and TensorFlow's."""

from __future__ import annotations

from trainwright_runtime.series.config import NetworkConfig
from trainwright_tensorflow.config import TensorFlowConfig


class TrainingConfig(TensorFlowConfig, NetworkConfig):
    """Configuration of `sequence`."""
