"""Who may tell a gateway what to do, on a whole twin: its operator alone, also when the operator's key is another one."""

from __future__ import annotations

import secrets

import aiohttp
import pytest

from support.artifacts import samples
from support.jobs import SAMPLES, succeeded
from support.load import load
from support.serving_twin import Served
from support.twin import RunningTwin
from support.waiting import eventually

NAME = "cancer"
NOTHING = {"model": NAME, "versions": []}


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_only_the_operator_is_heard_and_another_key_costs_no_request(twin: RunningTwin, space: str) -> None:
    twin.kubectl("apply", "-n", space, "-f", SAMPLES / "serve-sklearn.yaml")
    served = Served(twin, space, NAME)
    await succeeded(twin, space, "cancer-1")
    await served.reaches(lambda now: now.get("live") == 1, "live")
    inputs = samples(served.workspace("cancer-1") / "artifacts")["inputs"]
    body = {"inputs": [{"name": name, "shape": [1], "datatype": "FP64", "data": [values[0]]} for name, values in inputs.items()]}
    path = f"/v2/models/{NAME}/infer"
    (place,) = served.gateways()
    operations = place.replace(":8080", ":9400")
    (pod,) = served.pods("gateway")
    variables = {one["name"]: one.get("value", "") for one in pod["spec"]["containers"][0]["env"]}
    known = variables["TRAINWRIGHT_ADMIN_TOKEN_SHA256"]
    async with aiohttp.ClientSession() as session:
        # What anybody can read of the pod is of no use.
        for headers in ({}, {"Authorization": f"Bearer {known}"}, {"Authorization": f"Bearer {secrets.token_hex(32)}"}):
            async with session.put(f"{operations}/sync", json=NOTHING, headers=headers) as answer:
                assert answer.status == 401
            async with session.post(f"{place}{path}", json=body) as answer:
                assert (answer.status, answer.headers["x-trainwright-version"]) == (200, "1")

    key = twin.twin.state / "gateway.key"
    before = key.read_bytes()
    async with load(served.gateways, path, [body], clients=2, pause=0.05, again=True) as clients:
        try:
            key.write_text(secrets.token_hex(32))
            await twin.twin.restart_operator()

            def rolled() -> bool:
                pods = served.pods("gateway")
                return len(pods) == 1 and pods[0]["metadata"]["uid"] != pod["metadata"]["uid"]

            await eventually(rolled, within=90, every=0.5, what="a gateway that knows the new key")
            status = await served.reaches(lambda now: now.get("gateways") == "1/1" and now.get("phase") == "Live", "all is well")
            before_that = clients.total
            await eventually(lambda: clients.total > before_that + 20, within=30, what="it answers")
        finally:
            key.write_bytes(before)
            await twin.twin.restart_operator()
    assert status["live"] == 1
    assert clients.failures == []
    assert set(clients.answers) == {"1"}
