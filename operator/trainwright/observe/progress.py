"""What a worker says of its training: the JSON of `/progress`, read with care, since user code writes it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

MAX_METRICS = 32
MAX_NAME = 128


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """Counts of steps and epochs, seconds, samples per second; None for what was not said. `time` is seconds since the epoch."""

    step: int | None = None
    total_steps: int | None = None
    epoch: int | None = None
    samples_per_second: float | None = None
    eta_seconds: float | None = None
    resumed_from: int | None = None
    straggler: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    main_metric: str | None = None
    checkpoint_step: int | None = None
    checkpoint_time: float | None = None
    checkpoint_path: str | None = None

    @property
    def percent(self) -> float | None:
        if self.step is None or not self.total_steps:
            return None
        return round(min(100.0, 100.0 * self.step / self.total_steps), 1)

    @property
    def summary(self) -> str | None:
        """`120/450 (26%)`, or the step alone when the end is not known."""
        if self.step is None:
            return None
        return str(self.step) if self.percent is None else f"{self.step}/{self.total_steps} ({int(self.percent)}%)"

    @property
    def main(self) -> str | None:
        """The metric that matters most, as `val_accuracy=0.971`."""
        name = self.main_metric if self.main_metric in self.metrics else next(iter(self.metrics), None)
        return None if name is None else f"{name}={self.metrics[name]:.4g}"


def read_progress(raw: Any) -> TrainingProgress | None:
    """Progress out of a worker's JSON: wrong types and numbers that aren't finite are left out. None when it is no object."""
    if not isinstance(raw, dict):
        return None
    saved, metrics = _mapping(raw.get("checkpoint")), _mapping(raw.get("metrics"))
    numbers = {str(name)[:MAX_NAME]: number for name, value in metrics.items() if (number := _number(value)) is not None}
    main = raw.get("mainMetric")
    return TrainingProgress(
        step=_count(raw.get("step")),
        total_steps=_count(raw.get("totalSteps")),
        epoch=_count(raw.get("epoch")),
        samples_per_second=_rounded(raw.get("samplesPerSecond")),
        eta_seconds=_rounded(raw.get("etaSeconds")),
        resumed_from=_count(raw.get("resumedFrom")),
        straggler=_straggler(_mapping(raw.get("straggler"))),
        metrics=dict(list(numbers.items())[:MAX_METRICS]),
        main_metric=main if isinstance(main, str) else None,
        checkpoint_step=_count(saved.get("step")),
        checkpoint_time=_number(saved.get("time")),
        checkpoint_path=str(saved["path"])[:1024] if isinstance(saved.get("path"), str) else None,
    )


def read_final_words(message: str) -> TrainingProgress | None:
    """From a termination message: the last progress of a worker that succeeded, the newest checkpoint of any other."""
    try:
        said = json.loads(message)
    except ValueError:
        return None
    if not isinstance(said, dict):
        return None
    return read_progress({"checkpoint": said["checkpoint"]} if "checkpoint" in said else said.get("progress"))


def _straggler(raw: dict[Any, Any]) -> str | None:
    rank, ratio = _count(raw.get("rank")), _number(raw.get("ratio"))
    if rank is None or ratio is None:
        return None
    return f"rank {rank} takes {ratio:.1f} times as long as the others for its part of a step"


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _rounded(value: Any) -> float | None:
    number = _number(value)
    return None if number is None else round(number, 1)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
