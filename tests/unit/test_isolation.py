"""Who may reach which pod: the policies as a network plugin reads them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support.builders import job
from support.serving import deployment
from support.waiting import eventually
from trainwright.api import deployment as deployments
from trainwright.api.names import CLIENT_PORT, METRICS_PORT
from trainwright.cluster.memory import MemoryCluster
from trainwright.cluster.port import NETWORK_POLICIES, TRAINING_JOBS
from trainwright.controller.operator import Operator
from trainwright.observe.serving import Role
from trainwright.plan.isolation import OPERATOR, PROMETHEUS, of_deployment, of_job
from trainwright.plan.pods import worker_pod
from trainwright.plan.serving.metadata import pod_labels
from trainwright.plan.types import Settings

HOME = "trainwright"
RENDEZVOUS = 29500
Place = tuple[str, dict[str, str]]
"""A pod: its namespace and its labels."""


def _matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def _is(peer: dict[str, Any], who: Place, namespace: str) -> bool:
    there, labels = who
    if "namespaceSelector" in peer:
        in_namespace = _matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": there})
    else:
        in_namespace = there == namespace
    return in_namespace and _matches(peer["podSelector"], labels)


def reaches(policies: list[dict[str, Any]], source: Place, target: Place, port: int) -> bool:
    """As the API defines it: what no policy selects is open; what some select is open to whom one of their rules lets in."""
    namespace, labels = target
    selecting = [
        one for one in policies if one["metadata"]["namespace"] == namespace and _matches(one["spec"]["podSelector"], labels)
    ]
    return not selecting or any(
        ("from" not in rule or any(_is(peer, source, namespace) for peer in rule["from"]))
        and ("ports" not in rule or port in {one["port"] for one in rule["ports"]})
        for one in selecting
        for rule in one["spec"]["ingress"]
    )


def worker(name: str, namespace: str = "default") -> Place:
    pod = worker_pod(job(name).namespace(namespace).typed(), 0, Settings())
    return namespace, pod["metadata"]["labels"]


def policies_of(*names: tuple[str, str]) -> list[dict[str, Any]]:
    return [of_job(job(name).namespace(namespace).typed(), HOME) for name, namespace in names]


@pytest.mark.parametrize(
    ("source", "port", "open_"),
    [
        (worker("digits"), RENDEZVOUS, True),
        (worker("digits"), METRICS_PORT, True),
        (worker("other"), RENDEZVOUS, False),
        (worker("other"), METRICS_PORT, False),
        (worker("digits", "elsewhere"), RENDEZVOUS, False),
        ((HOME, OPERATOR), METRICS_PORT, True),
        ((HOME, OPERATOR), RENDEZVOUS, False),
        (("elsewhere", OPERATOR), METRICS_PORT, False),
        (("monitoring", PROMETHEUS), METRICS_PORT, True),
        (("monitoring", PROMETHEUS), RENDEZVOUS, False),
        (("default", {}), METRICS_PORT, False),
    ],
)
def test_a_worker_is_reached_by_its_gang_the_operator_and_prometheus_alone(source: Place, port: int, open_: bool) -> None:
    policies = policies_of(("digits", "default"), ("other", "default"), ("digits", "elsewhere"))
    assert reaches(policies, source, worker("digits"), port) is open_


def test_clients_reach_gateways_and_gateways_reach_servers() -> None:
    mine = deployments.parse(deployment())
    policies = of_deployment(mine, HOME)
    other = deployments.parse(deployment("other"))
    server, gateway, publisher = (
        ("default", pod_labels(mine, role, 1 if role is not Role.GATEWAY else None))
        for role in (Role.SERVER, Role.GATEWAY, Role.PUBLISHER)
    )
    foreign = ("default", pod_labels(other, Role.GATEWAY))
    anybody = ("default", {"app": "shop"})
    assert reaches(policies, anybody, gateway, CLIENT_PORT)
    assert not reaches(policies, anybody, gateway, METRICS_PORT), "where it takes orders"
    assert not reaches(policies, foreign, gateway, METRICS_PORT)
    assert reaches(policies, (HOME, OPERATOR), gateway, METRICS_PORT)
    assert reaches(policies, gateway, gateway, METRICS_PORT), "they forward labels to each other"
    assert reaches(policies, gateway, server, CLIENT_PORT)
    assert reaches(policies, ("monitoring", PROMETHEUS), server, CLIENT_PORT)
    for source in (anybody, foreign, (HOME, OPERATOR)):
        assert not reaches(policies, source, server, CLIENT_PORT)
    for source in (anybody, gateway, (HOME, OPERATOR)):
        assert not reaches(policies, source, publisher, CLIENT_PORT), "it serves nobody"
    assert len({one["metadata"]["name"] for one in policies}) == len(policies)


@pytest.mark.parametrize("home", [None, HOME])
async def test_the_operator_makes_them_when_it_is_asked_to(home: str | None) -> None:
    cluster = MemoryCluster()
    operator = Operator(cluster, settings=Settings(isolated_from=home), watch_jobs=True, serving=False)
    running = asyncio.create_task(operator.run())
    try:
        await cluster.create(TRAINING_JOBS, job().build())

        async def phase() -> str:
            return str((await cluster.get(TRAINING_JOBS, "digits", "default")).get("status", {}).get("phase", ""))

        await eventually(phase, what="a pass has been made")
        made = (await cluster.list(NETWORK_POLICIES)).items
        assert len(made) == (1 if home else 0)
        if home:
            await cluster.delete(NETWORK_POLICIES, "digits", "default")

            async def back() -> bool:
                return bool((await cluster.list(NETWORK_POLICIES)).items)

            await eventually(back, what="what somebody took away is made again")
    finally:
        running.cancel()
        await asyncio.wait([running])
