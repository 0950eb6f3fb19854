"""A real Prometheus beside a model that is really served: what dashboards, rules and alerts about it find."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.jobs import apply, sample, succeeded
from support.load import Load, load
from support.monitoring import expressions, query, recording
from support.twin import RunningTwin, running_twin
from support.waiting import eventually

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

NAME = "digits"
OF = f'namespace="default", deployment="{NAME}"'
NOT_IN_SUCH_A_RUN = {
    "deployment:trainwright_serving_seconds:p99_day": "is of a day that ended an hour ago; its rule is asked of an hour from now",
    'statistic="newCategories"': "is of words, and images have none",
}


@pytest.fixture(scope="module")
def monitored() -> Iterator[RunningTwin]:
    with running_twin(monitoring=True) as twin:
        yield twin


@dataclass(frozen=True)
class Watched:
    """A twin, and a moment (seconds since the epoch) at which its clients were still asking."""

    twin: RunningTwin
    moment: float


@pytest.fixture(scope="module")
def watched(monitored: RunningTwin) -> Watched:
    """A live version and another one in canary that waits for more requests than it will get; clients send pictures, most of them
    darker than those of training, and labels, of which one in five is another than the model's answer."""
    return Watched(monitored, asyncio.run(_story(monitored)))


@pytest.fixture
def served(watched: Watched) -> RunningTwin:
    return watched.twin


async def _story(twin: RunningTwin) -> float:
    await eventually(lambda: query(twin, "trainwright_queue_depth"), within=30)
    deployment = sample("serve-digits")
    steps = [{"weight": 50, "holdSeconds": 0, "minRequests": 100_000}]
    watching = {"windowSeconds": 600, "labelWindowSeconds": 600, "minSamples": 50}
    deployment["spec"] |= {
        "gates": [],
        "monitoring": watching,
        "canary": {"steps": steps, "maxDrift": 1, "maxLatencyRatio": 1000},
    }
    apply(twin, "default", deployment)
    await _train(twin, "first")
    await eventually(lambda: _status(twin).get("live") == 1, within=120, what="the first version is live")
    async with _clients(twin):
        await _train(twin, "second", epochs=3)
        step = lambda: _status(twin).get("candidate", {}).get("step")  # noqa: E731
        await eventually(lambda: step() == "Canary", within=120, what="the second is in canary")
        await eventually(lambda: _missing(twin) == [], within=90, every=1.0, what="every expression finds something")
        return time.time()


def _asked() -> list[str]:
    return expressions("serving", namespace="default", deployment=NAME)


def _missing(twin: RunningTwin, at: float | None = None) -> list[str]:
    usual = [one for one in _asked() if not any(part in one for part in NOT_IN_SUCH_A_RUN)]
    return [one for one in usual if not query(twin, one, at=at)]


async def _train(twin: RunningTwin, name: str, **config: Any) -> None:
    job = sample("publish-digits")
    job["metadata"]["name"] = name
    job["spec"]["recipe"]["config"] = {"epochs": 8, **config}
    job["spec"]["publish"]["gates"] = []
    apply(twin, "default", job)
    await succeeded(twin, "default", name)


def _status(twin: RunningTwin) -> dict[str, Any]:
    status: dict[str, Any] = twin.kubectl.json("get", "md", NAME).get("status", {})
    return status


@contextlib.asynccontextmanager
async def _clients(twin: RunningTwin) -> AsyncIterator[Load]:
    listed = twin.kubectl.json("get", "pods", "-l", f"trainwright.dev/role=gateway,trainwright.dev/deployment={NAME}")
    addresses = [f"http://{pod['status']['podIP']}:8080" for pod in listed["items"]]
    volume = twin.kubectl.json("get", "pvc", f"{NAME}-models")["spec"]["volumeName"]
    models = Path(twin.kubectl.json("get", "pv", volume)["spec"]["hostPath"]["path"])
    ((name, pictures),) = json.loads((models / "records" / "1" / "samples.json").read_text())["inputs"].items()
    bodies = [{"inputs": {name: [_darker(one) if number % 4 else one]}} for number, one in enumerate(pictures)]

    async def label(clients: Load) -> None:
        told = None
        async with aiohttp.ClientSession() as session:
            for number in itertools.count():
                if clients.last is not None and clients.last[0] != told:
                    told, answer = clients.last
                    right = answer["classes"][0]
                    wrong = str((int(right) + 1) % 10)
                    body = {"id": told, "label": right if number % 5 else wrong}
                    async with session.post(f"{addresses[0]}/feedback", json=body) as response:
                        assert response.status == 200, await response.text()
                await asyncio.sleep(0.05)

    async with load(lambda: addresses, f"/predictions/{NAME}", bodies, clients=2, pause=0.05) as clients:
        labels = asyncio.create_task(label(clients))
        try:
            yield clients
        finally:
            labels.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await labels


