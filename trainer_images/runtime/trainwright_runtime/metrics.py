"""Every metric of a worker, in one table, and its rendering from what the ranks report.

Ranks don't speak Prometheus: they leave a small status file (`progress.py`), and the launcher turns the files of its pod into
one page. So a rank serves no port, and a scrape never touches a process that trains.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Status = Mapping[str, Any]
"""What one rank last reported: see `progress.Reporter`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerMetric:
    """One row of a table. `source` is the key of the value in a rank's status, dots for nesting; the first label is one too."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "labelled"]
    help: str
    source: str
    labels: tuple[str, ...] = ("rank",)


METRICS = (
    WorkerMetric(
        name="trainwright_step", kind="gauge", help="Optimizer steps behind the model, resumed ones included.", source="step"
    ),
    WorkerMetric(
        name="trainwright_target_steps", kind="gauge", help="Optimizer steps of the whole training.", source="totalSteps"
    ),
    WorkerMetric(name="trainwright_epoch", kind="gauge", help="Epoch in training, from 0.", source="epoch"),
    WorkerMetric(name="trainwright_steps_total", kind="counter", help="Optimizer steps taken by this process.", source="steps"),
    WorkerMetric(
        name="trainwright_samples_total",
        kind="counter",
        help="Samples that the whole gang has trained on, as counted by this rank since it started.",
        source="samples",
    ),
    WorkerMetric(name="trainwright_step_seconds", kind="histogram", help="Time from one step to the next.", source="stepSeconds"),
    WorkerMetric(
        name="trainwright_data_wait_seconds_total",
        kind="counter",
        help="Time of steps in which this rank waited for data.",
        source="dataWaitSeconds",
    ),
    WorkerMetric(
        name="trainwright_compute_seconds_total",
        kind="counter",
        help="Time of steps without waiting for data and for checkpoints: computing, and exchanging with other ranks.",
        source="computeSeconds",
    ),
    WorkerMetric(
        name="trainwright_own_step_seconds",
        kind="gauge",
        help="Time of a recent step that this rank needed for itself, without waiting for others; torch with DDP tells it.",
        source="ownStepSeconds",
    ),
    WorkerMetric(name="trainwright_loss", kind="gauge", help="Latest training loss.", source="metrics.loss"),
    WorkerMetric(
        name="trainwright_losses_not_finite_total",
        kind="counter",
        help="Times that the loss was NaN or infinite when it was read.",
        source="lossesNotFinite",
    ),
    WorkerMetric(
        name="trainwright_oom_retries_total",
        kind="counter",
        help="Steps that memory ran out in and that were taken again with less at a time, as the training reports them.",
        source="oomRetries",
    ),
    WorkerMetric(name="trainwright_learning_rate", kind="gauge", help="Latest learning rate.", source="metrics.learning_rate"),
    WorkerMetric(
        name="trainwright_gradient_norm",
        kind="gauge",
        help="Latest norm of the gradient over the global batch, where the training reports it.",
        source="metrics.gradient_norm",
    ),
    WorkerMetric(
        name="trainwright_metric",
        kind="labelled",
        help="Latest value of each metric that the training reports, by its name.",
        source="metrics",
        labels=("rank", "name"),
    ),
    WorkerMetric(
        name="trainwright_heartbeat_timestamp_seconds",
        kind="gauge",
        help="When the training last reported: a rank that hangs falls behind. Gone while silence is to be expected.",
        source="alive",
    ),
    WorkerMetric(
        name="trainwright_startup_seconds",
        kind="labelled",
        help="Time from the start of this process to its first step, by part, such as import or rendezvous.",
        source="startup",
        labels=("rank", "part"),
    ),
    WorkerMetric(
        name="trainwright_resumed_step",
        kind="gauge",
        help="Step of the checkpoint this process resumed from.",
        source="resumedFrom",
    ),
    WorkerMetric(
        name="trainwright_checkpoints_total",
        kind="counter",
        help="Checkpoints completed by this process.",
        source="saves.written",
    ),
    WorkerMetric(
        name="trainwright_checkpoint_failures_total",
        kind="counter",
        help="Checkpoints that could not be written.",
        source="saves.failed",
    ),
    WorkerMetric(
        name="trainwright_checkpoint_blocked_seconds_total",
        kind="counter",
        help="Time that training stood still for checkpoints.",
        source="saves.blockedSeconds",
    ),
    WorkerMetric(
        name="trainwright_checkpoint_write_seconds_total",
        kind="counter",
        help="Time spent in writing checkpoints, beside training.",
        source="saves.writeSeconds",
    ),
    WorkerMetric(
        name="trainwright_checkpoint_written_bytes_total",
        kind="counter",
        help="Bytes of completed checkpoints.",
        source="saves.bytes",
    ),
    WorkerMetric(
        name="trainwright_checkpoint_step", kind="gauge", help="Step of the newest checkpoint.", source="checkpoint.step"
    ),
    WorkerMetric(
        name="trainwright_checkpoint_timestamp_seconds",
        kind="gauge",
        help="When the newest checkpoint was completed.",
        source="checkpoint.time",
    ),
)


GPU_METRICS = (
    WorkerMetric(
        name="trainwright_gpu_utilization_ratio",
        kind="gauge",
        help="Share of the last moments in which a GPU of this pod was busy, by NVML.",
        source="utilization",
        labels=("gpu",),
    ),
    WorkerMetric(
        name="trainwright_gpu_memory_used_bytes",
        kind="gauge",
        help="Memory of a GPU of this pod that is in use, by NVML.",
        source="memoryUsed",
        labels=("gpu",),
    ),
    WorkerMetric(
        name="trainwright_gpu_memory_bytes",
        kind="gauge",
        help="Memory of a GPU of this pod, by NVML.",
        source="memory",
        labels=("gpu",),
    ),
)


def render(statuses: Iterable[Status], gpus: Iterable[Status] = ()) -> bytes:
    """The ranks' statuses, and the pod's GPUs (`launch/gpus.py`), as a page in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Rows(METRICS, list(statuses)))
    registry.register(_Rows(GPU_METRICS, list(gpus)))
    return generate_latest(registry)


