"""Traffic that the cluster's Gateway API splits, on a whole twin: the API comes and goes, and a canary is carried by the route.

The API server has HTTPRoutes by their published schema; a Gateway there is none, so the test's clients do what one does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from support import http_route
from support.artifacts import resealed, samples
from support.jobs import SAMPLES, succeeded
from support.serving_twin import Served
from support.twin import RunningTwin
from support.waiting import eventually

NAME = "cancer"
ROUTE = "httproutes.gateway.networking.k8s.io"
PATH = f"/v2/models/{NAME}/infer"


@pytest.fixture
def without_gateway_api(twin: RunningTwin) -> Iterator[None]:
    """None at first, and none is left."""
    yield
    twin.kubectl("delete", "crd", http_route.NAME, "--ignore-not-found")


def routes(twin: RunningTwin, space: str) -> list[dict[str, Any]]:
    found = twin.kubectl.run("get", ROUTE, "-n", space, "-o", "json")
    return list(json.loads(found.stdout)["items"]) if found.returncode == 0 else []


def weights(twin: RunningTwin, space: str) -> dict[str, int]:
    """By what the route says to the gateway."""
    (route,) = [one for one in routes(twin, space) if one["metadata"]["name"] == f"{NAME}-gateway"]
    (rule,) = route["spec"]["rules"]
    (said,) = [[one["filters"][0]["requestHeaderModifier"]["set"][0] for one in rule["backendRefs"]]]
    assert {one["name"] for one in said} == {"x-trainwright-route"}
    return {one["value"]: backend["weight"] for one, backend in zip(said, rule["backendRefs"], strict=True)}


@contextlib.asynccontextmanager
async def clients(twin: RunningTwin, space: str, served: Served, body: Any) -> AsyncIterator[Counter[tuple[str, str]]]:
    """Requests through the route, as it was when they looked last; counted by what the route chose, and who answered."""
    counted: Counter[tuple[str, str]] = Counter()
    places = served.gateways()
    stop = asyncio.Event()
    current = routes(twin, space)[0]

    async def look() -> None:
        nonlocal current
        while not stop.is_set():
            await asyncio.sleep(1.0)
            with contextlib.suppress(IndexError):
                current = (await asyncio.to_thread(routes, twin, space))[0]

    async def ask(session: aiohttp.ClientSession) -> None:
        while not stop.is_set():
            headers, backend = http_route.header_of(current)
            assert backend == f"{NAME}-gateway"
            async with session.post(f"{places[0]}{PATH}", json=body, headers=headers) as answer:
                assert answer.status == 200, await answer.text()
                counted[headers["x-trainwright-route"], answer.headers["x-trainwright-version"]] += 1
            await asyncio.sleep(0.03)

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        group.create_task(look())
        group.create_task(ask(session))
        try:
            yield counted
        finally:
            stop.set()


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_route_follows_a_canary_and_the_gateway_api_may_come_and_go(
    twin: RunningTwin, space: str, without_gateway_api: None
) -> None:
    twin.kubectl("apply", "-n", space, "-f", SAMPLES / "serve-sklearn.yaml")
    served = Served(twin, space, NAME)
    route = {"parent": {"name": "front", "namespace": "edge"}, "hostnames": ["*.example.com"]}
    refused = twin.kubectl.run(
        *("patch", "md", NAME, "-n", space, "--type=merge", "-p"),
        json.dumps({"spec": {"gateway": {"httpRoute": route, "stickyHeader": "x-user"}}}),
    )
    assert "leave httpRoute or stickyHeader out" in refused.stderr
    served.change(
        gateway={"httpRoute": route},
        canary={"steps": [{"weight": 50, "holdSeconds": 4, "minRequests": 30}], "maxLatencyRatio": 50},
    )
    await succeeded(twin, space, "cancer-1")
    status = await served.reaches(
        lambda now: now.get("live") == 1 and "Gateway API" in now.get("reason", ""), "live, and there is no Gateway API"
    )
    assert "this cluster has no Gateway API" in status["reason"]

    # Installed while the operator runs; and a route of somebody else's is nobody's to change.
    twin.kubectl("apply", "-f", "-", stdin=json.dumps(http_route.definition()))
    twin.kubectl("wait", "crd", http_route.NAME, "--for=condition=Established")
    theirs = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "theirs"},
        "spec": {"rules": [{"backendRefs": [{"name": "web", "port": 80}]}]},
    }
    await eventually(
        lambda: twin.kubectl.run("apply", "-n", space, "-f", "-", stdin=json.dumps(theirs)).returncode == 0, within=20, every=0.5
    )
    await eventually(lambda: len(routes(twin, space)) == 2, within=40, every=0.5, what="the route is made")
    (made,) = [one for one in routes(twin, space) if one["metadata"]["name"] == f"{NAME}-gateway"]
    assert made["spec"]["parentRefs"][0] | {"group": "", "kind": ""} == {**route["parent"], "group": "", "kind": ""}
    assert made["spec"]["hostnames"] == ["*.example.com"]
    assert weights(twin, space) == {"1": 100}
    await served.reaches(lambda now: "Gateway API" not in now.get("reason", ""), "nothing is lacking any more")

    good = served.workspace("cancer-1") / "artifacts"
    resealed(good, "again", facts={"step": 2})
    inputs = samples(good)["inputs"]
    body = {"inputs": [{"name": name, "shape": [1], "datatype": "FP64", "data": [values[0]]} for name, values in inputs.items()]}
    twin.kubectl("delete", ROUTE, "theirs", "-n", space)
    async with clients(twin, space, served, body) as counted:
        served.change(offers=[{"name": "again", "claim": "cancer-1-workspace", "path": "again"}])
        await served.reaches(lambda now: now.get("candidate", {}).get("step") == "Canary", "a canary")
        await eventually(lambda: weights(twin, space) == {"1": 50, "2": 50}, within=20, every=0.2, what="the route splits")
        await served.reaches(lambda now: now.get("live") == 2, "live")
        await eventually(lambda: weights(twin, space) == {"2": 100}, within=20, every=0.2, what="all is the new version's")
        await eventually(lambda: counted["2", "2"] > 30, within=30, what="it answers")
    assert counted["2", "1"] == 0, "what the route chose has answered"
    assert counted["1", "1"] > 0

    # Not wanted any more: gone. Wanted again, and the kind taken away: said.
    served.change(gateway={"httpRoute": None})
    await eventually(lambda: routes(twin, space) == [], within=20, every=0.5, what="the route is removed")
    served.change(gateway={"httpRoute": route})
    await eventually(lambda: weights(twin, space) == {"2": 100}, within=20, every=0.5, what="and made again")
    twin.kubectl("delete", "crd", http_route.NAME)
    await served.reaches(lambda now: "no Gateway API" in now.get("reason", ""), "the kind is gone", within=60)
    assert served.status()["live"] == 2
