"""How the values of one feature, or a model's answers, were spread in training: what drift is later measured against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 20


def of_numbers(values: npt.ArrayLike) -> dict[str, Any]:
    """`edges` (n + 1, ascending) and `counts` (n); how many are `missing` (NaN).

    About the same number in each bin: bins of equal width would put all but a handful of rows into one as soon as there is an
    outlier. Where there are few different values, each has a bin of its own.
    """
    column = np.asarray(values, dtype="float64")
    there = column[~np.isnan(column)]
    different = np.unique(there)
    if len(different) == 0:
        edges = np.array([0.0, 1.0])
    elif len(different) <= BINS:
        middles = (different[:-1] + different[1:]) / 2
        edges = np.array([different[0] - 0.5, *middles, different[-1] + 0.5])
    else:
        edges = np.unique(np.quantile(there, np.linspace(0, 1, BINS + 1)))
    return {
        "kind": "numeric",
        "edges": [float(edge) for edge in edges],
        "counts": [int(count) for count in np.histogram(there, edges)[0]],
        "missing": int(len(column) - len(there)),
    }


def of_classes(values: Iterable[str], classes: Sequence[str]) -> dict[str, Any]:
    """`counts` of every class, also of those that don't occur."""
    found = Counter(values)
    return {"kind": "categorical", "counts": {name: found[name] for name in classes}, "others": 0, "missing": 0}
