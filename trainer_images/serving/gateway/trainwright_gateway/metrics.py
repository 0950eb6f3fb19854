"""Every metric of the gateway, in one table, and the page that Prometheus reads, made of what the gateway knows at that moment.

Imports nothing but prometheus_client: the reference (docs/metrics.md) is made of this table where no gateway is installed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, kw_only=True)
class GatewayMetric:
    """One row of the table. `labels` come after `namespace` and `deployment`, which all have."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    own: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        return ("namespace", "deployment", *self.own)


REQUESTS = GatewayMetric(
    name="trainwright_serving_requests_total",
    kind="counter",
    help="Predictions that clients asked for, by the version chosen and the class of the answer's code: 2xx to 5xx, or none.",
    own=("version", "code"),
)
SECONDS = GatewayMetric(
    name="trainwright_serving_request_seconds",
    kind="histogram",
    help="Time from a whole request to a whole answer, by version, retries included.",
    own=("version",),
)
IN_FLIGHT = GatewayMetric(
    name="trainwright_serving_requests_in_flight",
    kind="gauge",
    help="Requests that wait for a version's answer.",
    own=("version",),
)
RETRIES = GatewayMetric(
    name="trainwright_serving_retries_total",
    kind="counter",
    help="Times that a request was sent once more, to the same version.",
    own=("version",),
)
FALLBACKS = GatewayMetric(
    name="trainwright_serving_fallbacks_total",
    kind="counter",
    help="Requests that the live version answered, since the version chosen did not.",
    own=("version",),
)
NOT_FINITE = GatewayMetric(
    name="trainwright_serving_not_finite_total",
    kind="counter",
    help="Answers with NaN or infinity in their outputs.",
    own=("version",),
)
WEIGHT = GatewayMetric(
    name="trainwright_serving_weight_ratio",
    kind="gauge",
    help="A version's share of requests.",
    own=("version", "role"),
)
AVAILABLE = GatewayMetric(
    name="trainwright_serving_version_available",
    kind="gauge",
    help="1 where a server says that it has the version, 0 where none does.",
    own=("version", "role"),
)
ADDRESSES = GatewayMetric(
    name="trainwright_serving_addresses",
    kind="gauge",
    help="Addresses of a version, by whether they answer: up or down.",
    own=("version", "state"),
)
SMOKE = GatewayMetric(
    name="trainwright_serving_smoke_state",
    kind="gauge",
    help="1 for the state that the check of a version by its samples is in: waiting, running, passed or failed.",
    own=("version", "state"),
)
SYNC = GatewayMetric(
    name="trainwright_serving_sync_timestamp_seconds",
    kind="gauge",
    help="When the operator last told the gateway what to do.",
)
SAMPLES = GatewayMetric(
    name="trainwright_serving_samples_total",
    kind="counter",
    help="Predictions that were looked into, by result: read, unreadable, or dropped since there were too many.",
    own=("result",),
)
WINDOW_SAMPLES = GatewayMetric(
    name="trainwright_serving_window_samples",
    kind="gauge",
    help="Rows of the live version in the window that drift is measured in.",
    own=("version",),
)
DRIFT = GatewayMetric(
    name="trainwright_serving_feature_drift",
    kind="gauge",
    help="How far a feature has moved from training, by statistic: psi, ks, js, missing or newCategories. Those that moved most.",
    own=("version", "feature", "statistic"),
)
DRIFT_SCORE = GatewayMetric(
    name="trainwright_serving_drift_score",
    kind="gauge",
    help="The largest population stability index of all features.",
    own=("version",),
)
PREDICTION_DRIFT = GatewayMetric(
    name="trainwright_serving_prediction_drift",
    kind="gauge",
    help="Population stability index of the predictions, against those of the test part.",
    own=("version",),
)
QUALITY = GatewayMetric(
    name="trainwright_serving_quality",
    kind="gauge",
    help="Accuracy, or mae (mean absolute error), of the predictions that have labels.",
    own=("version", "metric"),
)
LABELLED = GatewayMetric(
    name="trainwright_serving_labelled_rows",
    kind="gauge",
    help="Answered rows that have labels, in the time that labels are waited for.",
    own=("version",),
)
COVERAGE = GatewayMetric(
    name="trainwright_serving_label_coverage_ratio",
    kind="gauge",
    help="Share of answered rows that have labels.",
    own=("version",),
)
FEEDBACK = GatewayMetric(
    name="trainwright_serving_feedback_total",
    kind="counter",
    help="Labels that came, by result: accepted, late, duplicate, unknown, invalid, forwarded, or failed.",
    own=("result",),
)

METRICS = (
    REQUESTS, SECONDS, IN_FLIGHT, RETRIES, FALLBACKS, NOT_FINITE, WEIGHT, AVAILABLE, ADDRESSES, SMOKE, SYNC, SAMPLES,
    WINDOW_SAMPLES, DRIFT, DRIFT_SCORE, PREDICTION_DRIFT, QUALITY, LABELLED, COVERAGE, FEEDBACK,
)  # fmt: skip

Values = Mapping[str, Iterable[tuple[Sequence[str], Any]]]
"""By a metric's name: own labels and value. Of a histogram the value is bounds, counts (one more) and sum."""


class Page:
    """What /metrics answers. `read` gives the values of all metrics that have any."""

    def __init__(self, namespace: str, deployment: str, read: Callable[[], Values]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Rows((namespace, deployment), read))
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        return generate_latest(self._registry)


class _Rows(Collector):
    def __init__(self, first: tuple[str, str], read: Callable[[], Values]) -> None:
        self._first = first
        self._read = read

    def collect(self) -> Iterator[Metric]:
        values = self._read()
        for metric in METRICS:
            yield _family(metric, [((*self._first, *own), value) for own, value in values.get(metric.name, ())])


def _family(metric: GatewayMetric, rows: list[tuple[tuple[str, ...], Any]]) -> Metric:
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, (bounds, counts, total) in rows:
            running = list(itertools.accumulate(counts))
            buckets = [(str(bound), count) for bound, count in zip([*bounds, "+Inf"], running, strict=True)]
            histogram.add_metric(labels, buckets, total)
        return histogram
    family = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(
        metric.name, metric.help, labels=metric.labels
    )
    for labels, value in rows:
        family.add_metric(labels, value)
    return family
