"""Entry of the recipe: the configuration is refused, if it must be, before seconds go into loading JAX."""

from trainwright_jax.image_classification.config import TrainingConfig
from trainwright_runtime.config import start

environment, config = start(TrainingConfig)

from trainwright_jax.image_classification.train import train  # noqa: E402

train(environment, config)
