"""What the operator may say, and who may say it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from published import MODEL, publish
from world import Gateway, eventually, version

from trainwright_gateway import sync
from trainwright_gateway.windows import BOUNDS

CONTRACT = Path(__file__).resolve().parents[4] / "docs" / "decisions" / "008-serving.md"
DIGEST = "sha256:" + "a" * 64


def request(**changed):
    one = {
        "version": 3,
        "role": "live",
        "weight": 90,
        "digest": DIGEST,
        "record": DIGEST,
        "addresses": ["10.0.0.5"],
        "window": "4.1",
    }
    return {"model": "digits", "versions": [one], **changed}


def one(**changed):
    return request(versions=[{**request()["versions"][0], **changed}])


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (one(version=0), "versions[0].version: Input should be greater than or equal to 1, not 0"),
        (one(role="boss"), "versions[0].role: Input should be 'live', 'candidate', 'previous' or 'kept', not 'boss'"),
        (one(weight=-1), "versions[0].weight: Input should be greater than or equal to 0, not -1"),
        (one(digest="abc"), "versions[0].digest: String should match pattern '^sha256:[0-9a-f]{64}$', not 'abc'"),
        (one(addresses=["pod-1"]), "versions[0].addresses[0]: value is not a valid IPv4 or IPv6 address, not 'pod-1'"),
        (one(colour="red"), "versions[0].colour: Extra inputs are not permitted, not 'red'"),
        (request(model=""), "model: String should match pattern"),
        (request(timeoutSeconds=0), "timeoutSeconds: Input should be greater than 0, not 0"),
        (request(retries=1.5), "retries: Input should be a valid integer"),
        (request(sticky={"header": "a b"}), "sticky.header: String should match pattern"),
        (request(monitoring={"sampleRatio": 2}), "monitoring.sampleRatio: Input should be less than or equal to 1, not 2"),
        (request(versions=request()["versions"] * 2), "versions: version 3 is named 2 times; it may be named once"),
        (
            request(versions=[one(version=number)["versions"][0] for number in (1, 2)]),
            "versions: 2 have the role 'live'; one at most may have it",
        ),
        ({"versions": []}, "model: Field required"),
        ([], "Input should be an object"),
    ],
)
def test_a_bad_sync_is_refused_by_field(bad, words):
    with pytest.raises(sync.BadSync, match=re.escape(words)):
        sync.parse(json.dumps(bad))


def test_the_contracts_example_is_taken():
    example = json.loads(re.search(r"```json\n(.+?)```", CONTRACT.read_text(), re.DOTALL)[1].replace("sha256:…", DIGEST))
    found = sync.parse(json.dumps({**example, "peers": ["10.0.0.7", "fd00::1"]}))
    assert [one.version for one in found.versions] == [3, 4]
    assert sync.parse(found.model_dump_json(by_alias=True)) == found
    assert sync.parse(json.dumps({**example, "sticky": None})).sticky is None


async def test_a_refused_sync_changes_nothing(backend, gateway, tmp_path):
    server = await backend("torchserve")
    front = await gateway("torchserve")
    made = publish(tmp_path, "torchserve", 1)
    await front.sync([version(1, made, server)])
    for bad in (b"{", json.dumps({"model": MODEL, "versions": [{**version(2, made), "weight": -3}]}).encode()):
        async with front.session.put(f"{front.operations}/sync", data=bad) as answer:
            assert answer.status == 422
            assert (await answer.json())["fields"]
    assert (await front.ask())[2]["x-trainwright-version"] == "1"


async def test_the_answer_is_as_the_contract_says(backend, gateway, tmp_path):
    server = await backend("torchserve")
    front = await gateway("torchserve")
    versions = [version(1, publish(tmp_path, "torchserve", 1), server)]
    await front.sync(versions)
    await front.ask()

    async def complete():
        found = await front.sync(versions)
        one = found["versions"]["1"]
        return found if one["smoke"]["state"] == "passed" and one["window"]["predictions"] else None

    found = await eventually(complete)
    assert found["instance"] == front.environment["TRAINWRIGHT_POD_NAME"]
    assert set(found) == {"instance", "since", "versions", "monitoring"}
    one = found["versions"]["1"]
    assert set(one) == {"available", "why", "warmed", "smoke", "window"}
    assert (one["available"], one["why"], one["warmed"]) == (True, None, True)
    assert set(one["smoke"]) == {"state", "message", "samples", "maxDifference"}
    window = one["window"]
    assert (window["id"], window["requests"], window["errors"], window["notFinite"]) == ("w1", 1, 0, 0)
    assert window["latency"]["bounds"] == list(BOUNDS) == sorted(BOUNDS)
    assert (BOUNDS[0], BOUNDS[-1], len(BOUNDS)) == (0.0005, 60, 60)
    assert len(window["latency"]["counts"]) == 61
    assert sum(window["latency"]["counts"]) == 1
    assert sum(window["predictions"]["counts"].values()) == 1
    assert found["monitoring"] == {"version": 1, "samples": 1, "drift": None, "labels": None}


async def test_only_who_has_the_token_may_sync(gateway, tmp_path):
    front = await gateway("torchserve", TRAINWRIGHT_ADMIN_TOKEN_SHA256=hashlib.sha256(b"secret").hexdigest())
    body = {"model": MODEL, "versions": []}
    for headers, status in (
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic secret"}, 401),
        ({"Authorization": "Bearer secret"}, 200),
    ):
        async with front.session.put(f"{front.operations}/sync", json=body, headers=headers) as answer:
            assert answer.status == status, headers


async def test_the_last_sync_is_read_from_its_file_at_the_start(backend, gateway, tmp_path):
    server = await backend("torchserve")
    path = tmp_path / "routes.json"
    path.write_text(json.dumps({"model": MODEL, "versions": [version(1, publish(tmp_path, "torchserve", 1), server)]}))
    front = await gateway("torchserve", TRAINWRIGHT_ROUTES=str(path))
    assert (await front.get("/readyz"))[0] == 200
    assert (await front.ask())[0] == 200


@pytest.mark.parametrize("content", ["{", '{"model": "m", "versions": [{"version": "x"}]}'])
async def test_a_damaged_file_of_routes_is_said_and_not_fatal(gateway, tmp_path, content):
    path = tmp_path / "routes.json"
    path.write_text(content)
    front = await gateway("torchserve", TRAINWRIGHT_ROUTES=str(path))
    assert any("routes.json can't be used" in line for line in front.log)
    assert (await front.get("/readyz"))[0] == 503
    assert (await front.ask())[0] == 503


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"TRAINWRIGHT_SERVER": "nginx"}, "TRAINWRIGHT_SERVER is 'nginx'; it must be one of tfserving, torchserve, sklearn"),
        ({"TRAINWRIGHT_MODELS": ""}, "TRAINWRIGHT_MODELS is not set"),
        ({"TRAINWRIGHT_POD_IP": "here"}, "TRAINWRIGHT_POD_IP is 'here'; it must be an IP address"),
        ({"TRAINWRIGHT_MAX_BODY_BYTES": "many"}, "TRAINWRIGHT_MAX_BODY_BYTES is 'many'; it must be a number of at least 1"),
        ({"TRAINWRIGHT_ADMIN_TOKEN_SHA256": "x"}, "TRAINWRIGHT_ADMIN_TOKEN_SHA256 must be the sha256"),
    ],
)
def test_a_wrong_environment_ends_it_with_words(changed, words):
    told = {**Gateway("sklearn", Path("/models")).environment, **changed}
    program = str(Path(sys.executable).with_name("trainwright-gateway"))
    ended = subprocess.run([program], env={**os.environ, **told}, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert (
        "TRAINWRIGHT_ROUTES" in subprocess.run([program, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    )
