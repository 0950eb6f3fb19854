"""The way of a version through the operator: each step with its reasons, what ends it, what it leaves behind."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import job
from support.driver import Driver
from support.serving import DEPLOYMENT, Traffic, World, deployment, digest
from trainwright.cluster.port import (
    CLAIMS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVENTS,
    JOBS,
    MODEL_DEPLOYMENTS,
    PODS,
    SERVICES,
    TRAINING_JOBS,
    Invalid,
)


async def begun(**spec: Any) -> World:
    world = World()
    await world.apply(deployment(**spec))
    await world.settle()
    return world


async def live(**spec: Any) -> World:
    """A deployment whose first version is live."""
    world = await begun(**spec)
    await world.train("first")
    await world.settle()
    assert (await world.status())["live"] == 1
    return world


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(one for one in status["conditions"] if one["type"] == kind)


async def test_a_deployment_without_a_version_says_how_to_get_one() -> None:
    world = await begun()
    status = await world.status()
    assert status["phase"] == "Empty"
    assert "TrainingJob with spec.publish" in status["reason"]
    assert condition(status, "Available")["status"] == "False"
    assert await world.servers() == set()


async def test_the_first_version_goes_live_after_all_checks_and_without_a_canary() -> None:
    world = await live()
    status = await world.status()
    assert status["phase"] == "Live"
    assert status["traffic"] == "v1 100%"
    assert [one["status"] for one in status["conditions"] if one["type"] != "Drifting"] == ["True"] * 6
    assert status["versions"][0]["job"] == "first"
    assert status["versions"][0]["digest"] == digest("model 1")
    assert world.weights == {1: 100}
    assert (await world.cluster.list(JOBS)).items == [], "what the publisher has said is written, so its Jobs are gone"


async def test_nothing_is_written_once_all_is_as_it_should_be() -> None:
    world = await live()
    before = world.cluster._version
    for _ in range(5):
        world.now += 100
        await world.settle()
    assert world.cluster._version == before


async def test_traffic_moves_step_by_step_and_the_old_version_stays_until_the_end() -> None:
    world = await live()
    world.traffic[2] = Traffic(requests=0)
    await world.train("second")
    await world.settle()
    status = await world.status()
    assert status["candidate"]["step"] == "Canary"
    assert world.weights == {1: 80, 2: 20}
    assert "0 of 50 requests" in status["reason"]
    assert await world.servers() == {1, 2}
    world.traffic[2] = Traffic(requests=60)
    await world.settle(patience=10.5)
    assert world.weights == {1: 50, 2: 50}
    await world.settle()
    status = await world.status()
    assert (status["live"], status["previous"]) == (2, 1)
    assert "0 of 60 requests failed" in status["versions"][0]["reason"]
    assert world.weights == {2: 100}
    assert await world.servers() == {2}, "once the gateways have let go of it"
    assert world.files == {1, 2}, "the previous version's files stay"


@pytest.mark.parametrize(
    ("traffic", "why"),
    [
        pytest.param(Traffic(errors=20), "20 of 200 requests failed", id="errors"),
        pytest.param(Traffic(requests=10, errors=5), "5 of 10 requests failed", id="errors that nothing can make good"),
        pytest.param(Traffic(not_finite=1), "NaN or infinity", id="NaN"),
        pytest.param(Traffic(latency=0.2), "times the live version's", id="latency"),
        pytest.param(Traffic(predictions={"0": 195, "1": 5}), "Jensen-Shannon", id="predictions"),
    ],
)
async def test_a_worse_version_is_rolled_back_with_the_figures_that_decided(traffic: Traffic, why: str) -> None:
    world = await live()
    world.traffic[2] = traffic
    await world.train("second")
    await world.settle()
    status = await world.status()
    assert status["live"] == 1
    assert (await world.states())[2] == "RolledBack"
    assert why in status["versions"][0]["reason"]
    assert "version 1 stays live" in status["reason"]
    assert world.weights == {1: 100}
    assert world.files == {1}, "a version that was rolled back leaves no files"
    assert await world.servers() == {1}
    events = {one["reason"]: one["message"] for one in (await world.cluster.list(EVENTS)).items}
    assert why in events["CanaryFailed"]


async def test_no_data_is_not_success() -> None:
    world = await live(canary={"steps": [{"weight": 10, "holdSeconds": 1, "minRequests": 50}], "timeoutSeconds": 600})
    world.traffic[2] = Traffic(requests=3)
    await world.train("second")
    await world.settle(patience=300)
    assert (await world.status())["candidate"]["step"] == "Canary"
    await world.settle(patience=700)
    status = await world.status()
    assert (await world.states())[2] == "RolledBack"
    assert "3 of 50 requests after" in status["versions"][0]["reason"]


async def test_gateways_that_are_away_during_a_canary_are_waited_for() -> None:
    world = await live()
    world.traffic[2] = Traffic(requests=0)
    await world.train("second")
    await world.settle()
    world.gateways_answer = False
    world.traffic[2] = Traffic()
    await world.settle()
    status = await world.status()
    assert status["candidate"]["step"] == "Canary"
    assert "no gateway tells of it" in status["reason"]
    world.gateways_answer = True
    await world.settle()
    assert (await world.status())["live"] == 2


@pytest.mark.parametrize(
    ("gate", "metrics", "why"),
    [
        pytest.param({"metric": "accuracy", "min": 0.97}, {"accuracy": 0.95}, "accuracy 0.95 is below 0.97", id="min"),
        pytest.param({"metric": "loss", "max": 0.2}, {"loss": 0.5}, "loss 0.5 is above 0.2", id="max"),
        pytest.param({"metric": "auc", "min": 0.5}, {"accuracy": 0.95}, "auc is not in the artifact's manifest, which has accuracy", id="no metric"),
        pytest.param({"metric": "auc", "min": 0.5}, {}, "which has no metrics at all", id="no metrics"),
        pytest.param({"metric": "accuracy", "maxDropFromLive": 0.01}, {"accuracy": 0.9}, "0.05 below live version 1's 0.95", id="drop"),
        pytest.param({"metric": "loss", "maxRiseFromLive": 0.01}, {"loss": 0.9}, "live version 1 has no such metric", id="live has none"),
    ],
)  # fmt: skip
async def test_a_version_that_fails_a_gate_is_refused_and_never_published(
    gate: dict[str, Any], metrics: dict[str, float], why: str
) -> None:
    world = await live()
    world.metrics[2] = metrics
    await world.train("second", gates=[gate])
    await world.settle()
    status = await world.status()
    assert (await world.states()) == {2: "Refused", 1: "Live"}
    assert why in status["versions"][0]["reason"]
    assert condition(status, "Gated")["reason"] == "GatesFailed"
    assert world.files == {1}


async def test_metrics_of_two_test_sets_are_not_compared() -> None:
    world = await live()
    usual = world.says

    def says(task: str, version: int) -> dict[str, Any] | None:
        words = usual(task, version)
        return {**words, "test": "another"} if words and task == "verify" else words

    world.words = says
    await world.train("second", gates=[{"metric": "accuracy", "maxDropFromLive": 0.5}])
    await world.settle()
    assert "not measured on the test set of live version 1" in (await world.status())["versions"][0]["reason"]


@pytest.mark.parametrize(
    ("task", "words", "state", "kind"),
    [
        ("verify", {"ok": False, "reason": "Damaged", "message": "the sha256 of model.pt2 differs"}, "Refused", "Verified"),
        ("verify", {"ok": False, "reason": "NotSigned", "message": "no model.sig"}, "Refused", "Verified"),
        ("publish", {"ok": False, "reason": "DigestChanged", "message": "it is another now"}, "Refused", "Published"),
        ("publish", {"ok": False, "reason": "Failed", "message": "No space left on device"}, "Refused", "Published"),
    ],
)
async def test_what_the_publisher_refuses_is_said_in_its_words(task: str, words: dict[str, Any], state: str, kind: str) -> None:
    world = await live()
    usual = world.says
    world.words = lambda asked, version: words if asked == task else usual(asked, version)
    await world.train("second")
    await world.settle()
    status = await world.status()
    assert (await world.states())[2] == state
    assert words["message"] in status["versions"][0]["reason"]
    assert condition(status, kind)["status"] == "False"
    assert status["live"] == 1
    assert world.files <= {1, 2}
    world.words = usual
    await world.settle()
    assert world.files == {1}, "what may have been written before it failed is taken away"


async def test_smoke_predictions_that_differ_end_the_version() -> None:
    world = await live()
    world.smoke[2] = "failed"
    await world.train("second")
    await world.settle()
    status = await world.status()
    assert (await world.states())[2] == "RolledBack"
    assert "smoke predictions: failed by script" in status["versions"][0]["reason"]
    assert world.weights == {1: 100}


async def test_a_server_that_never_becomes_ready_is_given_up_and_gets_no_request() -> None:
    world = await live(smoke={"loadTimeoutSeconds": 60})
    world.broken.add(2)
    await world.train("second")
    await world.settle(patience=30)
    assert world.weights == {1: 100, 2: 0}
    assert "0 of 1 servers are ready" in (await world.status())["reason"]
    await world.settle()
    status = await world.status()
    assert (await world.states())[2] == "RolledBack"
    assert "not loaded within 60 s" in status["versions"][0]["reason"]


async def test_two_jobs_that_publish_at_once_go_one_after_the_other() -> None:
    world = await live()
    await world.train("second")
    await world.train("third")
    await world.settle()
    assert await world.states() == {3: "Live", 2: "Previous", 1: "Kept"}
    assert [one["job"] for one in (await world.status())["versions"]] == ["third", "second", "first"]


async def test_of_jobs_that_ended_before_there_was_a_deployment_only_the_newest_is_taken() -> None:
    world = World()
    for name in ("a", "b", "c"):
        await world.train(name)
    raw = deployment()
    await world.apply(raw)
    created = (await world.cluster.get(MODEL_DEPLOYMENTS, DEPLOYMENT, "default"))["metadata"]["creationTimestamp"]
    assert created > "2026"
    await world.settle()
    assert [one["job"] for one in (await world.status())["versions"]] == ["c"] or created < "2026-11-21T14"


async def test_old_versions_go_and_live_and_previous_never_do() -> None:
    world = await live(keepVersions=2)
    for name in ("second", "third", "fourth"):
        await world.train(name)
        await world.settle()
    assert await world.states() == {4: "Live", 3: "Previous", 2: "Removed", 1: "Removed"}
    assert world.files == {3, 4}


async def test_a_pin_goes_back_at_once_and_holds_new_versions_off() -> None:
    world = await live()
    await world.train("second")
    await world.settle()
    await world.change(pin=1)
    await world.train("third")
    await world.settle()
    status = await world.status()
    assert (status["live"], status["previous"]) == (1, 2)
    assert "pinned to version 1" in status["reason"]
    assert 3 not in await world.states()
    assert world.weights == {1: 100}
    await world.change(pin=None)
    await world.settle()
    assert (await world.status())["live"] == 3


async def test_a_pin_ends_a_canary() -> None:
    world = await live()
    world.traffic[2] = Traffic(requests=0)
    await world.train("second")
    await world.settle()
    await world.change(pin=1)
    await world.settle()
    assert await world.states() == {2: "RolledBack", 1: "Live"}
    assert world.weights == {1: 100}


async def test_a_pin_to_a_version_that_is_not_kept_says_which_are() -> None:
    world = await live()
    await world.change(pin=7)
    await world.settle()
    assert (await world.status())["reason"] == "spec.pin names version 7, which is not kept; there are 1"


async def test_promote_skips_the_rest_of_a_canary() -> None:
    world = await live()
    world.traffic[2] = Traffic(requests=0)
    await world.train("second")
    await world.settle()
    await world.change(promote=2)
    await world.settle()
    assert (await world.status())["live"] == 2


async def test_an_offer_by_hand_is_taken_once() -> None:
    world = await live()
    await world.change(offers=[{"name": "mine", "claim": "models", "path": "run-7/artifacts"}])
    await world.settle()
    status = await world.status()
    assert status["live"] == 2
    assert status["versions"][0]["offer"] == "offer/mine"
    before = world.cluster._version
    await world.settle()
    assert world.cluster._version == before


async def test_an_offer_that_is_withdrawn_on_the_way_is_refused() -> None:
    world = await live()
    world.words = lambda *_: None
    await world.change(offers=[{"name": "mine", "uri": "s3://bucket/run/artifacts"}])
    await world.settle()
    await world.change(offers=[])
    world.words = world.says
    await world.settle()
    assert (await world.states())[2] == "Refused"
    assert "withdrawn" in (await world.status())["versions"][0]["reason"]


async def test_the_same_artifact_again_is_refused() -> None:
    world = await live()
    usual = world.says
    world.words = lambda task, version: (
        {**(usual(task, version) or {}), "digest": digest("model 1")} if task == "verify" else usual(task, version)
    )
    await world.train("second")
    await world.settle()
    assert "the very artifact of live version 1" in (await world.status())["versions"][0]["reason"]


async def test_a_live_version_without_servers_is_degraded_and_says_why() -> None:
    world = await live()
    world.broken.add(1)
    for pod in [one for one in (await world.cluster.list(DEPLOYMENTS)).items if one["metadata"]["name"] == "digits-v1"]:
        await world.cluster.delete(DEPLOYMENTS, pod["metadata"]["name"], "default")
    await world.settle()
    status = await world.status()
    assert status["phase"] == "Degraded"
    assert "no server of version 1 is ready" in status["reason"]


async def test_drift_and_labels_come_from_the_gateways_and_drift_is_a_condition() -> None:
    world = await live()
    told = {
        "score": 0.4,
        "feature": "brightness",
        "features": {"brightness": {"psi": 0.4}, "contrast": {"psi": 0.1}},
        "prediction": 0.02,
    }
    labels = {"labelled": 40, "coverage": 0.1, "metric": "accuracy", "value": 0.9}
    world.monitoring = {"version": 1, "samples": 1000, "drift": told, "labels": labels}
    await world.settle()
    status = await world.status()
    assert status["drift"]["features"][0] == {"name": "brightness", "psi": 0.4}
    assert status["labels"]["value"] == 0.9
    assert condition(status, "Drifting")["status"] == "True"
    world.monitoring = {"version": 1, "samples": 1000, "drift": {**told, "score": 0.05}, "labels": None}
    world.now += 10
    await world.settle()
    status = await world.status()
    assert condition(status, "Drifting")["status"] == "False"
    assert "labels" not in status


async def test_what_was_lacking_and_is_there_again_is_no_reason_any_more() -> None:
    world = await live()
    world.serving._routes.stop()
    await world.change(gateway={"httpRoute": {"parent": {"name": "front"}}})
    await world.settle()
    assert "this cluster has no Gateway API" in (await world.status())["reason"]
    await world.change(gateway=None)
    await world.settle()
    assert "reason" not in await world.status()


async def test_what_is_made_is_confined_and_only_the_publisher_may_write_models() -> None:
    world = await begun(verify={"publicKey": {"secret": {"name": "keys", "key": "pub"}}})
    await world.train("first")
    templates: dict[str, Any] = {}
    for waits in ("verify", "publish", ""):
        world.words = lambda task, version, waits=waits: None if task == waits else world.says(task, version)
        await world.settle()
        for resource in (JOBS, DEPLOYMENTS):
            for made in (await world.cluster.list(resource)).items:
                templates[made["metadata"]["name"]] = made["spec"]["template"]["spec"]
    assert set(templates) == {"digits-v1-verify", "digits-v1-publish", "digits-gateway", "digits-v1"}
    for name, spec in templates.items():
        (container,) = spec["containers"]
        mounts = {one["name"]: one for one in container["volumeMounts"]}
        assert spec["automountServiceAccountToken"] is False
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        writes = name == "digits-v1-publish"
        assert ("models" in mounts and not mounts["models"].get("readOnly")) == writes
        assert spec.get("serviceAccountName") == ("digits-publisher" if name.endswith(("verify", "publish")) else None)
        assert "source" not in mounts or mounts["source"]["readOnly"]
    assert "--public-key" in templates["digits-v1-verify"]["containers"][0]["command"]


async def test_a_job_may_not_write_into_the_claim_of_served_models() -> None:
    world = await live()
    assert world.serving.serves_from("default", "digits-models") == DEPLOYMENT
    assert world.serving.serves_from("default", "mine") is None
    other = World()
    await other.apply(deployment(storage={"claim": "mine"}))
    await other.settle()
    assert other.serving.serves_from("default", "mine") == DEPLOYMENT
    assert (await other.cluster.list(CLAIMS)).items == []


@pytest.mark.parametrize(
    ("workspace", "claim"),
    [({"claim": "digits-models"}, "digits-models"), ({"size": "1Gi"}, "digits-workspace")],
    ids=["a claim that it names", "a claim that its name makes"],
)
async def test_a_job_fails_whose_workspace_is_served_from(workspace: dict[str, str], claim: str) -> None:
    driver = Driver(serves_from=lambda _, asked: "served" if asked == claim else None)
    await driver.cluster.create(TRAINING_JOBS, job().spec(workspace=workspace).build())
    await driver.settle()
    status = await driver.status()
    assert status["phase"] == "Failed"
    assert f"spec.workspace.{next(iter(workspace))}: {claim} holds the models that deployment served serves" in status["reason"]
    assert (await driver.cluster.list(PODS)).items == []


async def test_tensorflow_serving_is_one_deployment_for_all_versions() -> None:
    world = await live(server="tfserving", batching={"maxSize": 8})
    made = {one["metadata"]["name"]: one for one in (await world.cluster.list(DEPLOYMENTS)).items}
    assert set(made) == {"digits-gateway", "digits-server"}
    command = made["digits-server"]["spec"]["template"]["spec"]["containers"][0]["command"]
    assert "--model_base_path=/models/versions" in command
    assert "--enable_batching=true" in command
    files = (await world.cluster.get(CONFIG_MAPS, "digits-serving", "default"))["data"]
    assert "max_batch_size { value: 8 }" in files["batching.config"]
    assert (await world.cluster.get(SERVICES, "digits-gateway", "default"))["spec"]["ports"][0]["port"] == 80


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"canary": {"steps": [{"weight": 50}, {"weight": 10}]}}, "spec.canary.steps"),
        ({"gates": [{"metric": "accuracy"}]}, "spec.gates[0]"),
        ({"offers": [{"name": "a"}]}, "spec.offers[0]"),
        ({"offers": [{"name": "a", "job": "x"}, {"name": "a", "job": "y"}]}, "spec.offers[1]"),
        ({"pin": 1, "promote": 2}, "spec.pin"),
        ({"server": "tfserving", "gateway": {"httpRoute": {"parent": {"name": "g"}}}}, "spec.gateway.httpRoute"),
        ({"server": "triton"}, "spec.server"),
    ],
)
async def test_what_can_not_be_is_refused_with_the_field_named(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid, match=field.replace("[", r"\[").replace("]", r"\]")):
        await World().apply(deployment(**spec))


async def test_a_deployment_counts_on_from_what_an_earlier_one_of_its_name_has_left() -> None:
    world = World()
    usual = world.says

    def says(task: str, version: int) -> dict[str, Any] | None:
        taken = {"ok": False, "reason": "VersionTaken", "message": "it is another", "highest": 7}
        return taken if task == "publish" and version <= 7 else usual(task, version)

    world.words = says
    await world.apply(deployment())
    await world.settle()
    await world.train("first")
    await world.settle()
    assert await world.states() == {8: "Live"}
    assert world.files == {8}
    await world.train("second")
    await world.settle()
    assert (await world.status())["live"] == 9
