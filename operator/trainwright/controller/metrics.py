"""The operator's own metrics: one table, one registry. What is said of single jobs is in `job_series.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, kw_only=True)
class Declared:
    """One row of a table of metrics. `name` is the whole name of its series, but for a histogram's endings."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LONG = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)

RECONCILES = Declared(
    name="trainwright_reconcile_total",
    kind="counter",
    help="Passes over a job, by result: ok, conflict or error.",
    labels=("result",),
)
RECONCILE_SECONDS = Declared(
    name="trainwright_reconcile_seconds", kind="histogram", help="Time of a pass over a job.", buckets=_SECONDS
)
QUEUE_DEPTH = Declared(name="trainwright_queue_depth", kind="gauge", help="Jobs that are due for a pass and wait.")
QUEUE_SECONDS = Declared(
    name="trainwright_queue_wait_seconds", kind="histogram", help="Time that a job waited for its pass.", buckets=_SECONDS
)
REQUESTS = Declared(
    name="trainwright_api_requests_total",
    kind="counter",
    help="Requests to the API server, by verb, resource and HTTP code (0: no answer).",
    labels=("verb", "resource", "code"),
)
START_SECONDS = Declared(
    name="trainwright_job_start_seconds",
    kind="histogram",
    help="Time from a job's creation until all its workers first ran.",
    buckets=_LONG,
)
POLLS = Declared(
    name="trainwright_progress_polls_total",
    kind="counter",
    help="Questions to worker 0 of jobs, by result: answered or failed.",
    labels=("result",),
)
SYNCS = Declared(
    name="trainwright_gateway_syncs_total",
    kind="counter",
    help="Syncs with gateways of model deployments, by result: answered or failed.",
    labels=("result",),
)
WATCH_AGE = Declared(
    name="trainwright_watch_age_seconds",
    kind="gauge",
    help="Time since the API server last said anything about a kind of object: an event, a bookmark or a list.",
    labels=("resource",),
)
QUEUED_JOBS = Declared(
    name="trainwright_queued_jobs",
    kind="gauge",
    help="Jobs that wait for admission, by provider and queue (empty: those that name none).",
    labels=("provider", "queue"),
)
ADMITTED_SECONDS = Declared(
    name="trainwright_job_admitted_seconds",
    kind="histogram",
    help="Time from a job's creation until capacity admitted it; a job that went back to the queue counts again.",
    buckets=_LONG,
)
PREEMPTIONS = Declared(
    name="trainwright_preemptions_total", kind="counter", help="Jobs that capacity told to make room for one of higher priority."
)
OPERATOR_METRICS = (
    RECONCILES,
    RECONCILE_SECONDS,
    QUEUE_DEPTH,
    QUEUE_SECONDS,
    REQUESTS,
    START_SECONDS,
    POLLS,
    SYNCS,
    WATCH_AGE,
    QUEUED_JOBS,
    ADMITTED_SECONDS,
    PREEMPTIONS,
)


class Metrics:
    """The operator's metrics, as those who have something to report find them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.reconciles = self._counter(RECONCILES)
        self.reconcile_seconds = self._histogram(RECONCILE_SECONDS)
        self.queue_depth = Gauge(QUEUE_DEPTH.name, QUEUE_DEPTH.help, registry=self.registry)
        self.queue_seconds = self._histogram(QUEUE_SECONDS)
        self.requests = self._counter(REQUESTS)
        self.start_seconds = self._histogram(START_SECONDS)
        self.polls = self._counter(POLLS)
        self.syncs = self._counter(SYNCS)
        self.admitted_seconds = self._histogram(ADMITTED_SECONDS)
        self.preemptions = self._counter(PREEMPTIONS)

    def request(self, verb: str, resource: str, code: int) -> None:
        self.requests.labels(verb, resource, str(code)).inc()

    def follow(self, watches: Callable[[], dict[str, float]]) -> None:
        """`watches`: seconds since something was last heard of each kind of object; asked at each scrape."""
        self.registry.register(_Watches(watches))

    def follow_queue(self, lengths: Callable[[], dict[tuple[str, str], int]]) -> None:
        """`lengths`: how many jobs wait, by provider and queue; asked at each scrape."""
        self.registry.register(_Queues(lengths))

    def _counter(self, metric: Declared) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self.registry)

    def _histogram(self, metric: Declared) -> Histogram:
        return Histogram(metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=self.registry)


class _Queues(Collector):
    def __init__(self, lengths: Callable[[], dict[tuple[str, str], int]]) -> None:
        self._lengths = lengths

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(QUEUED_JOBS.name, QUEUED_JOBS.help, labels=QUEUED_JOBS.labels)
        for (provider, queue), count in self._lengths().items():
            family.add_metric([provider, queue], count)
        yield family


class _Watches(Collector):
    def __init__(self, watches: Callable[[], dict[str, float]]) -> None:
        self._watches = watches

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(WATCH_AGE.name, WATCH_AGE.help, labels=WATCH_AGE.labels)
        for resource, age in self._watches().items():
            family.add_metric([resource], age)
        yield family
