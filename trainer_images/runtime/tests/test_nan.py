"""Weights that hold NaN are told from those that are merely large."""

from __future__ import annotations

import numpy as np
import pytest

from trainwright_runtime.nan import holds_nan

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], False), ([1.0, 2.0], False), ([INF, -INF], False), ([3e38, 3e38, -INF], False), ([1.0, NAN], True), ([INF, NAN], True)],
)
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_nan_is_found_and_infinities_are_none(values: list[float], expected: bool, kind: type) -> None:
    with np.errstate(over="ignore"):
        array = np.array(values).astype(kind)
    assert holds_nan(array) is expected


def test_whole_numbers_hold_none() -> None:
    assert not holds_nan(np.arange(5))
