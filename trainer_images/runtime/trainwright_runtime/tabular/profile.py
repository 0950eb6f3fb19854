"""What a table looked like when a model was trained on it: the fingerprint that tells two versions apart, and a histogram of
each column, against which what a served model is asked later can be compared (drift).
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd

from trainwright_runtime.histogram import of_numbers

MAX_LISTED = 100
"""Words of a categorical column that are counted one by one; the rarest beyond are counted together."""


def fingerprint(table: Any) -> dict[str, Any]:
    """sha256 over names, types and every value, in order of rows."""
    digest = hashlib.sha256()
    for name, column in table.items():
        digest.update(f"{name}\0{column.dtype}\0".encode())
        digest.update(pd.util.hash_pandas_object(column, index=False).to_numpy().tobytes())
    return {"of": "content", "sha256": digest.hexdigest(), "rows": len(table), "columns": table.shape[1]}


def histogram(column: Any) -> dict[str, Any]:
    """Numbers: `edges` (n + 1, ascending) and `counts` (n), about the same number in each bin. Words: `counts` by word, and the
    sum of `others`. Both: how many are `missing`.
    """
    if not pd.api.types.is_numeric_dtype(column):
        counts = column[column != ""].value_counts()
        return {
            "kind": "categorical",
            "counts": {str(word): int(count) for word, count in counts.iloc[:MAX_LISTED].items()},
            "others": int(counts.iloc[MAX_LISTED:].sum()),
            "missing": int((column == "").sum()),
        }
    return of_numbers(column.to_numpy(dtype="float64", na_value=np.nan))
