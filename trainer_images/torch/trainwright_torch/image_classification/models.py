"""The models that the recipe trains."""

from __future__ import annotations

import difflib

import torch
from torch import nn

from trainwright_runtime.config import InvalidConfig
from trainwright_torch.image_classification.config import TrainingConfig


class Classifier(nn.Module):
    """A network with its input's scaling: takes images in 0…1, shaped (batch, channels, height, width), gives logits.

    The scaling is part of the model so that whoever serves it needn't know about it.
    """

    def __init__(self, network: nn.Module, *, grey_to_colour: bool) -> None:
        super().__init__()
        self.network = network
        self.grey_to_colour = grey_to_colour

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scaled = (images - 0.5) / 0.5
        if self.grey_to_colour:
            scaled = scaled.expand(-1, 3, -1, -1)
        logits: torch.Tensor = self.network(scaled)
        return logits


def small_cnn(*, channels: int, classes: int, dropout: float) -> nn.Module:
    """Two convolutions and two linear layers: enough for digits, and for a first try on anything small.

    It has no batch normalisation, whose statistics are a rank's own: so it learns the same whatever the number of ranks.
    """
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(64 * 4 * 4, 128),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(128, classes),
    )


def build(config: TrainingConfig, *, channels: int, classes: int) -> Classifier:
    """The configured model with fresh weights; raises InvalidConfig for a name that there is none of."""
    if config.model == "small-cnn":
        return Classifier(small_cnn(channels=channels, classes=classes, dropout=config.dropout), grey_to_colour=False)
    # Loading torchvision takes seconds, and small-cnn needs none of it.
    import torchvision  # noqa: PLC0415

    # These two give several outputs in training; one loss can't be taken of them.
    names = [
        name for name in torchvision.models.list_models(module=torchvision.models) if name not in ("googlenet", "inception_v3")
    ]
    if config.model not in names:
        near = difflib.get_close_matches(config.model, ["small-cnn", *names], n=3) or ["small-cnn", "resnet18"]
        raise InvalidConfig(
            f"key 'model' has the value {config.model!r}, which is no model of torchvision's; near it: {', '.join(near)}"
        )
    return Classifier(torchvision.models.get_model(config.model, weights=None, num_classes=classes), grey_to_colour=channels == 1)
