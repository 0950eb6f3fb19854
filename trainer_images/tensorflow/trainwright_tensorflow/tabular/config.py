"""Every key of the recipe's configuration: those that the table and the perceptron have in every framework, and TensorFlow's."""

from __future__ import annotations

from trainwright_runtime.tabular.config import PerceptronConfig
from trainwright_tensorflow.config import TensorFlowConfig


class TrainingConfig(TensorFlowConfig, PerceptronConfig):
    """Configuration of `tabular`."""
