"""What gateways say of versions in answer to a sync: read with care, since it comes over the network, and added up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_CLASSES = 1000


@dataclass(frozen=True, kw_only=True)
class Window:
    """What clients asked of one version since a moment. `bounds` (seconds) and `counts` (one more) are of latencies.

    `predictions`: how many answers there were of each class, or in each bin of a number.
    """

    requests: int = 0
    errors: int = 0
    not_finite: int = 0
    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    predictions: Mapping[str, int] = field(default_factory=dict)

    def plus(self, other: Window) -> Window:
        """Both together. Latencies in other bins than these are left out."""
        same = other.bounds == self.bounds or not self.bounds
        counts = other.counts if not self.bounds else self.counts
        if same and self.bounds:
            counts = tuple(mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True))
        return Window(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            not_finite=self.not_finite + other.not_finite,
            bounds=self.bounds or other.bounds,
            counts=counts,
            predictions={
                name: self.predictions.get(name, 0) + other.predictions.get(name, 0)
                for name in (*self.predictions, *(name for name in other.predictions if name not in self.predictions))
            },
        )

    def quantile(self, share: float) -> float | None:
        """The latency (seconds) that this share of answers stayed below, by linear interpolation in its bin."""
        total = sum(self.counts)
        if not total:
            return None
        wanted, seen = share * total, 0
        for index, count in enumerate(self.counts):
            if seen + count >= wanted and count:
                low = self.bounds[index - 1] if index else 0.0
                high = self.bounds[index] if index < len(self.bounds) else low
                return low + (high - low) * (wanted - seen) / count
            seen += count
        return self.bounds[-1]


@dataclass(frozen=True, kw_only=True)
class VersionReport:
    """One gateway's word on one version. `smoke`: waiting, running, passed or failed."""

    available: bool
    warmed: bool
    smoke: str
    why: str = ""
    window_id: str = ""
    window: Window = field(default_factory=Window)


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Largest PSI of a feature, which, over how many rows; those that drift most; that of the answers."""

    score: float
    feature: str
    samples: int
    features: Mapping[str, float]
    prediction: float | None


@dataclass(frozen=True, kw_only=True)
class Labels:
    metric: str
    value: float
    labelled: int
    coverage: float


@dataclass(frozen=True, kw_only=True)
class GatewayReport:
    """One gateway's answer. `monitored`: the version that drift and labels are of."""

    instance: str
    versions: Mapping[int, VersionReport]
    monitored: int | None = None
    drift: Drift | None = None
    labels: Labels | None = None


def read_report(raw: Any) -> GatewayReport | None:
    """The report in a gateway's answer; None for what is none."""
    if not isinstance(raw, dict) or not isinstance(raw.get("versions"), dict):
        return None
    try:
        watched = raw.get("monitoring") or {}
        return GatewayReport(
            instance=str(raw.get("instance", "")),
            versions={int(number): _version(one) for number, one in raw["versions"].items()},
            monitored=watched.get("version"),
            drift=_drift(watched),
            labels=_labels(watched.get("labels")),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _version(raw: dict[str, Any]) -> VersionReport:
    smoke = raw.get("smoke") or {}
    window = raw.get("window") or {}
    latency = window.get("latency") or {}
    bounds, counts = tuple(map(float, latency.get("bounds", ()))), tuple(map(int, latency.get("counts", ())))
    if bounds and len(counts) != len(bounds) + 1:
        raise ValueError("latency counts don't fit their bounds")
    return VersionReport(
        available=bool(raw.get("available")),
        warmed=bool(raw.get("warmed")),
        smoke=str(smoke.get("state", "waiting")),
        why=str(smoke.get("message") or "")
        if smoke.get("state") == "failed"
        else str(raw.get("why") or smoke.get("message") or ""),
        window_id=str(window.get("id", "")),
        window=Window(
            requests=int(window.get("requests", 0)),
            errors=int(window.get("errors", 0)),
            not_finite=int(window.get("notFinite", 0)),
            bounds=bounds,
            counts=counts,
            predictions=_predictions(window.get("predictions")),
        ),
    )


def _predictions(raw: Any) -> dict[str, int]:
    if not raw:
        return {}
    counts = raw["counts"]
    named = counts.items() if isinstance(counts, dict) else enumerate(counts)
    return {str(name): int(count) for name, count in list(named)[:MAX_CLASSES]}


def _drift(raw: dict[str, Any]) -> Drift | None:
    told = raw.get("drift")
    if not told:
        return None
    features = {str(name): float(one["psi"]) for name, one in (told.get("features") or {}).items()}
    prediction = told.get("prediction")
    return Drift(
        score=_finite(told["score"]),
        feature=str(told["feature"]),
        samples=int(raw.get("samples", 0)),
        features=features,
        prediction=None if prediction is None else _finite(prediction),
    )


def _labels(raw: Any) -> Labels | None:
    if not raw:
        return None
    value = _finite(raw["value"])
    return Labels(metric=str(raw["metric"]), value=value, labelled=int(raw["labelled"]), coverage=_finite(raw["coverage"]))


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not a finite number")
    return number


def together(reports: Iterable[GatewayReport], version: int, window: str) -> Window | None:
    """What all gateways saw of a version in a window; None when none of them has that window."""
    found = [one.window for report in reports if (one := report.versions.get(version)) is not None and one.window_id == window]
    if not found:
        return None
    total = Window()
    for seen in found:
        total = total.plus(seen)
    return total
