"""What the ranks of a pod leave in their status files (`progress.py` writes them), read for the port and for the last words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROGRESS_KEYS = (
    "step",
    "totalSteps",
    "epoch",
    "samplesPerSecond",
    "etaSeconds",
    "resumedFrom",
    "metrics",
    "mainMetric",
    "checkpoint",
)


def read_statuses(directory: Path) -> list[dict[str, Any]]:
    """What the ranks of this pod last reported, lowest rank first."""
    statuses = [json.loads(path.read_text()) for path in directory.glob("rank-*.json")]
    return sorted(statuses, key=lambda status: int(status["rank"]))


def progress(statuses: list[dict[str, Any]]) -> Mapping[str, Any]:
    """The body of /progress: the lowest rank's view."""
    if not statuses:
        return {}
    status = statuses[0]
    return {key: status[key] for key in PROGRESS_KEYS if key in status} | {"time": status["heartbeat"]}
