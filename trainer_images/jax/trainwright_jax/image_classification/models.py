"""The models that the recipe trains, in Flax. None keeps statistics of batches: they learn the same on any number of devices."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from trainwright_jax.image_classification.config import TrainingConfig


class SmallCnn(nn.Module):
    """Two convolutions and two dense layers: enough for digits, and for a first try on anything small."""

    classes: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, images: jax.Array, *, training: bool) -> jax.Array:
        hidden = nn.relu(nn.Conv(32, (3, 3), dtype=self.dtype)(scaled(images, self.dtype)))
        hidden = nn.relu(nn.Conv(64, (3, 3), dtype=self.dtype)(hidden))
        batch, _, _, channels = hidden.shape
        hidden = jax.image.resize(hidden, (batch, 4, 4, channels), "linear").reshape(batch, -1)
        hidden = nn.Dropout(self.dropout, deterministic=not training)(hidden)
        hidden = nn.relu(nn.Dense(128, dtype=self.dtype)(hidden))
        hidden = nn.Dropout(self.dropout, deterministic=not training)(hidden)
        return nn.Dense(self.classes, dtype=jnp.float32)(hidden)


class ResNet18(nn.Module):
    """The residual network of 18 layers (He et al., 2015) with group normalisation (Wu and He, 2018)."""

    classes: int
    dtype: Any

    @nn.compact
    def __call__(self, images: jax.Array, *, training: bool) -> jax.Array:
        del training
        hidden = nn.Conv(64, (7, 7), strides=2, use_bias=False, dtype=self.dtype)(scaled(images, self.dtype))
        hidden = nn.relu(nn.GroupNorm(32, dtype=self.dtype)(hidden))
        hidden = nn.max_pool(hidden, (3, 3), strides=(2, 2), padding="SAME")
        for stage, width in enumerate((64, 128, 256, 512)):
            for block in range(2):
                hidden = self._block(hidden, width, stride=2 if stage > 0 and block == 0 else 1)
        return nn.Dense(self.classes, dtype=jnp.float32)(hidden.mean((1, 2)))

    def _block(self, entering: jax.Array, width: int, *, stride: int) -> jax.Array:
        hidden = nn.Conv(width, (3, 3), strides=stride, use_bias=False, dtype=self.dtype)(entering)
        hidden = nn.relu(nn.GroupNorm(32, dtype=self.dtype)(hidden))
        hidden = nn.Conv(width, (3, 3), use_bias=False, dtype=self.dtype)(hidden)
        hidden = nn.GroupNorm(32, dtype=self.dtype)(hidden)
        if entering.shape != hidden.shape:
            entering = nn.Conv(width, (1, 1), strides=stride, use_bias=False, dtype=self.dtype)(entering)
            entering = nn.GroupNorm(32, dtype=self.dtype)(entering)
        return nn.relu(entering + hidden)


def scaled(images: jax.Array, dtype: Any) -> jax.Array:
    """Images of 0…1 brought to -1…1: part of the model, so that whoever serves it needn't know about it."""
    return ((images - 0.5) / 0.5).astype(dtype)


def build(config: TrainingConfig, *, classes: int) -> nn.Module:
    """The configured model; it takes images shaped (batch, height, width, channels) and gives logits."""
    dtype = jnp.bfloat16 if config.precision == "bf16" else jnp.float32
    if config.model == "resnet18":
        return ResNet18(classes=classes, dtype=dtype)
    return SmallCnn(classes=classes, dropout=config.dropout, dtype=dtype)
