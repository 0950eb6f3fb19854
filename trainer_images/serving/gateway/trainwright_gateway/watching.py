"""What is seen in inputs and outputs: drift of the live version, predictions of each version's window, labels.

All of it lives in the watcher's process (`watcher.py`), in memory that neither traffic nor time makes grow.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from trainwright_gateway import features, manifest, tensors
from trainwright_gateway.drift import Counts, Feature
from trainwright_gateway.labels import Labels
from trainwright_gateway.manifest import BadRecord, Manifest
from trainwright_gateway.servers import BY_NAME
from trainwright_gateway.sliding import Sliding
from trainwright_gateway.sync import Sync

PENDING = 256
"""Rows that are collected before they are counted: numpy counts many as fast as one."""
MAX_CLASSES = 1000
_BAD = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What a client's body can make of numpy and of us."""


class _Counted:
    """Values of one feature over a window."""

    def __init__(self, feature: Feature, seconds: float) -> None:
        self.feature = feature
        self._sliding: Sliding[Counts] = Sliding(seconds, lambda: np.zeros(feature.bins, dtype=np.int64))
        self._pending: list[Any] = []

    def add(self, values: list[Any]) -> None:
        self._pending += values
        if len(self._pending) >= PENDING:
            self.counts()

    def counts(self) -> Counts:
        now = time.time()
        if self._pending and (part := self._sliding.at(now, now)) is not None:
            part += self.feature.places(self._pending)
            self._pending = []
        total = np.zeros(self.feature.bins, dtype=np.int64)
        for part in self._sliding.within(now):
            total += part
        return total


class Drift:
    """The live version's inputs and answers beside those of its training."""

    def __init__(self, live: Manifest, seconds: float) -> None:
        self._features = {name: _Counted(one, seconds) for name, one in _readable(live.features).items()}
        predictions = _readable({"": live.predictions} if live.predictions else {})
        self._predictions = _Counted(predictions[""], seconds) if predictions else None
        self._rows: Sliding[Counter[str]] = Sliding(seconds, Counter)

    def add(self, found: dict[str, list[Any]], predictions: list[Any]) -> None:
        """One request's features by name, a value a row, and what was predicted."""
        for name, values in found.items():
            if name in self._features:
                self._features[name].add(values)
        if self._predictions is not None:
            self._predictions.add(predictions)
        now = time.time()
        if (rows := self._rows.at(now, now)) is not None:
            rows["rows"] += max(len(predictions), *(len(values) for values in found.values()), 0)

    @property
    def samples(self) -> int:
        return sum(rows["rows"] for rows in self._rows.within(time.time()))

    def found(self, top: int) -> dict[str, Any]:
        """As /sync answers: the features that have moved most, and predictions."""
        moved = {name: one.feature.drift(one.counts()) for name, one in self._features.items()}
        order = sorted((name for name in moved if moved[name]["psi"] is not None), key=lambda name: -(moved[name]["psi"] or 0.0))
        prediction = self._predictions.feature.drift(self._predictions.counts()) if self._predictions else {}
        return {
            "score": moved[order[0]]["psi"] if order else None,
            "feature": order[0] if order else None,
            "features": {name: moved[name] for name in order[:top]},
            "prediction": prediction.get("psi"),
        }


class Predictions:
    """What a version answered since its window was opened."""

    def __init__(self, window: str, histogram: Feature | None) -> None:
        self.window = window
        self._histogram = histogram if histogram is not None and histogram.is_numeric else None
        self._classes: Counter[str] = Counter()
        self._counts = np.zeros(self._histogram.bins if self._histogram else 0, dtype=np.int64)

    def add(self, predictions: list[Any]) -> None:
        if self._histogram is not None:
            self._counts += self._histogram.places(predictions)
            return
        for one in predictions:
            if isinstance(one, str) and (one in self._classes or len(self._classes) < MAX_CLASSES):
                self._classes[one] += 1

    def facts(self) -> dict[str, Any] | None:
        if self._histogram is not None:
            return {"kind": "numeric", "edges": self._histogram.edges.tolist(), "counts": self._counts[:-1].tolist()}
        return {"kind": "categorical", "counts": dict(self._classes)} if self._classes else None


