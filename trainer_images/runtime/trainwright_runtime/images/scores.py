"""How good a classifier is, from counts over samples: they add up over batches and over ranks, however many samples there are."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from trainwright_runtime.gang import Gang

Counts = npt.NDArray[np.float64]

MAX_ODDS = 20.0
"""Log odds beyond which a model's answers are not told apart."""
BINS = 400
"""Of log odds from -MAX_ODDS to MAX_ODDS, a tenth each: fine where a probability is near 0 or 1, where most of them are."""
ODDS: Counts = (np.arange(BINS) + 0.5) / BINS * 2 * MAX_ODDS - MAX_ODDS
"""The middle of each bin."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """`confusion[i][j]` counts the samples of class i that were taken for class j; `loss` is the mean cross-entropy.

    `odds[i][0]` and `odds[i][1]` count in `BINS` bins the samples that are not and that are of class i, by the log odds that
    the model gave to that class.
    """

    loss: float
    confusion: list[list[int]]
    odds: Counts

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


class Tally:
    """What one rank has seen of a part of the data."""

    def __init__(self, classes: int) -> None:
        self._loss = 0.0
        self._confusion: Counts = np.zeros((classes, classes))
        self._odds: Counts = np.zeros((classes, 2, BINS))

    def add(self, logits: Any, labels: Any) -> None:
        """A batch: `logits` shaped (samples, classes), `labels` the numbers of the true classes."""
        logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
        rows, classes = np.arange(len(labels)), np.arange(logits.shape[1])
        # A model that has diverged answers with infinities and NaN: its loss is NaN, and its odds are the lowest.
        with np.errstate(all="ignore"):
            shifted = logits - logits.max(axis=1, keepdims=True)
            log_shares = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            odds = log_shares - np.log(-np.expm1(log_shares))
        self._loss -= float(log_shares[rows, labels].sum())
        np.add.at(self._confusion, (labels, logits.argmax(axis=1)), 1)
        places = np.nan_to_num(odds, nan=-MAX_ODDS, posinf=MAX_ODDS, neginf=-MAX_ODDS) + MAX_ODDS
        bins = np.clip(places / (2 * MAX_ODDS) * BINS, 0, BINS - 1).astype(np.int64)
        is_class = (labels[:, np.newaxis] == classes).astype(np.int64)
        np.add.at(self._odds, (classes, is_class, bins), 1)

    def scores(self, gang: Gang) -> Scores:
        """Over what all ranks have seen; every rank calls it, and has the same."""
        parts = [np.array([self._loss]), self._confusion.ravel(), self._odds.ravel()]
        loss, confusion, odds = np.split(gang.total(np.concatenate(parts)), [1, 1 + self._confusion.size])
        samples = confusion.sum()
        return Scores(
            loss=float(loss[0] / samples),
            confusion=confusion.reshape(self._confusion.shape).astype(int).tolist(),
            odds=odds.reshape(self._odds.shape),
        )
