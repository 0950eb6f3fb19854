"""Entry of the recipe: the configuration is refused, if it must be, before seconds go into loading PyTorch."""

from trainwright_horovod.image_classification.config import TrainingConfig
from trainwright_runtime.config import start

environment, config = start(TrainingConfig)

from trainwright_horovod.image_classification.train import train  # noqa: E402

train(environment, config)
