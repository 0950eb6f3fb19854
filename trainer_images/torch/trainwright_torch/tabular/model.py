"""A multilayer perceptron over a table's own columns: filling, scaling and one-hot encoding are part of it, so whoever serves it
needs no code of ours. They are those that the recipes of other frameworks have (`tabular.preprocess`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from trainwright_runtime.tabular.data import Part, TabularData
from trainwright_runtime.tabular.preprocess import preprocessor
from trainwright_torch.tabular.config import TrainingConfig

Rows = tuple[torch.Tensor, torch.Tensor]
"""`numbers`: (rows, numeric columns) float32, NaN where missing. `words`: (rows, categorical columns) int64, -1 where unknown."""


class Perceptron(nn.Module):
    """Gives logits, (rows, classes); or for a regression predictions, (rows,), in the target's own unit."""

    def __init__(self, data: TabularData, config: TrainingConfig) -> None:
        super().__init__()
        fitted = preprocessor(data, scale=True).fit(data.train.features).named_transformers_
        numeric = fitted["numeric"] if data.numeric else None
        self.categories: list[list[str]] = (
            [list(map(str, one)) for one in fitted["categorical"].categories_] if data.categorical else []
        )
        empty = np.zeros(0)
        self._fill("medians", numeric["impute"].statistics_ if numeric else empty)
        self._fill("means", numeric["scale"].mean_ if numeric else empty)
        self._fill("scales", numeric["scale"].scale_ if numeric else empty)
        is_regression = data.task == "regression"
        self._fill("target_mean", data.train.target.mean() if is_regression else 0.0)
        self._fill("target_scale", (data.train.target.std() or 1.0) if is_regression else 1.0)
        self.is_regression = is_regression
        widths = [len(data.numeric) + sum(map(len, self.categories)), *config.hidden]
        layers: list[nn.Module] = []
        for width, following in itertools.pairwise(widths):
            layers += [nn.Linear(width, following), nn.ReLU(), nn.Dropout(config.dropout)]
        self.network = nn.Sequential(*layers, nn.Linear(widths[-1], 1 if is_regression else len(data.classes)))

    def _fill(self, name: str, value: Any) -> None:
        self.register_buffer(name, torch.tensor(np.asarray(value), dtype=torch.float32))

    def forward(self, numbers: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        filled = torch.where(torch.isnan(numbers), self.medians, numbers)
        encoded = [(filled - self.means) / self.scales]
        for column, categories in enumerate(self.categories):
            places = torch.arange(len(categories), device=words.device)
            encoded.append((words[:, column : column + 1] == places).to(filled.dtype))
        output: torch.Tensor = self.network(torch.cat(encoded, dim=1))
        return output.squeeze(1) * self.target_scale + self.target_mean if self.is_regression else output


def rows_of(part: Part, data: TabularData, categories: Sequence[Sequence[str]]) -> Rows:
    """A part's features as the model takes them."""
    numbers = part.features[list(data.numeric)].to_numpy(dtype=np.float32, copy=True)
    codes = [
        part.features[name].map({word: code for code, word in enumerate(known)}).fillna(-1).to_numpy(dtype=np.int64)
        for name, known in zip(data.categorical, categories, strict=True)
    ]
    words = np.stack(codes, axis=1) if codes else np.zeros((len(part), 0), dtype=np.int64)
    return torch.from_numpy(numbers), torch.from_numpy(words)


def targets_of(part: Part, data: TabularData) -> torch.Tensor:
    """A part's targets: places in `data.classes`, int64; or values, float32."""
    if data.task == "regression":
        return torch.tensor(part.target, dtype=torch.float32)
    return torch.tensor([data.classes.index(one) for one in part.target])
