"""Entry of the recipe: the configuration is refused, if it must be, before seconds go into loading TensorFlow."""

from trainwright_runtime.config import start
from trainwright_tensorflow.sequence.config import TrainingConfig

environment, config = start(TrainingConfig)

from trainwright_tensorflow.sequence.train import train  # noqa: E402

train(environment, config)
