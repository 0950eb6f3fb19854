"""Every metric that Trainwright has, from the tables of the operator, the workers and the gateways."""

from __future__ import annotations

from dataclasses import dataclass

from trainwright.controller.deployment_series import DEPLOYMENT_METRICS
from trainwright.controller.job_series import JOB_METRICS, JOBS, LEFT_OUT
from trainwright.controller.metrics import OPERATOR_METRICS
from trainwright_gateway.metrics import METRICS as GATEWAY_METRICS
from trainwright_runtime.metrics import GPU_METRICS, METRICS


@dataclass(frozen=True, kw_only=True)
class Row:
    """One metric. `labels` are its own; what is scraped adds others."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]

    @property
    def series(self) -> tuple[str, ...]:
        """Names that its series have."""
        return tuple(f"{self.name}_{end}" for end in ("bucket", "sum", "count")) if self.kind == "histogram" else (self.name,)


def operator() -> list[Row]:
    """What the operator says of itself and of all jobs together."""
    return [Row(name=one.name, kind=one.kind, help=one.help, labels=one.labels) for one in (*OPERATOR_METRICS, JOBS, LEFT_OUT)]


def jobs() -> list[Row]:
    """What the operator says of each job."""
    return [Row(name=one.name, kind=one.kind, help=one.help, labels=one.labels) for one in JOB_METRICS]


def deployments() -> list[Row]:
    """What the operator says of each served model."""
    return [Row(name=one.name, kind=one.kind, help=one.help, labels=one.labels) for one in DEPLOYMENT_METRICS]


def workers() -> list[Row]:
    """What each worker says."""
    return [
        Row(name=one.name, kind="gauge" if one.kind == "labelled" else one.kind, help=one.help, labels=one.labels)
        for one in (*METRICS, *GPU_METRICS)
    ]


def gateways() -> list[Row]:
    """What each gateway says of the versions behind it."""
    return [Row(name=one.name, kind=one.kind, help=one.help, labels=one.labels) for one in GATEWAY_METRICS]


PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes"}
"""Of what prometheus-client says of the processes of operator and gateways."""


def known() -> set[str]:
    """Names of all series."""
    return PROCESS | {name for row in (*operator(), *jobs(), *deployments(), *workers(), *gateways()) for name in row.series}
