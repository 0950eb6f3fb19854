"""Labels that come later, whichever gateway they come to."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from published import CLASSES, COLORS, body_of, logits, manifest_of, publish, rows
from world import Gateway, eventually, version

SOON = {"minSamples": 1}


async def tell(front: Gateway, body, **headers: str):
    status, answer, _ = await front.ask(body, path="/feedback", **headers)
    return status, answer


async def labels(front, versions, labelled: int, **more):
    async def look():
        found = (await front.sync(versions, monitoring={**SOON, **more}))["monitoring"]
        return found["labels"] if found and found["labels"] and found["labels"]["labelled"] == labelled else None

    return await eventually(look)


async def test_accuracy_is_that_of_the_labelled_rows_with_their_share(server, backend, gateway, tmp_path):
    one = await backend(server)
    front = await gateway(server)
    versions = [version(1, publish(tmp_path, server, 1), one)]
    await front.sync(versions, monitoring=SOON)
    numbers, words = rows(4)
    truth = [CLASSES[at] for at in logits(numbers, [COLORS.index(word) for word in words]).argmax(axis=1)]
    names = [(await front.ask(body_of(server, numbers, words)))[2]["x-request-id"] for _ in range(3)]
    wrong = [CLASSES[1 - CLASSES.index(truth[0])], *truth[1:]]
    assert await tell(front, {"id": names[0], "label": truth}) == (200, {"id": names[0], "rows": 4})
    assert (await tell(front, {"id": names[1], "label": wrong}))[0] == 200
    found = await labels(front, versions, 8)
    assert found == {"labelled": 8, "coverage": pytest.approx(8 / 12), "metric": "accuracy", "value": pytest.approx(7 / 8)}
    page = (await front.get("/metrics"))[1]
    assert 'trainwright_serving_quality{deployment="churn",metric="accuracy",namespace="ml",version="1"} 0.875' in page
    assert 'trainwright_serving_labelled_rows{deployment="churn",namespace="ml",version="1"} 8.0' in page
    assert 'trainwright_serving_feedback_total{deployment="churn",namespace="ml",result="accepted"} 2.0' in page


async def test_what_is_wrong_with_a_label_is_said(backend, gateway, tmp_path):
    one = await backend("torchserve")
    front = await gateway("torchserve")
    versions = [version(1, publish(tmp_path, "torchserve", 1), one)]
    await front.sync(versions)
    name = (await front.ask())[2]["x-request-id"]
    instance, _, _ = name.partition("-")
    for body, status, words in (
        (b"{", 400, "no JSON"),
        ([], 400, "must be"),
        ({"id": name}, 400, "not 'id'"),
        ({"id": 7, "label": "yes"}, 400, "id: 7"),
        ({"id": "abc", "label": "yes"}, 400, "no x-request-id"),
        ({"id": f"{instance}-ffffffffff0-0", "label": "yes"}, 404, "is unknown"),
        ({"id": f"{instance}-1-0", "label": "yes"}, 410, "older than"),
        ({"id": "0a0b0c0d-fffffffffff-0", "label": "yes"}, 404, "isn't known here"),
        ({"id": name, "label": "perhaps"}, 400, "accepted are no, yes"),
        ({"id": name, "label": ["yes", "no"]}, 400, "had 1 rows, here are 2"),
    ):
        found, answer = await tell(front, body)
        assert (found, words in answer["error"]) == (status, True), answer
    assert (await tell(front, {"id": name, "label": "yes"}))[0] == 200
    status, answer = await tell(front, {"id": name, "label": "no"})
    assert status == 409
    assert "already" in answer["error"]
    async with front.session.get(f"{front.clients}/feedback") as answer:
        assert answer.status == 405


async def test_a_label_of_a_version_that_has_left_is_taken_still(backend, gateway, tmp_path):
    old, new = await backend("torchserve", 1), await backend("torchserve", 2)
    front = await gateway("torchserve")
    await front.sync([version(1, publish(tmp_path, "torchserve", 1), old)])
    name = (await front.ask())[2]["x-request-id"]
    await front.sync([version(2, publish(tmp_path, "torchserve", 2), new)])
    assert (await tell(front, {"id": name, "label": "yes"}))[0] == 200


async def test_labels_of_too_few_rows_say_nothing(backend, gateway, tmp_path):
    one = await backend("torchserve")
    front = await gateway("torchserve")
    versions = [version(1, publish(tmp_path, "torchserve", 1), one)]
    await front.sync(versions, monitoring={"minSamples": 3})
    for _ in range(2):
        name = (await front.ask())[2]["x-request-id"]
        assert (await tell(front, {"id": name, "label": "yes"}))[0] == 200

    async def watched():
        found = (await front.sync(versions, monitoring={"minSamples": 3}))["monitoring"]
        return found if found and found["samples"] == 2 else None

    assert (await eventually(watched))["labels"] is None
    assert "trainwright_serving_quality{" not in (await front.get("/metrics"))[1]
    await front.ask()
    found = await labels(front, versions, 2, minSamples=3)
    assert found["coverage"] == pytest.approx(2 / 3)


async def test_a_label_that_comes_too_late_is_told_so(backend, gateway, tmp_path):
    one = await backend("torchserve")
    front = await gateway("torchserve")
    versions = [version(1, publish(tmp_path, "torchserve", 1), one)]
    await front.sync(versions, monitoring={"labelWindowSeconds": 0.3})
    name = (await front.ask())[2]["x-request-id"]

    async def late():
        status, answer = await tell(front, {"id": name, "label": [0, 1, 2]})
        return status == 410 and "labels are taken for so long" in answer["error"]

    await eventually(late)


async def test_numbers_have_their_mean_absolute_error(backend, gateway, tmp_path):
    one = await backend("torchserve")
    front = await gateway("torchserve")
    about = manifest_of("torchserve")
    about["signature"]["classes"] = []
    versions = [version(1, publish(tmp_path, "torchserve", 1, manifest=about), one)]

    async def handle(request):
        await request.read()
        return web.json_response({"outputs": {"predictions": [1.0, 2.0]}})

    one._handle = handle
    await one.stop()
    await one.start()
    await front.sync(versions, monitoring=SOON)

    async def watched() -> str | None:
        """A request that was looked into: the first ones come while the watcher is still being started."""
        name = (await front.ask())[2]["x-request-id"]
        return name if (await tell(front, {"id": name, "label": [1.0, "x"]}))[0] == 400 else None

    name = await eventually(watched)
    assert (await tell(front, {"id": name, "label": [1.5, 4]}))[0] == 200
    found = await labels(front, versions, 2)
    assert found == {"labelled": 2, "coverage": 1.0, "metric": "mae", "value": 1.25}


async def test_any_gateway_takes_a_label_and_hands_it_on_once(backend, gateway, tmp_path):
    one = await backend("torchserve")
    made = publish(tmp_path, "torchserve", 1)
    first, second = await gateway("torchserve"), await gateway("torchserve")
    versions = [version(1, made, one)]
    await asyncio.gather(first.sync(versions, peers=[second.host]), second.sync(versions, peers=[first.host]))
    name = (await first.ask())[2]["x-request-id"]
    assert (await tell(second, {"id": name, "label": "yes"}, x_trainwright_forwarded="1"))[0] == 404
    assert await tell(second, {"id": name, "label": "yes"}) == (200, {"id": name, "rows": 1})
    assert (await tell(second, {"id": name, "label": "yes"}))[0] == 409
    await first.stop()
    status, answer = await tell(second, {"id": name, "label": "yes"})
    assert status == 503
    assert first.host in answer["error"]
