"""How good a classifier is, all of it derived from its confusion matrix."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """`confusion[i][j]` counts the samples of class i that were taken for class j; `loss` is the mean cross-entropy."""

    loss: float
    confusion: list[list[int]]

    @property
    def accuracy(self) -> float:
        """Share of samples taken for what they are."""
        total = sum(map(sum, self.confusion))
        return sum(row[index] for index, row in enumerate(self.confusion)) / total

    @property
    def f1(self) -> list[float]:
        """Of each class: 2·TP / (2·TP + FP + FN), 0 where there is nothing to divide by."""
        scores = []
        for index, row in enumerate(self.confusion):
            hits = row[index]
            both = sum(row) + sum(other[index] for other in self.confusion)
            scores.append(2 * hits / both if both else 0.0)
        return scores

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes, each counting the same."""
        return sum(self.f1) / len(self.f1)
