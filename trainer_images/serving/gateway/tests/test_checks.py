"""A loaded version before it gets clients: warmed up, and asked what its trainer asked it."""

from __future__ import annotations

import json

import pytest
from published import manifest_of, publish, recorded
from world import Backend, eventually, version


async def checked(front, versions, number: str = "1", **more):
    async def done():
        smoke = (await front.sync(versions, **more))["versions"][number]["smoke"]
        return smoke if smoke["state"] in {"passed", "failed"} else None

    return await eventually(done)


async def test_a_version_that_answers_as_its_trainer_passes(server, backend, gateway, tmp_path):
    one = await backend(server)
    front = await gateway(server)
    versions = [version(1, publish(tmp_path, server, 1), one)]
    smoke = await checked(front, versions, check={"warmup": 7})
    assert smoke["state"] == "passed"
    assert smoke["message"].startswith("20 samples, largest difference")
    assert smoke["maxDifference"] < 1e-6
    assert one.asked == 8
    window = (await front.sync(versions, check={"warmup": 7}))["versions"]["1"]
    assert window["warmed"]
    assert window["window"]["requests"] == 0


async def test_a_version_that_answers_otherwise_fails_with_what_differs(server, backend, gateway, tmp_path):
    one = await backend(server, 1)
    front = await gateway(server)
    samples = recorded(server, 1)
    name = "probabilities" if server == "sklearn" else "logits"
    samples["outputs"][name][4][1] += 0.05
    smoke = await checked(front, [version(1, publish(tmp_path, server, 1, samples=samples), one)])
    assert smoke["state"] == "failed"
    assert f"{name} of sample 4" in smoke["message"]
    assert "more than 0.001" in smoke["message"]
    smoke = await checked(front, [version(1, publish(tmp_path, server, 1, samples=samples), one)], check={"tolerance": 0.2})
    assert smoke["state"] == "passed"


async def test_labels_must_be_equal(backend, gateway, tmp_path):
    one = await backend("sklearn")
    front = await gateway("sklearn")
    samples = recorded("sklearn", 1)
    samples["outputs"]["prediction"][2] = "maybe"
    smoke = await checked(front, [version(1, publish(tmp_path, "sklearn", 1, samples=samples), one)])
    assert smoke["state"] == "failed"
    assert "prediction of sample 2" in smoke["message"]
    assert "'maybe'" in smoke["message"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda samples: samples["outputs"]["logits"].pop(), "logits has the shape [20, 2]; recorded is [19, 2]"),
        (lambda samples: samples["outputs"].update(other=[1.0]), "the answer has no output 'other'"),
        (lambda samples: samples["inputs"]["numbers"].__setitem__(5, [1e9, 0.0]), "logits of sample 5 is nan"),
        (lambda samples: samples["inputs"].update(numbers="x"), "samples.json has no 'inputs'"),
    ],
    ids=["another shape", "an output is lacking", "an answer that is not finite", "samples that are none"],
)
async def test_what_differs_is_said(spoil, words, backend, gateway, tmp_path):
    one = await backend("torchserve")
    front = await gateway("torchserve")
    samples = recorded("torchserve", 1)
    spoil(samples)
    smoke = await checked(front, [version(1, publish(tmp_path, "torchserve", 1, samples=samples), one)])
    assert smoke["state"] == "failed"
    assert words in smoke["message"]


@pytest.mark.parametrize("name", ["record.json", "manifest.json", "samples.json"])
async def test_files_that_are_not_what_was_published_fail_the_check(name, backend, gateway, tmp_path):
    one = await backend("torchserve")
    front = await gateway("torchserve")
    made = publish(tmp_path, "torchserve", 1)
    path = tmp_path / "records" / "1" / name
    path.write_text(json.dumps({**json.loads(path.read_text()), "added": 1}))
    smoke = await checked(front, [version(1, made, one)])
    assert smoke["state"] == "failed"
    assert f"the sha256 of records/1/{name} is" in smoke["message"]


async def test_an_artifact_without_samples_fails_unless_none_are_wanted(backend, gateway, tmp_path):
    one = await backend("torchserve")
    front = await gateway("torchserve")
    versions = [version(1, publish(tmp_path, "torchserve", 1, samples=None), one)]
    smoke = await checked(front, versions)
    assert smoke["state"] == "failed"
    assert "the artifact carries no samples" in smoke["message"]
    smoke = await checked(front, versions, check={"smoke": False})
    assert smoke["state"] == "passed"


async def test_a_check_waits_for_the_server_and_a_new_pod_does_not_undo_it(backend, gateway, tmp_path):
    one = Backend("torchserve")
    front = await gateway("torchserve")
    versions = [version(1, publish(tmp_path, "torchserve", 1), one)]
    found = (await front.sync(versions))["versions"]["1"]
    assert found["smoke"]["state"] == "waiting"
    assert not found["available"]
    await one.start()
    assert (await checked(front, versions))["state"] == "passed"
    await one.stop()

    async def away():
        return not (await front.sync(versions))["versions"]["1"]["available"]

    await eventually(away)
    other = await backend("torchserve")
    versions = [version(1, publish(tmp_path, "torchserve", 1), other)]
    found = (await front.sync(versions))["versions"]["1"]
    assert found["smoke"]["state"] == "passed"
    assert found["warmed"]
    assert other.asked == 0
    await front.sync([])
    await checked(front, versions)
    assert other.asked > 0


async def test_a_server_that_never_answers_the_samples_fails_in_time(backend, gateway, tmp_path):
    one = await backend("torchserve")
    one.mode = "503"
    front = await gateway("torchserve")
    smoke = await checked(front, [version(1, publish(tmp_path, "torchserve", 1), one)], check={"timeoutSeconds": 1})
    assert smoke["state"] == "failed"
    assert "within 1 s" in smoke["message"]
    assert "503" in smoke["message"]


async def test_classes_that_the_handler_names_must_be_those_of_its_outputs(backend, gateway, tmp_path):
    one = await backend("torchserve")
    front = await gateway("torchserve")
    about = manifest_of("torchserve")
    about["signature"]["classes"] = ["yes", "no"]
    smoke = await checked(front, [version(1, publish(tmp_path, "torchserve", 1, manifest=about), one)])
    assert smoke["state"] == "failed"
    assert "names the classes" in smoke["message"]
