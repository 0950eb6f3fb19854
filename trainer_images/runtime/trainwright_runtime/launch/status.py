"""What the ranks of a pod leave in their status files (`progress.py` writes them), read for the port and for the last words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MIRROR = "mirror.json"
"""The status file of the process that keeps a workspace in object storage (`mirror.py`)."""

PROGRESS_KEYS = (
    "step",
    "totalSteps",
    "epoch",
    "samplesPerSecond",
    "etaSeconds",
    "resumedFrom",
    "startup",
    "straggler",
    "metrics",
    "mainMetric",
    "checkpoint",
)


def read_statuses(directory: Path) -> list[dict[str, Any]]:
    """What the ranks of this pod last reported, lowest rank first."""
    statuses = sorted((json.loads(path.read_text()) for path in directory.glob("rank-*.json")), key=_rank)
    if (sent := read_mirror(directory)) is not None:
        # A checkpoint on a disk that goes with its pod is none to come back to.
        for status in statuses:
            status.pop("checkpoint", None)
            if sent["checkpoint"] is not None:
                status["checkpoint"] = sent["checkpoint"]
    return statuses


def read_mirror(directory: Path) -> Mapping[str, Any] | None:
    """What has arrived in object storage; None where the workspace is a disk."""
    try:
        found: dict[str, Any] = json.loads((directory / MIRROR).read_text())
    except FileNotFoundError:
        return None
    return found


def _rank(status: Mapping[str, Any]) -> int:
    return int(status["rank"])


def progress(statuses: list[dict[str, Any]]) -> Mapping[str, Any]:
    """The body of /progress: the lowest rank's view."""
    if not statuses:
        return {}
    status = statuses[0]
    return {key: status[key] for key in PROGRESS_KEYS if key in status} | {"time": status["heartbeat"]}