class Watching:
    """Everything that is watched, of the versions of the newest sync."""

    def __init__(self, server: str, models: Path) -> None:
        self._server = BY_NAME[server]
        self._models = models
        self._sync: Sync | None = None
        self._manifests: dict[tuple[int, str], Manifest] = {}
        self._drift: tuple[object, Drift] | None = None
        self._windows: dict[int, Predictions] = {}
        self._labels: Labels | None = None
        self.seen: Counter[str] = Counter()
        self.feedback: Counter[str] = Counter()

    def follow(self, sync: Sync) -> None:
        """Forget what isn't named any more; begin what is new."""
        if (
            self._labels is None
            or self._sync is None
            or self._sync.monitoring.label_window_seconds != sync.monitoring.label_window_seconds
        ):
            self._labels = Labels(sync.monitoring.label_window_seconds)
        self._sync = sync
        known = {(one.version, one.digest) for one in sync.versions}
        self._manifests = {key: one for key, one in self._manifests.items() if key in known}
        self._windows = {one.version: self._windows[one.version] for one in sync.versions if one.version in self._windows}
        self._prepare()

    def sample(self, version: int, window: str, name: str, when: float, asked: bytes | None, answered: bytes) -> None:
        """One prediction; `asked` where the inputs are to be looked into too."""
        self.seen["samples"] += 1
        about = self._manifest(version)
        if self._sync is None or self._labels is None or about is None:
            self.seen["without manifest"] += 1
            return
        try:
            predictions = tensors.predictions(self._server.outputs(answered, about), about)
        except _BAD:
            self.seen["unreadable"] += 1
            return
        if version not in self._windows or self._windows[version].window != window:
            self._windows[version] = Predictions(window, self._live_predictions())
        self._windows[version].add(predictions)
        self._labels.add(name, version, when, predictions)
        live = self._sync.live
        if asked is None or self._drift is None or live is None or live.version != version:
            return
        try:
            found = features.of(self._server.inputs(asked, about), about)
        except _BAD:
            self.seen["unreadable"] += 1
            return
        self._drift[1].add(found, list(predictions))

    def label(self, name: str, label: Any) -> int:
        """Returns how many rows it was for. Raises labels.Refused."""
        if self._labels is None:
            self._labels = Labels(3600)
        return self._labels.take(name, label)

    def report(self) -> dict[str, Any]:
        """What /sync and /metrics tell of it."""
        self._prepare()
        sync, labels = self._sync, self._labels
        if sync is None or labels is None:
            return {"windows": {}, "monitoring": None, "labels": {}, "seen": dict(self.seen)}
        found = {str(one.version): labels.found(one.version, sync.monitoring.min_samples) for one in sync.versions}
        return {
            "windows": {str(version): {"id": one.window, "predictions": one.facts()} for version, one in self._windows.items()},
            "monitoring": self._monitoring(sync, found),
            "labels": {version: one for version, one in found.items() if one is not None},
            "seen": dict(self.seen),
        }

    def _monitoring(self, sync: Sync, labels: dict[str, Any]) -> dict[str, Any] | None:
        if sync.live is None:
            return None
        drift = self._drift[1] if self._drift else None
        samples = drift.samples if drift else 0
        enough = samples >= sync.monitoring.min_samples
        return {
            "version": sync.live.version,
            "samples": samples,
            "drift": drift.found(sync.monitoring.top_features) if drift and enough else None,
            "labels": labels.get(str(sync.live.version)),
        }

    def _prepare(self) -> None:
        """Read manifests that aren't known yet. One that can't be read is tried again at the next report."""
        if (sync := self._sync) is None:
            return
        for one in sync.versions:
            if (one.version, one.digest) not in self._manifests:
                try:
                    self._manifests[one.version, one.digest] = manifest.read_manifest(self._models, one.version, one.digest)
                except (OSError, BadRecord):
                    continue
        if self._labels is not None:
            self._labels.know({one.version: found.classes for one in sync.versions if (found := self._manifest(one.version))})
        live = sync.live
        about = self._manifest(live.version) if live else None
        if live is None or about is None:
            self._drift = None
            return
        of = (live.version, live.digest, sync.monitoring.window_seconds)
        if self._drift is None or self._drift[0] != of:
            self._drift = (of, Drift(about, sync.monitoring.window_seconds))

    def _manifest(self, version: int) -> Manifest | None:
        named = next((one for one in self._sync.versions if one.version == version), None) if self._sync else None
        return self._manifests.get((version, named.digest)) if named else None

    def _live_predictions(self) -> Feature | None:
        live = self._sync.live if self._sync else None
        about = self._manifest(live.version) if live else None
        return _readable({"": about.predictions}).get("") if about and about.predictions else None


def _readable(histograms: Any) -> dict[str, Feature]:
    """Without those that this gateway can't read: they are not watched."""
    found = {}
    for name, histogram in histograms.items():
        try:
            found[name] = Feature(histogram)
        except _BAD:
            continue
    return found