class _Rows(Collector):
    def __init__(self, metrics: Sequence[WorkerMetric], rows: list[Status]) -> None:
        self._metrics = metrics
        self._rows = rows

    def collect(self) -> Iterator[Metric]:
        for metric in self._metrics:
            yield _FAMILIES[metric.kind](metric, self._rows)


def _look_up(status: Status, source: str) -> Any:
    value: Any = status
    for key in source.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _single(family: type[CounterMetricFamily] | type[GaugeMetricFamily], metric: WorkerMetric, statuses: list[Status]) -> Metric:
    made = family(metric.name, metric.help, labels=metric.labels)
    for status in statuses:
        if (value := _look_up(status, metric.source)) is not None:
            made.add_metric([str(status[metric.labels[0]])], value)
    return made


def _labelled(metric: WorkerMetric, statuses: list[Status]) -> Metric:
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for status in statuses:
        for name, value in (_look_up(status, metric.source) or {}).items():
            family.add_metric([str(status[metric.labels[0]]), name], value)
    return family


def _histogram(metric: WorkerMetric, statuses: list[Status]) -> Metric:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for status in statuses:
        if (histogram := _look_up(status, metric.source)) is not None:
            buckets, running = [], 0
            for bound, count in zip([*histogram["bounds"], "+Inf"], histogram["counts"], strict=True):
                running += count
                buckets.append((str(bound), running))
            family.add_metric([str(status[metric.labels[0]])], buckets, histogram["sum"])
    return family


_FAMILIES: dict[str, Callable[[WorkerMetric, list[Status]], Metric]] = {
    "counter": functools.partial(_single, CounterMetricFamily),
    "gauge": functools.partial(_single, GaugeMetricFamily),
    "labelled": _labelled,
    "histogram": _histogram,
}
