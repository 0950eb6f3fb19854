"""Two gateways and two servers, on a whole twin: they say the same, they stand in for each other, and what they saw is added up."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any

import aiohttp
import pytest

from support.artifacts import resealed, samples
from support.jobs import SAMPLES, succeeded
from support.load import load
from support.serving_twin import Served
from support.twin import RunningTwin
from support.waiting import eventually

NAME = "cancer"
PATH = f"/v2/models/{NAME}/infer"
USERS = [f"user-{number}" for number in range(40)]


def bodies(recorded: dict[str, Any]) -> list[Any]:
    return [
        {
            "inputs": [
                {"name": name, "shape": [1], "datatype": "FP64", "data": [values[row]]}
                for name, values in recorded["inputs"].items()
            ]
        }
        for row in range(20)
    ]


async def versions_of(session: aiohttp.ClientSession, place: str, body: Any) -> dict[str, str]:
    """Which version each user gets from one gateway."""

    async def one(user: str) -> str:
        async with session.post(f"{place}{PATH}", json=body, headers={"x-user": user}) as answer:
            assert answer.status == 200, await answer.text()
            return answer.headers["x-trainwright-version"]

    return {user: await one(user) for user in USERS}


async def both(session: aiohttp.ClientSession, served: Served, body: Any) -> dict[str, str]:
    """The same, once both gateways say the same: they hear of a new weight one after the other."""
    found: dict[str, str] = {}

    async def agree() -> bool:
        first, second = [await versions_of(session, place, body) for place in served.gateways()]
        found.update(first)
        return first == second

    await eventually(agree, within=30, what="both gateways give each user the same version")
    return found


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_two_gateways_and_two_servers_are_one_model(twin: RunningTwin, space: str) -> None:
    twin.kubectl("apply", "-n", space, "-f", SAMPLES / "serve-sklearn.yaml")
    served = Served(twin, space, NAME)
    served.change(
        gateway={"replicas": 2, "stickyHeader": "x-user"},
        replicas=2,
        monitoring={"minSamples": 10},
        canary={
            "steps": [{"weight": 20, "holdSeconds": 8, "minRequests": 20}, {"weight": 60, "holdSeconds": 600, "minRequests": 20}],
            "maxLatencyRatio": 50,
        },
    )
    await succeeded(twin, space, "cancer-1")
    await served.reaches(lambda now: now.get("live") == 1 and now.get("gateways") == "2/2", "live, with both gateways")
    good = served.workspace("cancer-1") / "artifacts"
    resealed(good, "again", facts={"step": 2})
    recorded = samples(good)
    requests = bodies(recorded)

    async with aiohttp.ClientSession() as session:
        async with load(served.gateways, PATH, requests, clients=2, pause=0.05, again=True) as clients:
            served.change(offers=[{"name": "again", "claim": "cancer-1-workspace", "path": "again"}])
            await served.reaches(lambda now: (now.get("candidate") or {}).get("weight") == 20, "a canary at 20 %")
            few = await both(session, served, requests[0])
            await served.reaches(lambda now: (now.get("candidate") or {}).get("weight") == 60, "a canary at 60 %")
            many = await both(session, served, requests[0])
            assert {user for user in USERS if few[user] == "2"} <= {user for user in USERS if many[user] == "2"}
            assert "1" in many.values()
            assert "2" in many.values()

            # One of two gateways and one of two servers die.
            for role, version in (("gateway", None), ("server", 1), ("server", 2)):
                pod = served.pods(role, version)[0]
                victims = [pid for pid in served.processes(role, version) if marked_by(pid, pod["metadata"]["uid"])]
                assert victims
                before = clients.total
                for pid in victims:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                await eventually(lambda before=before: clients.total > before + 40, within=60, what="clients go on")
            assert clients.failures == []
        await served.reaches(lambda now: now.get("gateways") == "2/2", "both gateways are back")
        assert await both(session, served, requests[0]) == many, "nobody has lost their version over it"

        # What both saw is added up.
        told, shown = await counts(session, served), await at_rest(served)
        async with load(served.gateways, PATH, requests, clients=2, pause=0.02) as more:
            await eventually(lambda: more.answers["2"] > 60, within=60, what="requests")
        after = await counts(session, served)
        assert all(new > old for old, new in zip(told, after, strict=True)), "both were asked"
        await served.reaches(lambda now: figure(now) > shown, "more requests in status", within=30)
        assert await at_rest(served) - shown == sum(after) - sum(told) == more.answers["2"]

        # A label told to the gateway that did not answer.
        served.change(promote=2)
        await served.reaches(lambda now: now.get("live") == 2, "live")
        for number in range(60):
            place, other = served_pair(served, number)
            async with session.post(f"{place}{PATH}", json=requests[number % 20]) as answer:
                outputs = {one["name"]: one["data"] for one in (await answer.json())["outputs"]}
                name = answer.headers["x-request-id"]
            label = {"id": name, "label": outputs["prediction"][0]}
            async with session.post(f"{other}/feedback", json=label) as answer:
                assert answer.status == 200, await answer.text()
            async with session.post(f"{place}/feedback", json=label) as answer:
                assert answer.status == 409, "counted once, wherever it is told"
        status = await served.reaches(lambda now: (now.get("labels") or {}).get("labelled") == 60, "all labels are counted")
        assert status["labels"]["value"] == 1.0


async def counts(session: aiohttp.ClientSession, served: Served) -> list[int]:
    """Predictions of version 2, by gateway."""
    return [(await asked(session, place)).get("2", 0) for place in served.gateways()]


def figure(now: dict[str, Any]) -> int:
    """Requests of version 2 in this step, as status has them."""
    found = (now.get("candidate") or {}).get("figures") or []
    return next((one["requests"] for one in found if one["version"] == 2), 0)


async def at_rest(served: Served) -> int:
    """The figure once it has stayed as it is for longer than it may lag behind."""
    seen, since = -1, 0.0

    def unchanged() -> bool:
        nonlocal seen, since
        if (now := figure(served.status())) != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since > 5

    await eventually(unchanged, within=60, every=0.5, what="the figures come to rest")
    return seen


_PLACES: dict[str, list[str]] = {}


def served_pair(served: Served, number: int) -> tuple[str, str]:
    """The two gateways, in turn; looked up once."""
    if served.space not in _PLACES:
        _PLACES[served.space] = served.gateways()
    first, second = _PLACES[served.space]
    return (first, second) if number % 2 else (second, first)


def marked_by(pid: int, uid: str) -> bool:
    try:
        return uid.encode() in open(f"/proc/{pid}/environ", "rb").read()
    except OSError:
        return False


async def asked(session: aiohttp.ClientSession, place: str) -> dict[str, int]:
    """Predictions by version, as a gateway's own metrics have them."""
    async with session.get(f"{place.rsplit(':', 1)[0]}:9400/metrics") as answer:
        text = await answer.text()
    found: dict[str, int] = {}
    for line in text.splitlines():
        if line.startswith("trainwright_serving_requests_total{"):
            version = line.split('version="')[1].split('"')[0]
            found[version] = found.get(version, 0) + int(float(line.rsplit(" ", 1)[1]))
    return found
