"""How far what a served model is asked has moved from what it was trained on, of one feature: statistics of two histograms.

Training's histogram comes from the manifest: for numbers `edges` and `counts`, about the same number of rows in each bin; for
words `counts` by word and how many `others` there were. Both say how many rows had none (`missing`).

- Population stability index, `psi`: the sum of (p - q) ln(p / q) over bins, p being the share served and q that of training, each
  at least 0.0001. Below 0.1 is usually taken for no change, above 0.25 for one that matters.
- Kolmogorov-Smirnov, `ks`: the largest distance of the two cumulative distributions. Here it is looked for at the edges of the
  histogram only, so it is at most that of the raw numbers, and short of it by no more than the largest share of one bin.
  Words have no order, and so no KS.
- Jensen-Shannon, `js`: the distance (the divergence's root) with logarithms to the base 2: 0 is the same, 1 nothing in common.
- `missing`: the share of rows without a value, less that in training.
- `newCategories`: the share of rows with a word that training didn't list, less the share of `others` there.

Numbers beyond the first and last edge count into the first and last bin. PSI and JS are of at most 10 bins (neighbours are put
together), and words of less than 1 % of training are one: by chance alone, PSI comes to (bins - 1)(1/served + 1/trained).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import jensenshannon

LEAST = 1e-4
BINS = 10
RARE = 0.01

Counts = npt.NDArray[np.int64]


class Feature:
    """One feature as training saw it. Served values are counted in `bins` places, see `places`."""

    def __init__(self, histogram: Mapping[str, Any]) -> None:
        """Raises KeyError, TypeError and ValueError for a histogram that is none."""
        self.is_numeric = histogram["kind"] == "numeric"
        self.missing = int(histogram.get("missing", 0))
        if self.is_numeric:
            self.edges = np.asarray(histogram["edges"], dtype=np.float64)
            self.trained = np.asarray(histogram["counts"], dtype=np.int64)
            if len(self.edges) != len(self.trained) + 1 or len(self.trained) == 0 or (np.diff(self.edges) <= 0).any():
                raise ValueError("edges must ascend, and be one more than counts")
        elif histogram["kind"] == "categorical":
            self.words = {str(word): place for place, word in enumerate(histogram["counts"])}
            self.trained = np.asarray([*histogram["counts"].values(), histogram.get("others", 0)], dtype=np.int64)
        else:
            raise ValueError(f"kind is {histogram['kind']!r}")

    @property
    def bins(self) -> int:
        """Places to count in: training's, and one for what is missing."""
        return len(self.trained) + 1

    def places(self, values: list[Any]) -> Counts:
        """How many of the values fall into each place. What isn't a number, or an empty word, is missing."""
        if self.is_numeric:
            numbers = np.array([_number(one) for one in values], dtype=np.float64)
            numbers = numbers[~np.isnan(numbers)]
            at = np.clip(np.searchsorted(self.edges, numbers, side="right") - 1, 0, len(self.trained) - 1)
        else:
            there = [one for one in values if one is not None and one != "" and one == one]  # noqa: PLR0124 - NaN is not itself
            at = np.array([self.words.get(_word(one), len(self.words)) for one in there], dtype=np.int64)
        counts = np.bincount(at, minlength=self.bins).astype(np.int64)
        counts[-1] = len(values) - len(at)
        return counts

    def drift(self, served: Counts) -> dict[str, float | None]:
        """The statistics, of what `places` counted. None where one has no meaning."""
        rows, trained_rows = int(served.sum()), int(self.trained.sum()) + self.missing
        there = served[:-1]
        found: dict[str, float | None] = {"psi": None, "ks": None, "js": None, "missing": None, "newCategories": None}
        if rows and trained_rows:
            found["missing"] = float(served[-1] / rows - self.missing / trained_rows)
        if there.sum() and self.trained.sum():
            order, begins = self._groups()
            p, q = (_shares(np.add.reduceat(counts[order], begins)) for counts in (there, self.trained))
            found["psi"], found["js"] = psi(p, q), float(jensenshannon(p, q, base=2)) if (p != q).any() else 0.0
            if self.is_numeric:
                found["ks"] = float(np.abs(np.cumsum(_shares(there)) - np.cumsum(_shares(self.trained))).max())
            else:
                found["newCategories"] = max(0.0, float(_shares(there)[-1] - _shares(self.trained)[-1]))
        return found

    def _groups(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """An order of the bins, and where in it groups begin that are compared as one."""
        if self.is_numeric:
            order = np.arange(len(self.trained))
            return order, np.unique(np.linspace(0, len(order), min(BINS, len(order)), endpoint=False).astype(np.intp))
        often = self.trained[:-1] >= RARE * self.trained.sum()
        order = np.concatenate([np.flatnonzero(often), np.flatnonzero(~often), [len(self.trained) - 1]]).astype(np.intp)
        return order, np.arange(often.sum() + 1)


def psi(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> float:
    """Of two lists of shares."""
    p, q = np.maximum(p, LEAST), np.maximum(q, LEAST)
    return float(((p - q) * np.log(p / q)).sum())


def _shares(counts: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.asarray(counts / counts.sum(), dtype=np.float64)


def _number(value: Any) -> float:
    if isinstance(value, bool | int | float):
        return float(value) if math.isfinite(value) else math.nan
    return math.nan


def _word(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
