"""How good forecasts are, in the unit of the target, and beside the forecast that needs no model."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trainwright_runtime.exits import Exit, leave
from trainwright_runtime.histogram import of_numbers
from trainwright_runtime.series.data import Floats, Places, SeriesData

MAIN_METRIC = "skill"
"""1 − RMSE / RMSE of the naive forecast: 0 is as good as that, 1 perfect."""
MAX_POINTS = 300


def measured(said: npt.NDArray[Any], starts: Places, data: SeriesData) -> dict[str, Any]:
    """Metrics over all forecasts of a part, and by how far ahead they are. `said`: (forecasts, horizon).

    Ends the process with code 64 when they aren't finite: the same seed would bring every other attempt there too.
    """
    if not np.isfinite(said).all():
        leave(Exit.INVALID_CONFIG, "the network's forecasts are NaN or infinite: it has diverged; try a lower 'learning_rate'")
    truth = data.truth(starts).astype("float64")
    off, naive = said - truth, data.naive(starts) - truth
    rmse, naive_rmse = _rms(off), _rms(naive)
    return {
        "kind": "forecast",
        "rows": len(starts),
        "metrics": {
            # A naive forecast that is always right can't be beaten.
            MAIN_METRIC: 1 - rmse / naive_rmse if naive_rmse else 0.0,
            "rmse": rmse,
            "mae": float(np.abs(off).mean()),
            "naive_rmse": naive_rmse,
            "naive_mae": float(np.abs(naive).mean()),
        },
        "byStep": [
            {
                "rows ahead": step + 1,
                "RMSE": _rms(off[:, step]),
                "MAE": float(np.abs(off[:, step]).mean()),
                "naive RMSE": _rms(naive[:, step]),
            }
            for step in range(data.horizon)
        ],
        "predictions": of_numbers(said.ravel()),
    }


def lines(said: Floats, starts: Places, data: SeriesData) -> dict[str, list[list[float]]]:
    """The last forecasts of the first series, each at its farthest row, beside what came: points (row, value)."""
    rows = starts + data.window + data.horizon - 1
    # Where rows no longer follow each other another series begins.
    ends = np.flatnonzero(np.diff(rows) != 1)
    chosen = slice(max(0, (stop := int(ends[0]) + 1 if len(ends) else len(rows)) - MAX_POINTS), stop)
    at = rows[chosen] - rows[chosen][0] + 1
    drawn = {"truth": data.truth(starts), "forecast": said, "naive": data.naive(starts)}
    return {name: [[int(x), float(y)] for x, y in zip(at, many[chosen, -1], strict=True)] for name, many in drawn.items()}


def _rms(off: Any) -> float:
    return float(np.sqrt(np.square(off).mean()))
