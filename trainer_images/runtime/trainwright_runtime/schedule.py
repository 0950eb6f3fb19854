"""How a learning rate falls, as a function of the epoch, from 0."""

from __future__ import annotations

import math


def cosine(rate: float, epoch: int, epochs: int) -> float:
    """From `rate` along half a wave; it ends just above nothing, in the last epoch."""
    return rate * (1 + math.cos(math.pi * epoch / epochs)) / 2
