"""Entry of the recipe: the configuration is refused, if it must be, before seconds go into loading PyTorch."""

from trainwright_runtime.config import start
from trainwright_torch.sequence.config import TrainingConfig

environment, config = start(TrainingConfig)

from trainwright_torch.sequence.train import train  # noqa: E402

train(environment, config)
