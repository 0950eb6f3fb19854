"""What gateways are told: versions with their weights and addresses, how to check, what to watch."""

from __future__ import annotations

from typing import Any

from trainwright.api.deployment import ModelDeployment
from trainwright.api.deployment_status import Candidate, ModelDeploymentStatus, Step, Version
from trainwright.observe.serving import Served
from trainwright.servers import server


def window(status: ModelDeploymentStatus) -> str:
    """The window that is measured in: a new one for each step of a canary."""
    candidate = status.candidate
    if candidate is not None and candidate.step is Step.CANARY:
        return f"{candidate.version}.{candidate.canary_step or 0}"
    return f"live.{status.live or 0}"


def routed(status: ModelDeploymentStatus) -> list[tuple[Version, str, int]]:
    """Versions that servers are wanted for: each with its role and its share of traffic, in percent."""
    candidate, live = status.candidate, status.version(status.live)
    share = candidate.weight or 0 if candidate is not None else 0
    made = [(live, "live", 100 - share)] if live else []
    coming = status.version(candidate.version) if _to_be_loaded(candidate) and candidate else None
    if coming is not None and coming is not live:
        made.append((coming, "candidate", share))
    return made


def _to_be_loaded(candidate: Candidate | None) -> bool:
    return candidate is not None and candidate.step in (Step.LOAD, Step.CANARY)


def sync(deployment: ModelDeployment, status: ModelDeploymentStatus, served: Served) -> dict[str, Any]:
    """The body of a sync, but for `peers`, which differ from gateway to gateway."""
    spec = deployment.spec
    each = server(spec.server).a_version_each
    versions = [
        {
            "version": version.version,
            "role": role,
            "weight": weight,
            "digest": version.digest,
            "record": version.record,
            "addresses": sorted(
                pod.address for pod in served.servers(version.version if each else None) if pod.ready and pod.address
            ),
            "window": window(status),
        }
        for version, role, weight in routed(status)
    ]
    watched = spec.monitoring
    return {
        "model": deployment.name,
        "versions": versions,
        "check": {
            "warmup": spec.warmup.requests,
            "tolerance": spec.smoke.tolerance,
            "timeoutSeconds": spec.gateway.timeout_seconds,
            "smoke": spec.smoke.mode.value == "Recorded",
        },
        "sticky": {"header": spec.gateway.sticky_header} if spec.gateway.sticky_header else None,
        "timeoutSeconds": spec.gateway.timeout_seconds,
        "retries": spec.gateway.retries,
        "monitoring": {
            "sampleRatio": watched.sample_ratio,
            "windowSeconds": watched.window_seconds,
            "minSamples": watched.min_samples,
            "topFeatures": watched.top_features,
            "labelWindowSeconds": watched.label_window_seconds,
        },
    }
