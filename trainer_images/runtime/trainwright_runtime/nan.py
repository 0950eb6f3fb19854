"""Whether weights that are to be saved hold NaN, without memory for as many answers as there are weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def holds_nan(array: npt.ArrayLike) -> bool:
    """Of numbers of any kind; those that numpy has no name for, such as bfloat16, too."""
    # A sum is quickly had, and NaN if one of them is; it may be NaN of infinities, too.
    with np.errstate(invalid="ignore", over="ignore"):
        is_suspect = np.isnan(np.sum(array, dtype=np.float32))
    return bool(is_suspect) and bool(np.isnan(np.asarray(array, np.float32)).any())
