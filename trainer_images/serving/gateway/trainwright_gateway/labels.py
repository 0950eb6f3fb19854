"""Labels that come later than their predictions: what was predicted is kept for a while, and compared when they come."""

from __future__ import annotations

import time as clock
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainwright_gateway.sliding import Sliding

MAX_KEPT = 100_000
"""Predictions kept, over all versions; the oldest go first. 40 MB of single rows."""

Prediction = str | float | None


class Refused(Exception):
    """A label that can't be taken; `result` is one word for counting."""

    def __init__(self, status: int, result: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.result = result


@dataclass
class Tally:
    """Rows: how many were answered, how many of them have labels, and the sum of these' errors: 1 for a wrong class."""

    answered: int = 0
    labelled: int = 0
    error: float = 0.0


@dataclass
class _Kept:
    version: int
    time: float
    predictions: Sequence[Prediction]
    classes: Sequence[str]
    labelled: bool = False


class Labels:
    """Predictions by request, and tallies by version, over `seconds`."""

    def __init__(self, seconds: float, most: int = MAX_KEPT) -> None:
        self.seconds = seconds
        self._most = most
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._tallies: dict[int, Sliding[Tally]] = {}
        self._classes: dict[int, tuple[str, ...]] = {}

    def know(self, classes: dict[int, tuple[str, ...]]) -> None:
        """The versions there are, with their classes: empty for regressions. Others' tallies go."""
        self._classes = classes
        self._tallies = {version: tally for version, tally in self._tallies.items() if version in classes}

    def add(self, name: str, version: int, time: float, predictions: Sequence[Prediction]) -> None:
        """Keep what was answered to a request."""
        sliding = self._tallies.setdefault(version, Sliding(self.seconds, Tally))
        if (tally := sliding.at(time, clock.time())) is not None:
            tally.answered += len(predictions)
        self._kept[name] = _Kept(version, time, predictions, self._classes.get(version, ()))
        self._forget()

    def take(self, name: str, label: Any) -> int:
        """Compare; returns the number of rows. Raises Refused."""
        self._forget()
        if (kept := self._kept.get(name)) is None:
            raise Refused(
                404, "unknown", f"id {name!r} is unknown: not answered here, too long ago, or not watched under high load"
            )
        if kept.labelled:
            raise Refused(409, "duplicate", f"id {name!r} has its label already")
        labels = label if isinstance(label, list) else [label]
        if len(labels) != len(kept.predictions):
            raise Refused(
                400,
                "invalid",
                f"label: the request had {len(kept.predictions)} rows, here are {len(labels)} labels; send one a row",
            )
        compared = [_compared(predicted, one, kept.classes) for predicted, one in zip(kept.predictions, labels, strict=True)]
        kept.labelled = True
        if kept.version in self._tallies and (tally := self._tallies[kept.version].at(kept.time, clock.time())) is not None:
            # A number that wasn't one has no error; a class that wasn't one is wrong.
            usable = [error for error in compared if error is not None]
            tally.labelled += len(usable)
            tally.error += sum(usable)
        return len(labels)

    def found(self, version: int, least: int) -> dict[str, Any] | None:
        """As /sync answers; None without any label, and where fewer rows than `least` were answered."""
        if version not in self._tallies:
            return None
        tallies = list(self._tallies[version].within(clock.time()))
        answered, labelled = sum(one.answered for one in tallies), sum(one.labelled for one in tallies)
        if not labelled or answered < least:
            return None
        error = sum(one.error for one in tallies) / labelled
        metric, value = ("accuracy", 1 - error) if self._classes.get(version) else ("mae", error)
        return {"labelled": labelled, "coverage": labelled / answered, "metric": metric, "value": value}

    def _forget(self) -> None:
        oldest = clock.time() - self.seconds
        while self._kept and (len(self._kept) > self._most or next(iter(self._kept.values())).time < oldest):
            self._kept.popitem(last=False)


def _compared(predicted: Prediction, label: Any, classes: Sequence[str]) -> float | None:
    if classes:
        if isinstance(label, bool) or not isinstance(label, str | int | float):
            raise Refused(400, "invalid", f"label: {label!r:.60} is no class; accepted are {_listed(classes)}")
        name = str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)
        if name not in classes:
            raise Refused(400, "invalid", f"label: {label!r:.60} is no class; accepted are {_listed(classes)}")
        return float(predicted != name)
    if isinstance(label, bool) or not isinstance(label, int | float) or not abs(label) < float("inf"):
        raise Refused(400, "invalid", f"label: {label!r:.60} is no number")
    return abs(predicted - label) if isinstance(predicted, float) else None


def _listed(classes: Sequence[str]) -> str:
    return ", ".join(classes[:10]) + (f" and {len(classes) - 10} more" if len(classes) > 10 else "")
