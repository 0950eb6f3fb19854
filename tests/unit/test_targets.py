"""Where the operator tells Prometheus that the workers are."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import job
from support.pods import running
from support.serving import World, deployment
from trainwright.cluster.port import PODS
from trainwright.controller.targets import targets
from trainwright.plan.pods import worker_pod
from trainwright.plan.types import Settings


def pods(**spec: Any) -> list[dict[str, Any]]:
    made = job().spec(workers=2, **spec).typed()
    return [running(worker_pod(made, index, Settings())) for index in range(2)]


def test_a_running_worker_is_told_with_the_labels_of_its_job() -> None:
    first, second = targets(pods())
    assert first["labels"] == {
        "namespace": "default",
        "pod": "digits-a1-worker-0",
        "job": "digits",
        "worker": "0",
        "attempt": "1",
    }
    assert second["labels"]["worker"] == "1"
    assert [one.endswith(":9400") for one in first["targets"]] == [True]


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"framework": "none", "recipe": None, "command": ["true"]}, id="no framework"),
        pytest.param(
            {"recipe": None, "image": "mine:1", "command": ["python", "train.py"]}, id="a command in an image of one's own"
        ),
    ],
)
def test_a_worker_without_our_launcher_has_no_port_to_ask(spec: dict[str, Any]) -> None:
    assert targets(pods(**spec)) == []


def test_a_worker_that_does_not_run_is_not_asked() -> None:
    waiting, ended = pods()
    waiting["status"] = {"phase": "Pending"}
    ended["status"]["phase"] = "Succeeded"
    assert targets([waiting, ended]) == []


async def test_servers_and_gateways_are_told_by_what_they_serve() -> None:
    world = World()
    await world.apply(deployment(server="tfserving"))
    await world.settle()
    await world.train("first")
    await world.settle()
    told = {one["labels"]["role"]: one for one in targets((await world.cluster.list(PODS)).items)}
    assert told["gateway"]["labels"]["deployment"] == "digits"
    assert "__metrics_path__" not in told["gateway"]["labels"]
    assert told["server"]["labels"]["__metrics_path__"] == "/monitoring/prometheus/metrics"
    assert told["server"]["targets"][0].endswith(":8501")
