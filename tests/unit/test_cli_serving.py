"""Commands about served models, against a cluster in memory whose deployments go their way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support.cli import CommandLine
from support.serving import DEPLOYMENT, Traffic, World, deployment
from trainwright.cluster.port import MODEL_DEPLOYMENTS, Object


@pytest.fixture
def world(cli: CommandLine) -> World:
    """A deployment with one live version."""
    made = World()
    cli.cluster = made.cluster
    asyncio.run(_live(made))
    return made


async def _live(world: World) -> None:
    await world.apply(deployment())
    await world.settle()
    await world.train("first")
    await world.settle()


async def _second(world: World, requests: int) -> None:
    world.traffic[2] = Traffic(requests=requests)
    await world.train("second")
    await world.settle()


def spec(world: World) -> dict[str, Any]:
    raw: Object = asyncio.run(world.cluster.get(MODEL_DEPLOYMENTS, DEPLOYMENT, "default"))
    return dict(raw["spec"])


@pytest.mark.parametrize("columns", [80, 200])
def test_versions_shows_who_serves_what_became_of_the_others_and_why(cli: CommandLine, world: World, columns: int) -> None:
    cli.width(columns)
    asyncio.run(_second(world, requests=30))
    shown = cli("versions", DEPLOYMENT)
    assert shown.code == 0
    assert max(len(line) for line in shown.out.splitlines()) <= columns
    for said in (
        "RollingOut",
        "v1 80%, v2 20%",
        "30 of 50 requests",
        "new v2 30 requests",
        "first version",
        "accuracy=0.95",
        "CanaryStep",
    ):
        assert said in shown.words
    assert cli("versions", DEPLOYMENT, "-o", "json").json()["status"]["candidate"]["version"] == 2
    assert DEPLOYMENT in cli("versions").words
    assert cli("versions", "-o", "json").json()["deployments"][0]["metadata"]["name"] == DEPLOYMENT


def test_one_that_is_not_there_is_named_beside_those_that_are(cli: CommandLine, world: World) -> None:
    shown = cli("versions", "digit")
    assert shown.code == 2
    assert "there is no ModelDeployment digit in namespace default; there are digits" in " ".join(shown.err.split())


def test_publish_offers_a_job_that_has_succeeded(cli: CommandLine, world: World) -> None:
    shown = cli("publish", "first", "--to", DEPLOYMENT)
    assert "first offered to digits" in shown.out
    (offer,) = spec(world)["offers"]
    assert offer["job"] == "first"
    asyncio.run(world.settle())
    assert cli("publish", "s3://bucket/run/artifacts", "--to", DEPLOYMENT).code == 0
    (offer,) = spec(world)["offers"]
    assert offer["uri"] == "s3://bucket/run/artifacts", "what was taken is no longer offered"
    assert cli("publish", "runs/7", "--claim", "models", "--to", DEPLOYMENT).code == 0
    assert spec(world)["offers"][-1]["path"] == "runs/7"


def test_publish_refuses_what_nobody_could_take(cli: CommandLine, world: World) -> None:
    assert "no TrainingJob" in (said := cli("publish", "absent", "--to", DEPLOYMENT)).err or "absent" in said.err
    assert said.code == 2


def test_promote_asks_for_the_version_in_canary_and_for_no_other(cli: CommandLine, world: World) -> None:
    refused = cli("promote", DEPLOYMENT)
    assert refused.code == 2
    assert "no version on its way; version 1 is live" in " ".join(refused.err.split())
    asyncio.run(_second(world, requests=0))
    assert "version 3 is not on its way; 2 is" in " ".join(cli("promote", DEPLOYMENT, "3").err.split())
    assert cli("promote", DEPLOYMENT).code == 0
    asyncio.run(world.settle())
    assert asyncio.run(world.status())["live"] == 2


def test_rollback_ends_a_canary_goes_back_and_lets_go(cli: CommandLine, world: World) -> None:
    assert "has not kept a previous version; there are 1" in " ".join(cli("rollback", DEPLOYMENT).err.split())
    asyncio.run(_second(world, requests=0))
    assert "goes to version 1" in cli("rollback", DEPLOYMENT).words
    asyncio.run(world.settle())
    assert asyncio.run(world.states())[2] == "RolledBack"
    assert "pinned version 1" in cli("versions", DEPLOYMENT).words
    assert cli("rollback", DEPLOYMENT, "--undo").code == 0
    assert "pin" not in spec(world)
    assert "not pinned" in cli("rollback", DEPLOYMENT, "--undo").words
    assert cli("rollback", DEPLOYMENT, "1", "--undo").code == 2


def test_predict_says_how_to_reach_a_gateway_that_is_not_reached_from_here(cli: CommandLine, world: World, tmp_path: Any) -> None:
    request = tmp_path / "request.json"
    assert "No such file" in cli("predict", DEPLOYMENT, request).err
    request.write_text("{}")
    shown = cli("predict", DEPLOYMENT, request, "--url", "http://127.0.0.1:9")
    assert shown.code == 2
    assert "kubectl port-forward -n default service/digits-gateway 8080:80" in " ".join(shown.err.split())


def test_a_job_says_what_became_of_its_model(cli: CommandLine) -> None:
    from support.builders import job

    cli.put(job("digits").spec(publish={"deployment": "digits"}))
    model = {"deployment": "digits", "version": 3, "state": "Refused", "reason": "accuracy 0.5 is below 0.9"}
    cli.say("digits", phase="Succeeded", model=model)
    assert "digits version 3: Refused (accuracy 0.5 is below 0.9)" in cli("status", "digits").words
