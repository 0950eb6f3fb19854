"""Has a rank stopped taking steps? Its process may be there for ever, and hold its GPUs.

Only ranks that report are judged, by how long their steps take; one that expects silence (a model that is written) isn't.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

SLOWEST_STEPS = 10
BEFORE_FIRST_STEP = 3
"""As many times as long may pass before the first step, which loads, compiles and meets the others."""


def hanging(statuses: Iterable[Mapping[str, Any]], *, now: float, deadline: float) -> tuple[int, str] | None:
    """The rank that has been silent for longest beyond its time, with a sentence about it; None while all is well.

    `statuses` as `status.read_statuses` gives them; `now` in seconds since the epoch, `deadline` in seconds.
    """
    found = []
    for status in statuses:
        if not (heard := status.get("alive")):
            continue
        silent, patience = now - heard, _patience(status, deadline)
        if silent > patience:
            found.append((silent, status["rank"], status.get("step"), patience))
    if not found:
        return None
    silent, rank, step, patience = max(found, key=lambda one: one[0])
    after = f"after step {step}" if step is not None else "before its first step"
    return rank, f"rank {rank} has reported nothing for {silent:.0f} s {after}, longer than {patience:.0f} s"


def _patience(status: Mapping[str, Any], deadline: float) -> float:
    if not status.get("steps"):
        return BEFORE_FIRST_STEP * deadline
    return max(deadline, SLOWEST_STEPS * _slowest(status["stepSeconds"]))


def _slowest(histogram: Mapping[str, Any]) -> float:
    """What 99 of 100 steps took at most, by the bounds of the histogram."""
    wanted, counted = 0.99 * sum(histogram["counts"]), 0
    for bound, count in zip([*histogram["bounds"], math.inf], histogram["counts"], strict=True):
        counted += count
        if counted >= wanted:
            # Beyond the last bound there is only the mean of all to go by.
            return float(bound) if math.isfinite(bound) else float(histogram["sum"]) / counted
    return 0.0
