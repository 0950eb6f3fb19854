"""How a deployment's status is put together, each part from what is observed and what was said before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainwright.api.deployment import ModelDeployment
from trainwright.api.deployment_status import (
    MAX_VERSIONS,
    DeploymentCondition,
    DeploymentConditionType,
    DeploymentPhase,
    DriftStatus,
    FeatureDrift,
    LabelStatus,
    ModelDeploymentStatus,
    Version,
    VersionState,
)
from trainwright.api.names import gateway_name
from trainwright.api.reasons import Reason
from trainwright.observe.gateway import Labels
from trainwright.observe.serving import Served
from trainwright.observe.times import rfc3339
from trainwright.plan.conditions import conditions_after
from trainwright.plan.serving.routes import routed
from trainwright.servers import server

Saying = tuple[DeploymentConditionType, bool, Reason, str]


def with_conditions(
    status: ModelDeploymentStatus, deployment: ModelDeployment, now: float, *sayings: Saying
) -> ModelDeploymentStatus:
    """Say things of the deployment; the time of a condition moves only when its status does."""
    conditions = conditions_after(
        status.conditions,
        sayings,
        make=DeploymentCondition,
        order=DeploymentConditionType,
        generation=deployment.generation,
        now=now,
    )
    return status.model_copy(update={"conditions": conditions})


def with_version(status: ModelDeploymentStatus, number: int, **changes: Any) -> ModelDeploymentStatus:
    """The status with something else said of one version."""
    versions = [one.model_copy(update=changes) if one.version == number else one for one in status.versions]
    return status.model_copy(update={"versions": versions})


def in_state(
    status: ModelDeploymentStatus, number: int | None, state: VersionState, reason: str | None, now: float
) -> ModelDeploymentStatus:
    """The status with one version in another state, from now on."""
    if number is None:
        return status
    return with_version(status, number, state=state, reason=reason, since=rfc3339(now))


def at_rest(status: ModelDeploymentStatus) -> str | None:
    """The reason while nothing is on its way: what became of the newest version, if that isn't to serve."""
    newest = status.version(status.last_version)
    word = {VersionState.REFUSED: "refused", VersionState.ROLLED_BACK: "rolled back"}.get(newest.state) if newest else None
    if newest is None or word is None:
        return None
    live = f"; version {status.live} stays live" if status.live else ""
    return f"version {newest.version} was {word}: {newest.reason}{live}"


def bounded(deployment: ModelDeployment, versions: list[Version]) -> list[Version]:
    """Newest first, at most `MAX_VERSIONS`: what is forgotten has no files, and its offer can't come again."""
    ordered = sorted(versions, key=lambda one: one.version, reverse=True)
    still_offered = {f"offer/{offer.name}" for offer in deployment.spec.offers}
    excess = len(ordered) - MAX_VERSIONS
    kept = []
    for one in reversed(ordered):
        forgettable = one.record is None and one.state is not VersionState.CANDIDATE and one.offer not in still_offered
        if excess > 0 and forgettable:
            excess -= 1
        else:
            kept.append(one)
    return kept[::-1]


def watched(deployment: ModelDeployment, status: ModelDeploymentStatus, served: Served, now: float) -> ModelDeploymentStatus:
    """Counts, traffic, drift and labels as they are now, and what they say of the deployment."""
    each = server(deployment.spec.server).a_version_each
    ready = [pod for pod in served.servers(status.live if each else None) if pod.ready] if status.live else []
    gateways = [pod for pod in served.gateways if pod.ready]
    update: dict[str, Any] = {
        "observed_generation": deployment.generation,
        "servers": f"{len(ready)}/{deployment.spec.replicas}" if status.live else None,
        "gateways": f"{len(gateways)}/{deployment.spec.gateway.replicas}",
        "address": f"http://{gateway_name(deployment.name)}.{deployment.namespace}.svc",
        "traffic": ", ".join(f"v{version.version} {weight}%" for version, _, weight in routed(status)) or None,
    }
    status = status.model_copy(update=update)
    status = _drift_and_labels(deployment, status, served, now)
    if status.live is None:
        status = with_conditions(
            status, deployment, now, (DeploymentConditionType.AVAILABLE, False, Reason.NO_VERSION, "no version is live yet")
        )
    elif ready and gateways:
        said = f"version {status.live}: {len(ready)} of {deployment.spec.replicas} servers and {len(gateways)} gateways are ready"
        status = with_conditions(status, deployment, now, (DeploymentConditionType.AVAILABLE, True, Reason.SERVERS_READY, said))
    else:
        status = with_conditions(
            status,
            deployment,
            now,
            (DeploymentConditionType.AVAILABLE, False, Reason.SERVERS_NOT_READY, absent(status, served, each=each)),
        )
    return status.model_copy(update={"phase": _phase(status), **_reason(status)})


