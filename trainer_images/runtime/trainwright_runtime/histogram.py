"""How the numbers of one feature were spread in training: what drift is later measured against."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 20


def of_numbers(values: npt.ArrayLike) -> dict[str, Any]:
    """`edges` (n + 1, ascending) and `counts` (n), about the same number in each bin; how many are `missing` (NaN)."""
    column = np.asarray(values, dtype="float64")
    there = column[~np.isnan(column)]
    # Bins of equal width would put all but a handful of rows into one as soon as there is an outlier.
    edges = np.unique(np.quantile(there, np.linspace(0, 1, BINS + 1))) if len(there) else np.array([0.0, 1.0])
    if len(edges) == 1:
        edges = np.array([edges[0] - 0.5, edges[0] + 0.5])
    return {
        "kind": "numeric",
        "edges": [float(edge) for edge in edges],
        "counts": [int(count) for count in np.histogram(there, edges)[0]],
        "missing": int(len(column) - len(there)),
    }
