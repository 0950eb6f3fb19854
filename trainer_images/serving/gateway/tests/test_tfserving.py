"""TF Serving is told what to load, by its own gRPC service, and told again when it has forgotten."""

from __future__ import annotations

import asyncio

from published import publish
from world import UNCHECKED, Backend, eventually, version


def wanted(config) -> list[int]:
    return list(config.model_version_policy.specific.versions)


async def test_exactly_the_named_versions_are_loaded_and_labels_follow_what_is_available(backend, gateway, tmp_path):
    one = await backend("tfserving", 1)
    one.versions[9] = "AVAILABLE"
    front = await gateway("tfserving")
    made = {number: publish(tmp_path, "tfserving", number) for number in (1, 2)}
    await front.sync([version(1, made[1], one)])
    await eventually(lambda: set(one.versions) == {1} and one.labels == {"stable": 1})
    config = one.configs[0]
    assert (config.name, config.base_path, config.model_platform) == ("churn", str(tmp_path / "versions"), "tensorflow")
    both = [version(1, made[1], one), version(2, made[2], one, role="candidate", weight=0)]
    await front.sync(both)
    await eventually(lambda: one.versions == {1: "AVAILABLE", 2: "LOADING"})
    found = (await front.sync(both))["versions"]
    assert not found["2"]["available"]
    assert all("canary" not in config.version_labels for config in one.configs)
    one.versions[2] = "AVAILABLE"
    await eventually(lambda: one.labels == {"stable": 1, "canary": 2})
    swapped = [version(1, made[1], one, role="previous", weight=0), version(2, made[2], one)]
    await front.sync(swapped)
    await eventually(lambda: one.labels == {"stable": 2})
    assert wanted(one.configs[-1]) == [1, 2]
    await front.sync([version(2, made[2], one)])
    await eventually(lambda: one.versions == {2: "AVAILABLE"})
    count = len(one.configs)
    for _ in range(20):
        await front.ask()
        await front.sync([version(2, made[2], one)])
    assert len(one.configs) == count


async def test_a_restarted_server_is_told_again_and_requests_wait_for_it(backend, gateway, tmp_path):
    one = await backend("tfserving", 1)
    front = await gateway("tfserving")
    made = publish(tmp_path, "tfserving", 1)
    await front.sync([version(1, made, one)])
    await eventually(lambda: one.labels)
    await one.stop()
    again = Backend("tfserving", 7, host=one.host)
    await again.start()
    try:

        async def load():
            if again.versions.get(1) == "LOADING":
                again.versions[1] = "AVAILABLE"
            return again.versions == {1: "AVAILABLE"} and again.labels == {"stable": 1}

        asked = front.ask()
        await eventually(load)
        assert (await asked)[0] == 200
    finally:
        await again.stop()


async def test_a_version_is_unloaded_only_when_nobody_waits_for_its_answer(backend, gateway, tmp_path):
    one = await backend("tfserving", 1)
    one.versions = {1: "AVAILABLE", 2: "AVAILABLE"}
    front = await gateway("tfserving")
    made = {number: publish(tmp_path, "tfserving", number) for number in (1, 2)}
    await front.sync([version(1, made[1], one), version(2, made[2], one, role="candidate", weight=0)], check=UNCHECKED)
    await eventually(lambda: one.labels == {"stable": 1, "canary": 2})
    one.mode, before = "slow", one.asked
    asked = asyncio.create_task(front.ask())
    await eventually(lambda: one.asked > before)
    await front.sync([version(2, made[2], one)], check=UNCHECKED)
    assert 1 in one.versions
    one.release.set()
    status, _, headers = await asked
    assert (status, headers["x-trainwright-version"]) == (200, "1")
    await eventually(lambda: set(one.versions) == {2})


async def test_a_refusal_is_said_in_the_log(backend, gateway, tmp_path):
    one = await backend("tfserving", 5)
    one.refuse = "base path is not there"
    front = await gateway("tfserving")
    await front.sync([version(1, publish(tmp_path, "tfserving", 1), one)])
    await eventually(lambda: any("base path is not there" in line for line in front.log))
