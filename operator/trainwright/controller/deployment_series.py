"""What the operator says of each served model, made at each scrape from what the deployments' status says (see `job_series`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from trainwright.api.deployment import ModelDeployment, parse
from trainwright.api.deployment_status import DeploymentConditionType, VersionState
from trainwright.api.errors import InvalidSpec
from trainwright.cluster.port import Object
from trainwright.controller.status_series import Table, Values, families
from trainwright.observe.times import seconds

ENDS = tuple(state.value for state in (VersionState.LIVE, VersionState.REFUSED, VersionState.ROLLED_BACK))

_TABLE: Table[ModelDeployment] = Table("deployment")
_metric, _plain = _TABLE.metric, _TABLE.plain


def _phase(seen: ModelDeployment) -> Values:
    return [((seen.status.phase.value,), 1.0)] if seen.status.phase else []


def _candidate(seen: ModelDeployment) -> float | None:
    return seen.status.candidate.version if seen.status.candidate else None


def _step(seen: ModelDeployment) -> Values:
    candidate = seen.status.candidate
    return [((candidate.step.value,), 1.0)] if candidate else []


def _step_since(seen: ModelDeployment) -> float | None:
    return seconds(seen.status.candidate.since) if seen.status.candidate else None


def _versions(seen: ModelDeployment) -> Values:
    counted = Counter(one.state for one in seen.status.versions)
    return [((state.value,), float(counted[state])) for state in VersionState]


def _ended(seen: ModelDeployment) -> Values:
    """From zero on, so that the first of its kind is seen to be one more."""
    return [((state,), float(seen.status.ended.get(state, 0))) for state in ENDS]


def _missing_requests(seen: ModelDeployment) -> float | None:
    candidate, steps = seen.status.candidate, seen.spec.canary.steps
    if candidate is None or candidate.canary_step is None or candidate.canary_step >= len(steps):
        return None
    answered = next((one.requests for one in candidate.figures or () if one.version == candidate.version), 0)
    return float(max(0, steps[candidate.canary_step].min_requests - answered))


def _metrics(seen: ModelDeployment) -> Values:
    live = seen.status.version(seen.status.live)
    return [((name,), value) for name, value in ((live.metrics or {}).items() if live else ())]


def _condition(kind: DeploymentConditionType) -> Callable[[ModelDeployment], float | None]:
    def value(seen: ModelDeployment) -> float | None:
        condition = seen.status.condition(kind)
        return None if condition is None else float(condition.status == "True")

    return value


DEPLOYMENT_METRICS = (
    _metric("phase", "1 for the phase that a deployment is in: Empty, RollingOut, Live or Degraded.", _phase, "phase"),
    _plain("live_version", "The version that serves.", lambda seen: seen.status.live),
    _plain("candidate_version", "The version on its way.", _candidate),
    _metric("candidate_step", "1 for the step that the version on its way is in: Verify … Canary.", _step, "step"),
    _plain("candidate_step_start_timestamp_seconds", "When the version on its way came into its step.", _step_since),
    _plain(
        "canary_weight_ratio",
        "Share of requests that the version on its way gets.",
        lambda seen: (seen.status.candidate.weight or 0) / 100 if seen.status.candidate else None,
    ),
    _plain(
        "canary_missing_requests",
        "Requests that the version on its way has yet to answer in this step of its canary.",
        _missing_requests,
    ),
    _metric("versions", "Versions that are remembered, by what became of them.", _versions, "state"),
    _metric(
        "versions_ended_total",
        "Versions that came to an end, by how: Live, Refused or RolledBack.",
        _ended,
        "state",
        kind="counter",
    ),
    _plain("available", "1 while servers of the live version answer, else 0.", _condition(DeploymentConditionType.AVAILABLE)),
    _plain(
        "drifting", "1 while inputs or predictions are far from training, else 0.", _condition(DeploymentConditionType.DRIFTING)
    ),
    _plain(
        "max_drift",
        "PSI of inputs or predictions from which on it counts as drifting.",
        lambda seen: seen.spec.monitoring.max_drift,
    ),
    _metric("live_metric", "Metrics of the live version, as its trainer measured them.", _metrics, "metric"),
)


class DeploymentSeries(Collector):
    """`deployments` gives every ModelDeployment as the API has it."""

    def __init__(self, deployments: Callable[[], list[Object]]) -> None:
        self._deployments = deployments

    def collect(self) -> Iterator[Metric]:
        seen = []
        for raw in self._deployments():
            try:
                one = parse(raw)
            except InvalidSpec:
                continue
            seen.append((one.namespace, one.name, one))
        yield from families(DEPLOYMENT_METRICS, seen)
