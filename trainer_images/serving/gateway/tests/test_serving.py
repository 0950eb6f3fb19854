"""A client's requests, by each server's own protocol."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter

from published import body_of, path_of, publish, rows
from world import UNCHECKED, Backend, eventually, version


async def test_a_request_reaches_the_version_and_comes_back_as_the_server_answers(server, backend, gateway, tmp_path):
    one = await backend(server)
    front = await gateway(server)
    await front.sync([version(1, publish(tmp_path, server, 1), one)])
    status, answer, headers = await front.ask(x_custom="kept", x_request_id="theirs")
    assert status == 200
    assert "outputs" in answer
    assert headers["x-trainwright-version"] == "1"
    assert headers["x-server"] == one.host
    seen = next(found for _, found in one.answered if found.get("x-custom") == "kept")
    assert seen["x-request-id"] == headers["x-request-id"] != "theirs"
    assert seen["Host"].startswith(one.host)


async def test_metadata_and_other_protocol_paths_are_passed_on(backend, gateway, tmp_path):
    one = await backend("tfserving")
    front = await gateway("tfserving")
    await front.sync([version(1, publish(tmp_path, "tfserving", 1), one)])
    status, text = await front.get("/v1/models/churn", port=front.clients)
    assert status == 200
    assert json.loads(text)["model_version_status"][0]["version"] == "1"


async def test_wrong_paths_and_models_are_told_what_is_accepted(server, backend, gateway, tmp_path):
    front = await gateway(server)
    status, answer, headers = await front.ask()
    assert (status, headers["Retry-After"]) == (503, "1")
    assert "hasn't been told any version" in answer["error"]
    await front.sync([])
    status, answer, headers = await front.ask()
    assert (status, answer["error"], headers["Retry-After"]) == (503, "churn has no live version yet", "1")
    await front.sync([version(1, publish(tmp_path, server, 1), await backend(server))])
    status, answer, _ = await front.ask(path="/predict")
    assert status == 404
    assert path_of(server) in answer["error"]
    status, answer, _ = await front.ask(path=path_of(server, "other"))
    assert status == 404
    assert "'other'" in answer["error"]
    assert "'churn'" in answer["error"]
    status, answer, _ = await front.ask(x_trainwright_version="9")
    assert status == 404
    assert "versions 1" in answer["error"]


async def test_what_an_httproute_chose_is_followed_while_it_is_no_old_news(backend, gateway, tmp_path):
    first, second = publish(tmp_path, "torchserve", 1), publish(tmp_path, "torchserve", 2)
    one, two = await backend("torchserve"), await backend("torchserve", 2)
    front = await gateway("torchserve")

    async def answers(**headers):
        return {(await front.ask(**headers))[2]["x-trainwright-version"] for _ in range(30)}

    live, canary = version(1, first, one, weight=50), version(2, second, two, role="candidate", weight=50)
    await front.sync([live, canary], check=UNCHECKED)
    assert await answers() == {"1", "2"}
    assert await answers(x_trainwright_route="2") == {"2"}
    assert await answers(x_trainwright_route="1") == {"1"}
    assert await answers(x_trainwright_route="2", x_trainwright_version="1") == {"1"}, "a client's own choice is before it"
    assert await answers(x_trainwright_route="nine") == {"1", "2"}
    await two.stop()
    assert await answers(x_trainwright_route="2") == {"1"}, "the live version answers in place of a candidate that doesn't"
    await front.sync([version(1, first, one, weight=100)], check=UNCHECKED)
    assert await answers(x_trainwright_route="2") == {"1"}, "the route has not heard yet that the candidate is gone"
    assert all("x-trainwright-route" not in found for _, found in one.answered)


async def test_a_body_over_the_limit_is_refused_with_413(backend, gateway, tmp_path):
    one = await backend("torchserve")
    front = await gateway("torchserve", TRAINWRIGHT_MAX_BODY_BYTES="1000")
    await front.sync([version(1, publish(tmp_path, "torchserve", 1), one)])
    status, answer, _ = await front.ask(b"x" * 1001)
    assert status == 413
    assert "1000 bytes" in answer["error"]

    async def chunks():
        for _ in range(20):
            yield b"x" * 100

    async with front.session.post(f"{front.clients}/predictions/churn", data=chunks()) as late:
        assert late.status == 413
    assert (await front.ask())[0] == 200


async def test_weights_a_sticky_header_and_a_pin_choose_the_version(backend, gateway, tmp_path):
    live, candidate = await backend("torchserve", 1), await backend("torchserve", 2)
    front = await gateway("torchserve")
    made = {number: publish(tmp_path, "torchserve", number) for number in (1, 2)}

    def versions(weight: int):
        return [
            version(1, made[1], live, weight=100 - weight),
            version(2, made[2], candidate, role="candidate", weight=weight),
        ]

    await front.sync(versions(30), sticky={"header": "x-user"})
    chosen = Counter([(await front.ask())[2]["x-trainwright-version"] for _ in range(400)])
    assert 60 < chosen["2"] < 180
    on_canary = {user for user in range(100) if (await front.ask(x_user=str(user)))[2]["x-trainwright-version"] == "2"}
    assert 10 < len(on_canary) < 55
    await front.sync(versions(70), sticky={"header": "x-user"})
    later = {user for user in range(100) if (await front.ask(x_user=str(user)))[2]["x-trainwright-version"] == "2"}
    assert on_canary < later
    assert {(await front.ask(x_trainwright_version="1"))[2]["x-trainwright-version"] for _ in range(20)} == {"1"}


async def test_requests_take_turns_over_a_versions_addresses_and_leave_out_one_that_is_gone(backend, gateway, tmp_path):
    pods = [await backend("torchserve") for _ in range(3)]
    front = await gateway("torchserve")
    await front.sync([version(1, publish(tmp_path, "torchserve", 1, samples=None), *pods)], check=UNCHECKED)
    for _ in range(30):
        await front.ask()
    assert [len(one.answered) for one in pods] == [10, 10, 10]
    await pods[0].stop()
    assert [(await front.ask())[0] for _ in range(10)] == [200] * 10


async def test_a_request_is_tried_again_elsewhere_after_a_reset_or_a_busy_answer(backend, gateway, tmp_path):
    good, bad = await backend("torchserve"), await backend("torchserve")
    front = await gateway("torchserve")
    await front.sync([version(1, publish(tmp_path, "torchserve", 1), good, bad)])
    for mode in ("reset", "503"):
        bad.mode, bad.asked = mode, 0
        assert [(await front.ask())[0] for _ in range(20)] == [200] * 20
        assert bad.asked, mode


async def test_a_busy_answer_from_all_addresses_reaches_the_client_after_the_retries(backend, gateway, tmp_path):
    one = await backend("torchserve")
    front = await gateway("torchserve")
    await front.sync([version(1, publish(tmp_path, "torchserve", 1), one)], retries=3)
    one.mode, one.asked = "503", 0
    status, answer, _ = await front.ask()
    assert (status, answer) == (503, {"error": "busy"})
    found = await front.sync([version(1, publish(tmp_path, "torchserve", 1), one)], retries=3)
    assert found["versions"]["1"]["window"]["errors"] == 1


async def test_a_restart_of_the_only_address_loses_no_request(server, backend, gateway, tmp_path):
    one = await backend(server)
    front = await gateway(server)
    await front.sync([version(1, publish(tmp_path, server, 1), one)], check=UNCHECKED)
    one.mode = "slow"
    asked = [asyncio.create_task(front.ask()) for _ in range(5)]
    await eventually(lambda: one.asked >= 5)
    await one.stop()
    later = [asyncio.create_task(front.ask()) for _ in range(5)]
    again = Backend(server, host=one.host)
    await eventually(lambda: any("doesn't answer" in line for line in front.log))
    await again.start()
    try:
        assert [status for status, _, _ in await asyncio.gather(*asked, *later)] == [200] * 10
    finally:
        await again.stop()


async def test_a_candidate_that_fails_costs_it_an_error_and_the_client_nothing(backend, gateway, tmp_path):
    live, candidate = await backend("torchserve", 1), await backend("torchserve", 2)
    front = await gateway("torchserve")
    versions = [
        version(1, publish(tmp_path, "torchserve", 1), live, weight=0),
        version(2, publish(tmp_path, "torchserve", 2), candidate, role="candidate", weight=100),
    ]
    await front.sync(versions)
    assert (await front.ask())[2]["x-trainwright-version"] == "2"
    candidate.mode = "503"
    status, _, headers = await front.ask()
    assert (status, headers["x-trainwright-version"]) == (200, "1")
    await candidate.stop()
    status, _, headers = await front.ask()
    assert (status, headers["x-trainwright-version"]) == (200, "1")
    status, answer, _ = await front.ask(x_trainwright_version="2")
    assert status == 503
    assert "version 2 of churn doesn't answer" in answer["error"]
    seen = (await front.sync(versions))["versions"]
    assert seen["2"]["window"]["requests"] == 4
    assert seen["2"]["window"]["errors"] == 3
    assert not seen["2"]["available"]
    assert "refused" in seen["2"]["why"]
    assert seen["1"]["window"]["errors"] == 0
    page = (await front.get("/metrics"))[1]
    assert 'trainwright_serving_fallbacks_total{deployment="churn",namespace="ml",version="2"} 2.0' in page
    assert 'trainwright_serving_fallbacks_total{deployment="churn",namespace="ml",version="1"} 0.0' in page


async def test_a_silent_server_costs_the_time_limit_and_no_more(backend, gateway, tmp_path):
    one = await backend("torchserve")
    front = await gateway("torchserve")
    await front.sync([version(1, publish(tmp_path, "torchserve", 1), one)], timeoutSeconds=0.3)
    one.mode = "slow"
    status, answer, _ = await front.ask()
    assert status == 504
    assert "no answer in time" in answer["error"]


async def test_a_version_that_leaves_finishes_what_it_was_asked(backend, gateway, tmp_path):
    old, new = await backend("torchserve", 1), await backend("torchserve", 2)
    front = await gateway("torchserve")
    made = {number: publish(tmp_path, "torchserve", number) for number in (1, 2)}
    await front.sync([version(1, made[1], old)])
    await eventually(lambda: len(old.answered) > 20)
    old.mode, before = "slow", old.asked
    asked = asyncio.create_task(front.ask())
    await eventually(lambda: old.asked > before)
    await front.sync([version(2, made[2], new)])
    assert (await front.ask())[2]["x-trainwright-version"] == "2"
    assert not asked.done()
    old.release.set()
    status, _, headers = await asked
    assert (status, headers["x-trainwright-version"]) == (200, "1")


async def test_a_version_killed_right_after_a_switch_loses_no_request(backend, gateway, tmp_path):
    old, new = await backend("torchserve", 1), await backend("torchserve", 2)
    front = await gateway("torchserve")
    made = {number: publish(tmp_path, "torchserve", number) for number in (1, 2)}
    await front.sync([version(1, made[1], old)], check=UNCHECKED)
    old.mode = "slow"
    asked = asyncio.create_task(front.ask())
    await eventually(lambda: old.asked)
    await front.sync([version(2, made[2], new)])
    await old.stop()
    status, _, headers = await asked
    assert (status, headers["x-trainwright-version"]) == (200, "2")


async def test_a_gateway_that_ends_finishes_what_is_in_flight(backend, gateway, tmp_path):
    one = await backend("torchserve")
    front = await gateway("torchserve", TRAINWRIGHT_DRAIN_SECONDS="1")
    await front.sync([version(1, publish(tmp_path, "torchserve", 1), one)], check=UNCHECKED)
    assert (await front.get("/readyz"))[0] == 200
    one.mode = "slow"
    asked = [asyncio.create_task(front.ask()) for _ in range(3)]
    await eventually(lambda: one.asked >= 3)
    front.process.send_signal(signal.SIGTERM)

    async def not_ready():
        return (await front.get("/readyz"))[0] == 503

    await eventually(not_ready)
    assert (await front.get("/healthz"))[0] == 200
    await eventually(lambda: any("in flight" in line for line in front.log))
    assert front.process.returncode is None
    one.release.set()
    assert [status for status, _, _ in await asyncio.gather(*asked)] == [200] * 3
    assert await front.process.wait() == 0


async def test_no_request_fails_while_versions_switch_weights_change_and_servers_restart(backend, gateway, tmp_path):
    first, second, third = [await backend("torchserve", number) for number in (1, 1, 2)]
    front = await gateway("torchserve")
    made = {number: publish(tmp_path, "torchserve", number) for number in (1, 2)}
    await front.sync([version(1, made[1], first, second)])
    done = asyncio.Event()
    statuses: Counter[int] = Counter()
    by_version: Counter[str] = Counter()

    async def client(seed: int) -> None:
        body = body_of("torchserve", *rows(3, seed=seed))
        while not done.is_set():
            status, answer, headers = await front.ask(body)
            statuses[status] += 1
            by_version[headers["x-trainwright-version"]] += 1
            assert len(answer["outputs"]["logits"]) == 3

    clients = [asyncio.create_task(client(seed)) for seed in range(6)]

    async def passed(count: int) -> None:
        wanted = sum(statuses.values()) + count
        await eventually(lambda: sum(statuses.values()) >= wanted or any(one.done() for one in clients), within=60)

    await passed(200)
    restarted = first
    for weight in (10, 50, 100):
        await front.sync(
            [
                version(1, made[1], restarted, second, weight=100 - weight),
                version(2, made[2], third, role="candidate", weight=weight),
            ]
        )
        await passed(200)
        await restarted.stop()
        await passed(50)
        restarted = await backend("torchserve", 1, host=first.host)
    await front.sync([version(2, made[2], third)])
    await passed(100)
    await third.stop()
    third = await backend("torchserve", 2, host=third.host)
    await passed(100)
    done.set()
    await asyncio.gather(*clients)
    assert set(statuses) == {200}
    assert min(by_version["1"], by_version["2"]) > 100
