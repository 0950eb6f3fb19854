"""The values of the gateway's metrics, as they are at a scrape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainwright_gateway import metrics
from trainwright_gateway.checks import State
from trainwright_gateway.gateway import Gateway
from trainwright_gateway.windows import BOUNDS, Measures

EVERY = 4
"""Of the windows' bounds Prometheus gets each fourth: 15 buckets a version."""

CODES = ("2xx", "4xx", "5xx", "none")

_Rows = list[tuple[Sequence[str], Any]]


def values(gateway: Gateway) -> metrics.Values:
    """By name; what isn't known has no series."""
    found: dict[str, _Rows] = {one.name: [] for one in metrics.METRICS}
    _requests(gateway, found)
    _versions(gateway, found)
    _watched(gateway, found)
    if gateway.synced is not None:
        found[metrics.SYNC.name].append(((), gateway.synced))
    found[metrics.FEEDBACK.name] += [((result,), count) for result, count in gateway.feedback.counts.items()]
    return found


def _requests(gateway: Gateway, found: dict[str, _Rows]) -> None:
    # From zero on: Prometheus sees no growth in a series whose first value is its first failure.
    known = dict.fromkeys(gateway.routes.versions, 0) if gateway.routes else {}
    codes = {(version, code): 0 for version in known for code in CODES} | gateway.codes
    found[metrics.REQUESTS.name] += [((str(version), code), count) for (version, code), count in codes.items()]
    for version, total in ({one: Measures() for one in known} | gateway.windows.total).items():
        coarse = [sum(total.latency[at : at + EVERY]) for at in range(0, len(BOUNDS), EVERY)]
        found[metrics.SECONDS.name].append(
            ((str(version),), (BOUNDS[EVERY - 1 :: EVERY], [*coarse, total.latency[-1]], total.seconds))
        )
        found[metrics.NOT_FINITE.name].append(((str(version),), total.not_finite))
    found[metrics.IN_FLIGHT.name] += [((str(version),), count) for version, count in (known | gateway.proxy.in_flight).items()]
    found[metrics.RETRIES.name] += [((str(version),), count) for version, count in (known | gateway.proxy.retries).items()]
    found[metrics.FALLBACKS.name] += [((str(version),), count) for version, count in (known | gateway.proxy.fallbacks).items()]


def _versions(gateway: Gateway, found: dict[str, _Rows]) -> None:
    if (routes := gateway.routes) is None:
        return
    for one in routes.versions.values():
        number = str(one.version)
        targets = gateway.upstreams.of(one)
        up = sum(target.available for target in targets)
        state = gateway.checker.result(one.version).state
        found[metrics.WEIGHT.name].append(((number, one.role), routes.share(one)))
        found[metrics.AVAILABLE.name].append(((number, one.role), float(up > 0)))
        found[metrics.ADDRESSES.name] += [((number, "up"), up), ((number, "down"), len(targets) - up)]
        found[metrics.SMOKE.name] += [((number, each), float(each is state)) for each in State]


def _watched(gateway: Gateway, found: dict[str, _Rows]) -> None:
    report = gateway.monitor.report
    seen = report["seen"]
    unreadable = seen.get("unreadable", 0) + seen.get("without manifest", 0)
    results = {"read": max(0, seen.get("samples", 0) - unreadable), "unreadable": unreadable, "dropped": gateway.monitor.dropped}
    found[metrics.SAMPLES.name] += [((result,), count) for result, count in results.items()]
    for version, labels in report["labels"].items():
        found[metrics.QUALITY.name].append(((version, labels["metric"]), labels["value"]))
        found[metrics.LABELLED.name].append(((version,), labels["labelled"]))
        found[metrics.COVERAGE.name].append(((version,), labels["coverage"]))
    if (monitoring := gateway.seen()["monitoring"]) is None:
        return
    version = str(monitoring["version"])
    found[metrics.WINDOW_SAMPLES.name].append(((version,), monitoring["samples"]))
    if (drift := monitoring["drift"]) is None:
        return
    for name, moved in drift["features"].items():
        found[metrics.DRIFT.name] += [
            ((version, name, statistic), value) for statistic, value in moved.items() if value is not None
        ]
    for metric, value in ((metrics.DRIFT_SCORE, drift["score"]), (metrics.PREDICTION_DRIFT, drift["prediction"])):
        if value is not None:
            found[metric.name].append(((version,), value))
