"""Entry of the recipe: the configuration is refused, if it must be, before seconds go into loading TensorFlow."""

import os

from trainwright_runtime.config import start
from trainwright_tensorflow.image_classification.config import TrainingConfig

environment, config = start(TrainingConfig)

# Its notices about the build and absent GPUs would be most of the log of a short training; errors are still written.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from trainwright_tensorflow.image_classification.train import train  # noqa: E402

train(environment, config)
