"""What is seen in requests and answers: windows, drift, metrics; and that looking never costs a client anything."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published import COLORS, answer_of, body_of, manifest_of, numeric, path_of, publish, rows
from world import eventually, version

from trainwright_gateway.servers import not_finite
from trainwright_gateway.sync import parse
from trainwright_gateway.watching import Watching


def children(process: int) -> list[int]:
    """Of a process, by the kernel."""
    return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


QUICK = {"minSamples": 50, "windowSeconds": 3600}


async def seen(front, versions, condition, **more):
    """The first answer of /sync that the condition holds for."""

    async def look():
        found = await front.sync(versions, **more)
        return found if condition(found) else None

    return await eventually(look)


def samples(found) -> int:
    return found["monitoring"]["samples"] if found["monitoring"] else 0


async def test_requests_like_those_of_training_are_no_drift_and_others_are(server, backend, gateway, tmp_path):
    one = await backend(server)
    front = await gateway(server)
    versions = [version(1, publish(tmp_path, server, 1), one)]
    await front.sync(versions, monitoring=QUICK)
    await front.ask(body_of(server, *rows(40, seed=2)))
    found = await seen(front, versions, lambda found: samples(found) == 40, monitoring=QUICK)
    assert found["monitoring"]["drift"] is None
    for seed in range(3, 13):
        await front.ask(body_of(server, *rows(100, seed=seed)))
    found = await seen(front, versions, lambda found: samples(found) == 1040, monitoring=QUICK)
    drift = found["monitoring"]["drift"]
    assert set(drift["features"]) == {"age", "income", "color"}
    assert drift["score"] == max(one["psi"] for one in drift["features"].values()) < 0.1
    assert drift["prediction"] < 0.02
    numbers, words = rows(1000, seed=20, shift=2.0)
    await front.ask(body_of(server, numbers, ["green"] * 500 + words[500:]))
    found = await seen(front, versions, lambda found: samples(found) == 2040, monitoring=QUICK)
    drift = found["monitoring"]["drift"]
    assert drift["feature"] in {"age", "color"}
    assert drift["features"]["age"]["psi"] > 0.25
    assert drift["features"]["age"]["ks"] > 0.3
    assert drift["features"]["color"]["newCategories"] == pytest.approx(500 / 2040)
    assert drift["features"]["income"]["psi"] < 0.1
    assert drift["prediction"] > 0.05
    page = (await front.get("/metrics"))[1]
    assert 'statistic="newCategories"' in page
    assert float(re.search(r"trainwright_serving_drift_score{.*} (.+)", page)[1]) > 0.25


async def test_only_the_features_that_moved_most_are_told(backend, gateway, tmp_path):
    one = await backend("torchserve")
    front = await gateway("torchserve")
    versions = [version(1, publish(tmp_path, "torchserve", 1), one)]
    quick = {**QUICK, "topFeatures": 1}
    await front.sync(versions, monitoring=quick)
    await front.ask(body_of("torchserve", *rows(200, shift=3.0)))
    found = await seen(front, versions, lambda found: samples(found) == 200, monitoring=quick)
    assert list(found["monitoring"]["drift"]["features"]) == [found["monitoring"]["drift"]["feature"]] == ["age"]
    assert 'feature="income"' not in (await front.get("/metrics"))[1]


async def test_rows_in_tfservings_other_form_are_read_too(backend, gateway, tmp_path):
    one = await backend("tfserving")
    front = await gateway("tfserving")
    versions = [version(1, publish(tmp_path, "tfserving", 1), one)]
    await front.sync(versions, monitoring=QUICK)
    numbers, words = rows(60)
    await front.ask({"instances": [{"numbers": pair, "words": [word]} for pair, word in zip(numbers, words, strict=True)]})
    found = await seen(front, versions, lambda found: samples(found) == 60, monitoring=QUICK)
    assert set(found["monitoring"]["drift"]["features"]) == {"age", "income", "color"}


async def test_bodies_that_are_none_are_proxied_as_any_and_counted_as_unreadable(server, backend, gateway, tmp_path):
    one = await backend(server)
    front = await gateway(server)
    versions = [version(1, publish(tmp_path, server, 1), one)]
    await front.sync(versions)
    for body in (b"", b"{", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000, json.dumps({"inputs": None}).encode()):
        status, answer, _ = await front.ask(body)
        assert (status, answer) == (400, {"error": "bad input"})
    assert (await front.ask())[0] == 200
    found = await seen(front, versions, lambda found: samples(found) == 1)
    window = found["versions"]["1"]["window"]
    assert (window["requests"], window["errors"]) == (8, 0)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["numbers", "words", "name", "shape", "data", "logits", "prediction", "age"]), inner)
    ),
    max_leaves=12,
)
bodies = st.binary(max_size=20) | st.builds(
    lambda key, value: json.dumps({key: value}).encode(),
    st.sampled_from(["inputs", "instances", "outputs", "predictions"]),
    anything,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies, bodies)
def test_no_body_of_a_client_or_a_server_can_stop_the_watcher(server, tmp_path, asked, answered):
    watching = Watching(server, tmp_path)
    watching.follow(parse(json.dumps({"model": "m", "versions": [version(1, publish(tmp_path, server, 1))]})))
    watching.sample(1, "w1", "a", time.time(), asked, answered)
    watching.sample(1, "w1", "b", time.time(), asked, json.dumps(answer_of(server, body_of(server, *rows(1)), 1)).encode())
    json.dumps(watching.report(), allow_nan=False)
    not_finite(answered)


async def test_a_window_counts_what_clients_saw_and_starts_anew_with_its_id(server, backend, gateway, tmp_path):
    live, candidate = await backend(server, 1), await backend(server, 2)
    if server == "tfserving":
        live.versions = candidate.versions = {1: "AVAILABLE", 2: "AVAILABLE"}
    front = await gateway(server)
    made = {number: publish(tmp_path, server, number) for number in (1, 2)}

    def versions(window):
        return [
            version(1, made[1], live, window=window),
            version(2, made[2], candidate, role="candidate", weight=0, window=window),
        ]

    first = (await front.sync(versions("4.1")))["versions"]
    assert first["1"]["window"]["since"] == first["2"]["window"]["since"]
    for _ in range(5):
        await front.ask()
    await front.ask(body_of(server, [[1e9, 1.0]], ["red"]))
    await front.ask(x_trainwright_version="2")
    candidate.mode = live.mode = "500"
    assert (await front.ask(x_trainwright_version="2"))[0] == 500
    candidate.mode = live.mode = "ok"
    found = await seen(front, versions("4.1"), lambda found: found["versions"]["2"]["window"]["predictions"])
    one, two = (found["versions"][number]["window"] for number in ("1", "2"))
    assert (one["requests"], one["errors"], one["notFinite"]) == (6, 0, 1)
    assert (two["requests"], two["errors"], two["notFinite"]) == (2, 1, 0)
    assert sum(one["latency"]["counts"]) == 6
    found = await seen(
        front, versions("4.1"), lambda found: sum(found["versions"]["1"]["window"]["predictions"]["counts"].values()) >= 5
    )
    assert found["versions"]["1"]["window"]["predictions"]["kind"] == "categorical"
    again = (await front.sync(versions("4.2")))["versions"]
    for number in ("1", "2"):
        window = again[number]["window"]
        assert (window["id"], window["requests"], sum(window["latency"]["counts"]), window["predictions"]) == ("4.2", 0, 0, None)
        assert window["since"] > first[number]["window"]["since"]
    same = (await front.sync(versions("4.2")))["versions"]
    assert same["1"]["window"]["since"] == again["1"]["window"]["since"]


async def test_numbers_are_counted_by_the_live_manifests_edges(backend, gateway, tmp_path):
    one = await backend("sklearn")
    front = await gateway("sklearn")
    about = manifest_of("sklearn")
    about["signature"]["classes"] = []
    about["signature"]["outputs"] = [{"name": "probabilities", "dtype": "float64", "shape": [-1]}]
    about["predictions"] = numeric(np.linspace(0, 10, 100))
    versions = [version(1, publish(tmp_path, "sklearn", 1, manifest=about), one)]

    async def handle(request):
        await request.read()
        return web.json_response({"outputs": [{"name": "y", "shape": [3], "datatype": "FP64", "data": [-5.0, 5.1, 99.0]}]})

    one._handle = handle
    await one.stop()
    await one.start()
    await front.sync(versions)
    await front.ask()
    found = await seen(front, versions, lambda found: found["versions"]["1"]["window"]["predictions"])
    window = found["versions"]["1"]["window"]["predictions"]
    assert window["kind"] == "numeric"
    assert window["edges"] == about["predictions"]["edges"]
    assert len(window["counts"]) == len(window["edges"]) - 1
    assert (window["counts"][0], sum(window["counts"]), window["counts"][-1]) == (1, 3, 1)


async def test_the_page_of_metrics_has_what_the_table_declares(backend, gateway, tmp_path):
    one = await backend("torchserve")
    front = await gateway("torchserve")
    versions = [version(1, publish(tmp_path, "torchserve", 1), one)]
    await front.sync(versions)
    await front.ask()
    await front.ask(b"{")
    await seen(front, versions, lambda found: found["versions"]["1"]["smoke"]["state"] == "passed")
    page = (await front.get("/metrics"))[1]
    of = 'deployment="churn",namespace="ml",version="1"'
    for line in (
        'trainwright_serving_requests_total{code="2xx",deployment="churn",namespace="ml",version="1"} 1.0',
        'trainwright_serving_requests_total{code="4xx",deployment="churn",namespace="ml",version="1"} 1.0',
        f"trainwright_serving_request_seconds_count{{{of}}} 2.0",
        'trainwright_serving_weight_ratio{deployment="churn",namespace="ml",role="live",version="1"} 1.0',
        'trainwright_serving_version_available{deployment="churn",namespace="ml",role="live",version="1"} 1.0',
        'trainwright_serving_smoke_state{deployment="churn",namespace="ml",state="passed",version="1"} 1.0',
        f"trainwright_serving_requests_in_flight{{{of}}} 0.0",
    ):
        assert line in page
    assert "trainwright_serving_feature_drift{" not in page


async def test_a_watcher_that_dies_is_started_again_and_no_client_notices(backend, gateway, tmp_path):
    one = await backend("torchserve")
    front = await gateway("torchserve")
    versions = [version(1, publish(tmp_path, "torchserve", 1), one)]
    await front.sync(versions)
    await front.ask()
    await seen(front, versions, lambda found: samples(found) == 1)
    (watcher,) = children(front.process.pid)
    os.kill(watcher, signal.SIGKILL)
    assert (await front.ask())[0] == 200
    await eventually(lambda: any("the watcher ended" in line for line in front.log))
    await eventually(lambda: children(front.process.pid))

    async def watching():
        assert (await front.ask())[0] == 200
        found = await front.sync(versions)
        return found["monitoring"] and found["monitoring"]["samples"] > 1

    await eventually(watching)


async def test_large_bodies_are_looked_into_beside_the_requests_of_others(backend, gateway, tmp_path):
    one = await backend("torchserve")
    front = await gateway("torchserve")
    versions = [version(1, publish(tmp_path, "torchserve", 1), one)]
    await front.sync(versions, monitoring=QUICK)
    large = body_of("torchserve", *rows(20_000))
    large["inputs"]["words"] = [[COLORS.index("red")]] * 20_000
    statuses = await asyncio.gather(*(front.ask(large) for _ in range(3)), *(front.ask() for _ in range(20)))
    assert {status for status, _, _ in statuses} == {200}
    await seen(front, versions, lambda found: samples(found) == 60_020, monitoring=QUICK)


async def test_a_version_gets_no_other_versions_drift(backend, gateway, tmp_path):
    live, new = await backend("torchserve", 1), await backend("torchserve", 2)
    front = await gateway("torchserve")
    made = {number: publish(tmp_path, "torchserve", number) for number in (1, 2)}
    await front.sync([version(1, made[1], live), version(2, made[2], new, role="candidate", weight=0)], monitoring=QUICK)
    await front.ask(body_of("torchserve", *rows(100)))
    await front.ask(body_of("torchserve", *rows(100)), x_trainwright_version="2")
    versions = [version(1, made[1], live), version(2, made[2], new, role="candidate", weight=0)]
    await seen(front, versions, lambda found: samples(found) == 100, monitoring=QUICK)
    versions = [version(1, made[1], live, role="previous", weight=0), version(2, made[2], new)]
    found = await seen(front, versions, lambda found: found["monitoring"], monitoring=QUICK)
    assert found["monitoring"] == {"version": 2, "samples": 0, "drift": None, "labels": None}
    assert (await front.ask(path=path_of("torchserve")))[2]["x-trainwright-version"] == "2"
