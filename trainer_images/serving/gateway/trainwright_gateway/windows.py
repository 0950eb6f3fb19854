"""What clients saw of a version: counted in windows, which the operator opens by giving them another id."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainwright_gateway.sync import Sync

BOUNDS = tuple(float(f"{0.0005 * 120_000 ** (step / 59):.3g}") for step in range(60))
"""Of latencies, in seconds: 60 from 0.5 ms to 60 s, each 22 % more than the one before. The same in every gateway."""


@dataclass
class Measures:
    """Counts of one version. `latency` has one more than BOUNDS; the last counts what was slower than all."""

    requests: int = 0
    errors: int = 0
    not_finite: int = 0
    seconds: float = 0.0
    latency: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    def add(self, seconds: float, *, failed: bool, not_finite: bool) -> None:
        self.requests += 1
        self.errors += failed
        self.not_finite += not_finite
        self.seconds += seconds
        self.latency[bisect.bisect_left(BOUNDS, seconds)] += 1


@dataclass
class Window(Measures):
    """The measures of one version since the operator named this window."""

    id: str = ""
    since: float = 0.0

    def facts(self, predictions: Mapping[str, Any] | None) -> dict[str, Any]:
        """As /sync answers."""
        return {
            "id": self.id,
            "since": self.since,
            "requests": self.requests,
            "errors": self.errors,
            "notFinite": self.not_finite,
            "latency": {"bounds": BOUNDS, "counts": self.latency},
            "predictions": predictions,
        }


class Windows:
    """The open windows, and what was counted since the start, by version."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.open: dict[int, Window] = {}
        self.total: dict[int, Measures] = {}

    def follow(self, sync: Sync) -> None:
        """Open the windows that have a new id, at one moment, so that they can be compared."""
        wanted = {one.version: one.window for one in sync.versions}
        if wanted == {version: window.id for version, window in self.open.items()}:
            return
        now = self._clock()
        self.open = {version: self._kept(version, name) or Window(id=name, since=now) for version, name in wanted.items()}

    def _kept(self, version: int, name: str) -> Window | None:
        window = self.open.get(version)
        return window if window is not None and window.id == name else None

    def add(self, version: int, seconds: float, *, failed: bool, not_finite: bool) -> None:
        """What a request came to that this version was chosen for."""
        self.total.setdefault(version, Measures()).add(seconds, failed=failed, not_finite=not_finite)
        if (window := self.open.get(version)) is not None:
            window.add(seconds, failed=failed, not_finite=not_finite)
