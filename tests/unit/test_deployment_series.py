"""What a scrape of the operator says of served models."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from support.serving import Traffic, World, deployment
from trainwright.controller.deployment_series import DeploymentSeries


def scraped(world: World) -> dict[tuple[str, tuple[str, ...]], float]:
    """Values by name and by labels other than namespace and deployment."""
    registry = CollectorRegistry()
    registry.register(DeploymentSeries(world.serving.deployments.all))
    found: dict[tuple[str, tuple[str, ...]], float] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            labels: dict[str, Any] = dict(sample.labels)
            assert labels.pop("deployment") == "digits"
            assert labels.pop("namespace") == "default"
            found[sample.name, tuple(labels.values())] = sample.value
    return found


async def test_the_life_of_a_deployment_shows_in_its_series() -> None:
    world = World()
    await world.apply(deployment())
    await world.settle()
    assert scraped(world)["trainwright_deployment_available", ()] == 0
    await world.train("first")
    await world.settle()
    world.traffic[2] = Traffic(requests=0)
    await world.train("second")
    await world.settle()
    seen = scraped(world)
    assert seen["trainwright_deployment_live_version", ()] == 1
    assert seen["trainwright_deployment_candidate_version", ()] == 2
    assert seen["trainwright_deployment_candidate_step", ("Canary",)] == 1
    assert seen["trainwright_deployment_canary_weight_ratio", ()] == 0.2
    assert seen["trainwright_deployment_canary_missing_requests", ()] == 50
    assert seen["trainwright_deployment_max_drift", ()] == 0.25
    assert seen["trainwright_deployment_versions_ended_total", ("RolledBack",)] == 0
    assert seen["trainwright_deployment_live_metric", ("accuracy",)] == 0.95
    world.traffic[2] = Traffic(errors=50)
    await world.settle()
    seen = scraped(world)
    assert seen["trainwright_deployment_versions_ended_total", ("RolledBack",)] == 1
    assert seen["trainwright_deployment_versions", ("Live",)] == 1
    assert ("trainwright_deployment_candidate_version", ()) not in seen
    assert ("trainwright_deployment_canary_missing_requests", ()) not in seen
    assert seen["trainwright_deployment_phase", ("Live",)] == 1
