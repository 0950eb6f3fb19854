"""A multilayer perceptron over a table's own columns: filling, scaling and one-hot encoding are part of it, so whoever serves it
needs no code of ours. They are those that the recipes of other frameworks have (`tabular.network`).
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn

from trainwright_runtime.tabular.data import Part, TabularData
from trainwright_runtime.tabular.network import Columns, columns_of, rows_of
from trainwright_torch.tabular.config import TrainingConfig

Rows = tuple[torch.Tensor, torch.Tensor]
"""`numbers`: (rows, numeric columns) float32, NaN where missing. `words`: (rows, categorical columns) int64, -1 where unknown."""


class Perceptron(nn.Module):
    """Gives logits, (rows, classes); or for a regression predictions, (rows,), in the target's own unit."""

    def __init__(self, data: TabularData, config: TrainingConfig) -> None:
        super().__init__()
        self.columns = columns_of(data)
        self._fill("medians", self.columns.medians)
        self._fill("means", self.columns.means)
        self._fill("scales", self.columns.scales)
        self._fill("target_mean", self.columns.target_mean)
        self._fill("target_scale", self.columns.target_scale)
        self.is_regression = data.task == "regression"
        widths = [self.columns.width, *config.hidden]
        layers: list[nn.Module] = []
        for width, following in itertools.pairwise(widths):
            layers += [nn.Linear(width, following), nn.ReLU(), nn.Dropout(config.dropout)]
        self.network = nn.Sequential(*layers, nn.Linear(widths[-1], 1 if self.is_regression else len(data.classes)))

    def _fill(self, name: str, value: Any) -> None:
        self.register_buffer(name, torch.tensor(value, dtype=torch.float32))

    def forward(self, numbers: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        filled = torch.where(torch.isnan(numbers), self.medians, numbers)
        encoded = [(filled - self.means) / self.scales]
        for column, categories in enumerate(self.columns.categories):
            places = torch.arange(len(categories), device=words.device)
            encoded.append((words[:, column : column + 1] == places).to(filled.dtype))
        output: torch.Tensor = self.network(torch.cat(encoded, dim=1))
        return output.squeeze(1) * self.target_scale + self.target_mean if self.is_regression else output


def tensors_of(part: Part, data: TabularData, columns: Columns) -> Rows:
    """A part's features as the model takes them."""
    numbers, words = rows_of(part, data, columns)
    return torch.from_numpy(numbers), torch.from_numpy(words)