def _darker(picture: Any) -> Any:
    return [_darker(one) for one in picture] if isinstance(picture, list) else picture * 0.3


def value(twin: RunningTwin, expression: str) -> float:
    (found,) = query(twin, expression)
    return float(found["value"][1])


async def test_every_expression_of_the_dashboard_finds_something(watched: Watched) -> None:
    assert _missing(watched.twin, watched.moment) == []
    assert all(sum(part in one for one in _asked()) == 1 for part in NOT_IN_SUCH_A_RUN)


async def test_it_finds_servers_and_gateways_by_itself_and_knows_whose_they_are(served: RunningTwin) -> None:
    assert value(served, f'up{{job="trainwright-gateways", {OF}}}') == 1
    servers = query(served, f'up{{job="trainwright-servers", {OF}, role="server"}} == 1')
    assert {one["metric"]["version"] for one in servers} == {"1", "2"}
    assert query(served, f'ts_inference_requests_total{{{OF}, version="1"}} > 0'), "TorchServe's own page is read"
    (live,) = query(served, f'trainwright_serving_weight_ratio{{{OF}, role="live"}}')
    assert (live["metric"]["version"], live["value"][1]) == ("1", "0.5")
    assert "exported_role" not in live["metric"]
    assert query(served, 'up{job="trainwright-workers", role=~".+"}') == []


async def test_what_it_tells_is_what_the_status_says(served: RunningTwin) -> None:
    status = _status(served)
    assert value(served, f"trainwright_deployment_live_version{{{OF}}}") == status["live"] == 1
    assert value(served, f"trainwright_deployment_candidate_version{{{OF}}}") == status["candidate"]["version"] == 2
    assert value(served, f"trainwright_serving_drift_score{{{OF}}}") > 0.25
    assert 0.6 < value(served, f'version:trainwright_serving_quality:mean{{{OF}, version="1"}}') < 0.95
    assert value(served, f"trainwright_deployment_canary_missing_requests{{{OF}}}") > 90_000


async def test_every_recording_rule_about_served_models_finds_something(served: RunningTwin) -> None:
    for rule in recording(serving=True):
        (of_a_day,) = [part for part in NOT_IN_SUCH_A_RUN if ":" in part]
        if rule["record"] == of_a_day:
            assert query(served, rule["expr"], at=time.time() + 3600)
        else:
            assert query(served, rule["record"]), rule["record"]


async def test_alerts_about_drift_accuracy_and_a_starving_canary_are_on_their_way(served: RunningTwin) -> None:
    """They fire after a quarter of an hour, as rules.test.yaml shows; here is that real series make them pending."""
    for name in ("InputDrift", "AccuracyFell", "CanaryStarved"):
        found = f'ALERTS{{alertname="Trainwright{name}", {OF}}}'
        await eventually(lambda asked=found: query(served, asked), within=20, what=name)
    assert (
        query(served, f'ALERTS{{alertname=~"TrainwrightModel.*|TrainwrightAnswersNotFinite|TrainwrightVersionStuck", {OF}}}')
        == []
    )


async def test_a_version_that_is_rolled_back_raises_an_alert(served: RunningTwin) -> None:
    fires = f'ALERTS{{alertname="TrainwrightVersionRolledBack", alertstate="firing", {OF}}}'
    assert query(served, fires) == []
    back = served.cli("rollback", NAME)
    assert back.returncode == 0, back.stderr
    await eventually(lambda: query(served, fires), within=60)
