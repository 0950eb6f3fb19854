"""A network that takes a window of a series as it is, and gives the rows after it: scaling is part of it, so whoever serves it
needs no code of ours. What it learns is how the target moves away from its last known value; so a level that it has never seen,
as a growing series has, is none to be afraid of.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from trainwright_runtime.series.data import SeriesData
from trainwright_torch.sequence.config import TrainingConfig


class Forecaster(nn.Module):
    """From values, (batch, window, channels), to forecasts, (batch, horizon), all in their own units."""

    def __init__(self, data: SeriesData, config: TrainingConfig) -> None:
        super().__init__()
        for name, value in (("means", data.means[1:]), ("scales", data.scales[1:]), ("change", data.change)):
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.float32).clone())
        make = Recurrent if config.model == "lstm" else Attentive
        self.body = make(len(data.channels), config)
        self.head = nn.Linear(config.units, data.horizon)
        # It begins as the naive forecast that repeats the last value.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        target, others = values[:, :, :1], values[:, :, 1:]
        last = target[:, -1:, :]
        scaled = torch.cat([(target - last) / self.change, (others - self.means) / self.scales], dim=2)
        forecast: torch.Tensor = last[:, :, 0] + self.head(self.body(scaled)) * self.change
        return forecast


class Recurrent(nn.Module):
    """An LSTM; gives its last output, (batch, units)."""

    def __init__(self, channels: int, config: TrainingConfig) -> None:
        super().__init__()
        between = config.dropout if config.layers > 1 else 0.0
        self.cells = nn.LSTM(channels, config.units, config.layers, batch_first=True, dropout=between)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        outputs, _ = self.cells(rows)
        dropped: torch.Tensor = self.drop(outputs[:, -1])
        return dropped


class Attentive(nn.Module):
    """A Transformer's encoder with learned places; gives what the last row has become, (batch, units)."""

    def __init__(self, channels: int, config: TrainingConfig) -> None:
        super().__init__()
        self.project = nn.Linear(channels, config.units)
        self.places = nn.Parameter(torch.randn(config.window, config.units) * 0.02)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(config.units)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        encoded: torch.Tensor = self.norm(self.blocks(self.project(rows) + self.places)[:, -1])
        return encoded


class Block(nn.Module):
    """Attention over the rows of the window, and two linear layers over each row."""

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__()
        units = config.units
        self.heads = config.heads
        self.before, self.between = nn.LayerNorm(units), nn.LayerNorm(units)
        self.attended, self.merged = nn.Linear(units, 3 * units), nn.Linear(units, units)
        self.each = nn.Sequential(nn.Linear(units, 4 * units), nn.GELU(), nn.Linear(4 * units, units))
        self.drop = nn.Dropout(config.dropout)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.attended(self.before(rows)).chunk(3, dim=2)
        )
        seen = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        rows = rows + self.drop(self.merged(seen))
        result: torch.Tensor = rows + self.drop(self.each(self.between(rows)))
        return result