def absent(status: ModelDeploymentStatus, served: Served, *, each: bool) -> str:
    """Why nobody answers for the live version, in one line."""
    servers = served.servers(status.live if each else None)
    what = f"no server of version {status.live}" if not any(pod.ready for pod in servers) else "no gateway"
    pods = servers if what.startswith("no server") else served.gateways
    why = next((pod.waiting for pod in pods if pod.waiting), "")
    return f"{what} is ready" + (f": {why}" if why else "")


def _phase(status: ModelDeploymentStatus) -> DeploymentPhase:
    available = status.condition(DeploymentConditionType.AVAILABLE)
    if status.live is not None and (available is None or available.status != "True"):
        return DeploymentPhase.DEGRADED
    if status.candidate is not None:
        return DeploymentPhase.ROLLING_OUT
    return DeploymentPhase.LIVE if status.live is not None else DeploymentPhase.EMPTY


def _reason(status: ModelDeploymentStatus) -> Mapping[str, Any]:
    """A deployment that can't answer says so first; one on its way says what it waits for (set by the step)."""
    available = status.condition(DeploymentConditionType.AVAILABLE)
    if _phase(status) is DeploymentPhase.DEGRADED and available is not None:
        return {"reason": available.message}
    return {}


def _all_labels(told: list[Labels]) -> LabelStatus | None:
    """Of all gateways: accuracies and mean errors of parts, weighted by their labels, are those of the whole."""
    labelled = sum(one.labelled for one in told)
    if not labelled:
        return None
    predictions = sum(one.labelled / one.coverage for one in told if one.coverage)
    return LabelStatus(
        metric=told[0].metric,
        value=round(sum(one.value * one.labelled for one in told) / labelled, 4),
        labelled=labelled,
        coverage=round(labelled / predictions, 4) if predictions else 0.0,
    )


def _drift_and_labels(
    deployment: ModelDeployment, status: ModelDeploymentStatus, served: Served, now: float
) -> ModelDeploymentStatus:
    """Drift as the gateway has it that has seen most, labels of all; what none tells of is unset."""
    telling = [report for report in served.reports.values() if report.monitored == status.live and status.live is not None]
    drifts = [report.drift for report in telling if report.drift is not None]
    labels = [report.labels for report in telling if report.labels is not None]
    most = max(drifts, key=lambda drift: drift.samples, default=None)
    drift = None
    if most is not None:
        worst = sorted(most.features.items(), key=lambda item: -item[1])[: deployment.spec.monitoring.top_features]
        drift = DriftStatus(
            score=round(most.score, 3),
            feature=most.feature,
            samples=most.samples,
            prediction=None if most.prediction is None else round(most.prediction, 3),
            features=[FeatureDrift(name=name, psi=round(psi, 3)) for name, psi in worst],
        )
    right = _all_labels(labels)
    status = status.model_copy(update={"drift": drift, "labels": right})
    if drift is None:
        return status
    allowed = deployment.spec.monitoring.max_drift
    of_answers = (drift.prediction or 0.0) > allowed
    what, score = (
        ("its predictions", drift.prediction)
        if of_answers and (drift.prediction or 0) > drift.score
        else (drift.feature, drift.score)
    )
    said = f"PSI of {what} is {score:.2f} over {drift.samples} rows (drifting above {allowed:g})"
    drifting = drift.score > allowed or of_answers
    reason = Reason.DRIFT_HIGH if drifting else Reason.DRIFT_LOW
    return with_conditions(status, deployment, now, (DeploymentConditionType.DRIFTING, drifting, reason, said))
