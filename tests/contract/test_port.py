"""One suite, unchanged, against both adapters of the port: the in-memory cluster and a real kube-apiserver.

`cluster` is either; a namespace of its own keeps tests apart on the real one.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support.builders import job
from support.waiting import eventually
from trainwright.cluster.port import (
    CONFIG_MAPS,
    PODS,
    SERVICES,
    TRAINING_JOBS,
    AlreadyExists,
    Cluster,
    Conflict,
    Invalid,
    NotFound,
    WatchType,
)


def config_map(namespace: str, name: str = "one", labels: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "data": data,
    }


def pod(namespace: str, name: str = "p", node: str | None = None, owner: dict[str, Any] | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "worker", "image": "example"}], "automountServiceAccountToken": False}
    if node:
        spec["nodeName"] = node
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if owner:
        reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"]}
        metadata["ownerReferences"] = [reference | {"uid": owner["metadata"]["uid"], "controller": True}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


async def test_create_gives_identity_and_a_second_create_is_refused(cluster: Cluster, namespace: str) -> None:
    made = await cluster.create(CONFIG_MAPS, config_map(namespace, key="value"))
    assert made["metadata"]["uid"]
    assert made["metadata"]["resourceVersion"]
    assert made["metadata"]["creationTimestamp"]
    with pytest.raises(AlreadyExists):
        await cluster.create(CONFIG_MAPS, config_map(namespace))
    assert (await cluster.get(CONFIG_MAPS, "one", namespace))["data"] == {"key": "value"}


async def test_what_is_not_there_is_not_found(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(NotFound):
        await cluster.get(CONFIG_MAPS, "none", namespace)
    with pytest.raises(NotFound):
        await cluster.delete(CONFIG_MAPS, "none", namespace)
    with pytest.raises(NotFound):
        await cluster.patch(CONFIG_MAPS, "none", namespace, {"data": {}})


async def test_an_object_in_hand_is_a_copy(cluster: Cluster, namespace: str) -> None:
    made = await cluster.create(CONFIG_MAPS, config_map(namespace, key="value"))
    made["data"]["key"] = "changed in hand"
    assert (await cluster.get(CONFIG_MAPS, "one", namespace))["data"] == {"key": "value"}


async def test_list_selects_by_labels_and_namespace_and_gives_whole_objects(cluster: Cluster, namespace: str) -> None:
    for name, labels in (("a", {"x": "1"}), ("b", {"x": "1", "y": "2"}), ("c", {"y": "2"})):
        await cluster.create(CONFIG_MAPS, config_map(namespace, name, labels))
    listed = await cluster.list(CONFIG_MAPS, namespace, labels={"x": "1"})
    assert [item["metadata"]["name"] for item in listed.items] == ["a", "b"]
    assert {(item["apiVersion"], item["kind"]) for item in listed.items} == {("v1", "ConfigMap")}
    others = await cluster.list(CONFIG_MAPS, namespace, labels={"x": "1"}, without={"y": "2"})
    assert [one["metadata"]["name"] for one in others.items] == ["a"]
    both = await cluster.list(CONFIG_MAPS, namespace, labels={"x": "1", "y": "2"})
    assert [item["metadata"]["name"] for item in both.items] == ["b"]
    assert {"a", "b", "c"} <= {item["metadata"]["name"] for item in (await cluster.list(CONFIG_MAPS)).items}


class TestApply:
    async def test_creates_then_changes_only_what_it_names(self, cluster: Cluster, namespace: str) -> None:
        await cluster.apply(CONFIG_MAPS, config_map(namespace, key="1"))
        await cluster.patch(CONFIG_MAPS, "one", namespace, {"data": {"other": "theirs"}})
        await cluster.apply(CONFIG_MAPS, config_map(namespace, key="2"))
        assert (await cluster.get(CONFIG_MAPS, "one", namespace))["data"] == {"key": "2", "other": "theirs"}

    async def test_a_field_no_longer_named_goes(self, cluster: Cluster, namespace: str) -> None:
        await cluster.apply(CONFIG_MAPS, config_map(namespace, a="1", b="1"))
        await cluster.apply(CONFIG_MAPS, config_map(namespace, a="1"))
        assert (await cluster.get(CONFIG_MAPS, "one", namespace))["data"] == {"a": "1"}

    async def test_applying_the_same_changes_nothing(self, cluster: Cluster, namespace: str) -> None:
        first = await cluster.apply(CONFIG_MAPS, config_map(namespace, a="1"))
        second = await cluster.apply(CONFIG_MAPS, config_map(namespace, a="1"))
        assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


class TestPatch:
    async def test_null_removes_and_the_rest_stays(self, cluster: Cluster, namespace: str) -> None:
        await cluster.create(CONFIG_MAPS, config_map(namespace, a="1", b="1"))
        patched = await cluster.patch(CONFIG_MAPS, "one", namespace, {"data": {"a": None, "c": "1"}})
        assert patched["data"] == {"b": "1", "c": "1"}

    async def test_a_stale_version_is_a_conflict(self, cluster: Cluster, namespace: str) -> None:
        made = await cluster.create(CONFIG_MAPS, config_map(namespace, a="1"))
        version = made["metadata"]["resourceVersion"]
        await cluster.patch(CONFIG_MAPS, "one", namespace, {"metadata": {"resourceVersion": version}, "data": {"a": "2"}})
        with pytest.raises(Conflict):
            await cluster.patch(CONFIG_MAPS, "one", namespace, {"metadata": {"resourceVersion": version}, "data": {"a": "3"}})

    async def test_a_patch_that_changes_nothing_makes_no_new_version(self, cluster: Cluster, namespace: str) -> None:
        made = await cluster.create(CONFIG_MAPS, config_map(namespace, a="1"))
        patched = await cluster.patch(CONFIG_MAPS, "one", namespace, {"data": {"a": "1"}})
        assert patched["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


class TestStatus:
    async def test_is_written_alone_and_never_by_the_way(self, cluster: Cluster, namespace: str) -> None:
        raw = job().namespace(namespace).build()
        made = await cluster.create(TRAINING_JOBS, raw | {"status": {"phase": "Running"}})
        assert "status" not in made
        patch = {"spec": {"workers": 7}, "status": {"phase": "Queued", "reason": "why"}}
        patched = await cluster.patch(TRAINING_JOBS, "digits", namespace, patch, subresource="status")
        assert patched["status"] == {"phase": "Queued", "reason": "why"}
        assert patched["spec"].get("workers") in (None, 1)
        patched = await cluster.patch(TRAINING_JOBS, "digits", namespace, {"status": {"phase": "Failed"}})
        assert patched["status"]["phase"] == "Queued"

    async def test_a_field_set_to_null_goes(self, cluster: Cluster, namespace: str) -> None:
        await cluster.create(TRAINING_JOBS, job().namespace(namespace).build())
        await cluster.patch(
            TRAINING_JOBS, "digits", namespace, {"status": {"phase": "Queued", "reason": "why"}}, subresource="status"
        )
        patched = await cluster.patch(TRAINING_JOBS, "digits", namespace, {"status": {"reason": None}}, subresource="status")
        assert patched["status"] == {"phase": "Queued"}

    async def test_the_generation_counts_changes_of_the_spec_only(self, cluster: Cluster, namespace: str) -> None:
        made = await cluster.create(TRAINING_JOBS, job().namespace(namespace).build())
        assert made["metadata"]["generation"] == 1
        patched = await cluster.patch(TRAINING_JOBS, "digits", namespace, {"status": {"phase": "Queued"}}, subresource="status")
        assert patched["metadata"]["generation"] == 1
        patched = await cluster.patch(TRAINING_JOBS, "digits", namespace, {"spec": {"runPolicy": {"backoffLimit": 9}}})
        assert patched["metadata"]["generation"] == 2


class TestTrainingJobs:
    async def test_defaults_are_filled_in(self, cluster: Cluster, namespace: str) -> None:
        made = await cluster.create(TRAINING_JOBS, job().namespace(namespace).build())
        assert made["spec"]["workers"] == 1
        assert made["spec"]["workspace"] == {"size": "10Gi"}
        defaults = {"backoffLimit": 3, "cleanPodPolicy": "Running", "progressDeadlineSeconds": 600, "suspend": False}
        assert made["spec"]["runPolicy"] == defaults
        assert made["spec"]["checkpoint"] == {"keep": 3, "resume": "Auto"}

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            pytest.param({"workers": 0}, "spec.workers", id="no workers"),
            pytest.param({"workers": "two"}, "spec.workers", id="workers that are no number"),
            pytest.param({"framework": "keras"}, "spec.framework", id="an unknown framework"),
            pytest.param({"command": ["true"]}, "spec", id="two things to run"),
            pytest.param({"recipe": None}, "spec", id="nothing to run"),
            pytest.param({"framework": "none"}, "spec.framework", id="a recipe without a framework"),
            pytest.param({"framework": "sklearn", "resources": {"gpus": 1}}, "spec.resources.gpus", id="GPUs for sklearn"),
            pytest.param(
                {"framework": "tensorflow", "env": [{"name": "KERAS_BACKEND", "value": "jax"}]}, "spec.env", id="Keras over JAX"
            ),
            pytest.param(
                {"framework": "tensorflow", "env": [{"name": "TF_USE_LEGACY_KERAS", "value": "1"}]},
                "spec.env",
                id="a recipe over Keras 2",
            ),
            pytest.param({"env": [{"name": "RANK", "value": "1"}]}, "spec.env[0]", id="a reserved variable"),
            pytest.param({"env": [{"name": "TRAINWRIGHT_JOB", "value": "1"}]}, "spec.env[0]", id="a reserved prefix"),
            pytest.param(
                {"env": [{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
                "spec.env[0]",
                id="two values",
            ),
            pytest.param({"env": [{"name": "A", "valueFrom": {}}]}, "spec.env[0].valueFrom", id="a value from nowhere"),
            pytest.param(
                {"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "cpu"}}}]},
                "spec.env[0].valueFrom.resourceFieldRef.resource",
                id="a resource that is none",
            ),
            pytest.param({"image": "two words"}, "spec.image", id="an image that is none"),
            pytest.param(
                {"placement": {"tolerations": [{"effect": "Never"}]}},
                "spec.placement.tolerations[0].effect",
                id="an unknown effect",
            ),
            pytest.param(
                {"runPolicy": {"activeDeadlineSeconds": 0}}, "spec.runPolicy.activeDeadlineSeconds", id="no time at all"
            ),
            pytest.param(
                {"runPolicy": {"ttlSecondsAfterFinished": -1}},
                "spec.runPolicy.ttlSecondsAfterFinished",
                id="a time to live before the end",
            ),
            pytest.param({"data": [{"name": "train"}]}, "spec.data[0]", id="data from nowhere"),
            pytest.param({"data": [{"name": "train", "builtin": "mnist"}]}, "spec.data[0].builtin", id="an unknown builtin"),
            pytest.param({"workspace": {"size": "1Gi", "claim": "c"}}, "spec.workspace", id="two workspaces"),
            pytest.param({"workspace": {"uri": "s3://b/x", "size": "1Gi"}}, "spec.workspace", id="a workspace at two places"),
            pytest.param({"workspace": {"uri": "bucket/x"}}, "spec.workspace.uri", id="a workspace without a scheme"),
            pytest.param({"workspace": {"uri": "https://h/x"}}, "spec.workspace.uri", id="a workspace that can't be written to"),
            pytest.param(
                {"workspace": {"uri": "s3://b/x"}, "image": "mine:1", "recipe": None, "command": ["train"]},
                "spec.workspace.uri",
                id="a workspace in object storage without our launcher",
            ),
            pytest.param({"workspace": {"size": "lots"}}, "spec.workspace.size", id="a size that is none"),
            pytest.param({"resources": {"gpus": -1}}, "spec.resources.gpus", id="fewer than no GPUs"),
            pytest.param({"resources": {"memory": "16 GB"}}, "spec.resources.memory", id="a unit that is none"),
            pytest.param(
                {"checkpoint": {"everySteps": 1, "everySeconds": 1}}, "spec.checkpoint", id="two rhythms of checkpoints"
            ),
            pytest.param({"checkpoint": {"keep": 0}}, "spec.checkpoint.keep", id="keeping no checkpoint"),
            pytest.param({"runPolicy": {"backoffLimit": -1}}, "spec.runPolicy.backoffLimit", id="a negative limit"),
            *(
                pytest.param(
                    {"failurePolicy": {"rules": [{"action": "Fail", **rule}]}}, f"spec.failurePolicy.rules[0]{field}", id=id
                )
                for rule, field, id in (
                    ({"when": {}}, ".when", "a rule for nothing"),
                    ({"when": {"exitCodes": [1], "signals": ["SIGSEGV"]}}, ".when", "a rule for two things"),
                    ({"when": {"exitCodes": [0]}}, ".when.exitCodes[0]", "a rule for success"),
                    ({"when": {"signals": ["SIGFAULT"]}}, ".when.signals[0]", "an unknown signal"),
                    ({"when": {"causes": ["BadLuck"]}}, ".when.causes[0]", "an unknown cause"),
                    ({"when": {"exitCodes": [1]}, "action": "Retry"}, ".action", "an unknown action"),
                    ({"when": {"exitCodes": [1]}, "limit": 2}, ".limit", "a limit of what never restarts"),
                )
            ),
            pytest.param(
                {"failurePolicy": {"restartPolicy": "Always"}}, "spec.failurePolicy.restartPolicy", id="an unknown restart policy"
            ),
            *(
                pytest.param({"data": [{"name": "train", **data}]}, f"spec.data[0]{field}", id=id)
                for data, field, id in (
                    ({"claim": "c", "builtin": "digits"}, "", "data from two places"),
                    ({"uri": "bucket/folder"}, ".uri", "a URI without a scheme"),
                    ({"configMap": "c", "path": "a"}, ".path", "a folder of no claim"),
                    ({"claim": "c", "path": "../secrets"}, ".path", "a folder outside of the claim"),
                    ({"claim": "c", "path": "/a"}, ".path", "an absolute folder of a claim"),
                    ({"claim": "c", "mountPath": "data"}, ".mountPath", "a relative place"),
                    ({"claim": "c", "mountPath": "/data/../etc"}, ".mountPath", "a place that climbs"),
                    ({"claim": "c", "mountPath": "/workspace/data"}, ".mountPath", "a place inside the workspace"),
                    ({"claim": "c", "mountPath": "/usr"}, ".mountPath", "a place of the image"),
                    ({"builtin": "digits", "mountPath": "/mnt"}, ".mountPath", "a place for what has none"),
                )
            ),
            pytest.param(
                {
                    "data": [
                        {"name": "a", "claim": "c", "mountPath": "/mnt/x"},
                        {"name": "b", "claim": "d", "mountPath": "/mnt/x"},
                    ]
                },
                "spec.data",
                id="two data sets at one place",
            ),
            pytest.param(
                {"data": [{"name": "a", "claim": "c"}, {"name": "b", "configMap": "d", "mountPath": "/data/a/b"}]},
                "spec.data",
                id="a data set inside another",
            ),
            pytest.param({"data": [{"name": "a", "claim": "c"}] * 2}, "spec.data[1]", id="two data sets of one name"),
            pytest.param({"code": {}}, "spec.code", id="code from nowhere"),
            pytest.param({"code": {"configMap": "a", "path": "b"}}, "spec.code.path", id="a folder of a config map"),
            pytest.param({"placement": {"topologyKey": "a b"}}, "spec.placement.topologyKey", id="a label that is none"),
            pytest.param({"env": [{"name": "2A"}]}, "spec.env[0].name", id="a variable that no shell could name"),
            pytest.param({"entrypoint": {"module": "a-b"}, "recipe": None}, "spec.entrypoint.module", id="no module's name"),
            pytest.param({"recipe": {"config": {}}}, "spec.recipe.name", id="a recipe without a name"),
            pytest.param({"workers": 5000}, "spec.workers", id="more workers than names"),
            pytest.param({"resources": {"gpus": 0.5}}, "spec.resources.gpus", id="half a GPU"),
            pytest.param({"resources": {"gpus": 1, "gpuResource": "cpu"}}, "spec.resources.gpuResource", id="a GPU that is none"),
            pytest.param({"checkpoint": {"everySteps": 0}}, "spec.checkpoint.everySteps", id="a checkpoint every no steps"),
            pytest.param({"checkpoint": {"resume": "Sometimes"}}, "spec.checkpoint.resume", id="an unknown way to resume"),
            pytest.param({"runPolicy": {"cleanPodPolicy": "Some"}}, "spec.runPolicy.cleanPodPolicy", id="an unknown policy"),
        ],
    )
    async def test_a_bad_job_is_refused_and_the_field_named(
        self, cluster: Cluster, namespace: str, change: dict[str, Any], field: str
    ) -> None:
        with pytest.raises(Invalid) as refusal:
            await cluster.create(TRAINING_JOBS, job().namespace(namespace).spec(**change).build())
        assert field in str(refusal.value)

    @pytest.mark.parametrize("name", ["a" * 51, "9lives", "with.dot"])
    async def test_a_name_that_its_workers_could_not_carry_is_refused(self, cluster: Cluster, namespace: str, name: str) -> None:
        with pytest.raises(Invalid, match=r"metadata\.name becomes part"):
            await cluster.create(TRAINING_JOBS, job(name).namespace(namespace).build())

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            pytest.param({"workers": 2}, "spec.workers", id="the number of workers"),
            pytest.param({"recipe": {"config": {"epochs": 2}}}, "spec.recipe", id="the recipe's configuration"),
            pytest.param({"workspace": {"size": "20Gi"}}, "spec.workspace", id="the workspace"),
            pytest.param({"code": {"configMap": "new"}}, "spec.code", id="code where there was none"),
        ],
    )
    async def test_what_is_fixed_cannot_change(
        self, cluster: Cluster, namespace: str, change: dict[str, Any], field: str
    ) -> None:
        await cluster.create(TRAINING_JOBS, job().namespace(namespace).build())
        with pytest.raises(Invalid) as refusal:
            await cluster.patch(TRAINING_JOBS, "digits", namespace, {"spec": change})
        assert f"{field} cannot change" in str(refusal.value)


class TestWatch:
    async def test_tells_what_happened_since_a_list_in_order(self, cluster: Cluster, namespace: str) -> None:
        version = (await cluster.list(CONFIG_MAPS, namespace)).resource_version
        await cluster.create(CONFIG_MAPS, config_map(namespace, "a", {"mine": "yes"}))
        await cluster.create(CONFIG_MAPS, config_map(namespace, "b"))
        await cluster.patch(CONFIG_MAPS, "a", namespace, {"data": {"k": "v"}})
        await cluster.delete(CONFIG_MAPS, "a", namespace)
        seen = []
        async with asyncio.timeout(10):
            async for event in cluster.watch(CONFIG_MAPS, namespace, labels={"mine": "yes"}, resource_version=version):
                if event.type is not WatchType.BOOKMARK:
                    seen.append((event.type, event.object["metadata"]["name"]))
                if len(seen) == 3:
                    break
        assert seen == [(WatchType.ADDED, "a"), (WatchType.MODIFIED, "a"), (WatchType.DELETED, "a")]

    async def test_resumes_from_the_last_event(self, cluster: Cluster, namespace: str) -> None:
        first = await cluster.create(CONFIG_MAPS, config_map(namespace, "a"))
        await cluster.create(CONFIG_MAPS, config_map(namespace, "b"))
        version = first["metadata"]["resourceVersion"]
        async with asyncio.timeout(10):
            async for event in cluster.watch(CONFIG_MAPS, namespace, resource_version=version):
                assert event.object["metadata"]["name"] == "b"
                break


class TestDelete:
    async def test_only_the_object_that_was_meant(self, cluster: Cluster, namespace: str) -> None:
        made = await cluster.create(CONFIG_MAPS, config_map(namespace))
        with pytest.raises(Conflict):
            await cluster.delete(CONFIG_MAPS, "one", namespace, uid="00000000-0000-0000-0000-000000000000")
        await cluster.delete(CONFIG_MAPS, "one", namespace, uid=made["metadata"]["uid"])
        with pytest.raises(NotFound):
            await cluster.get(CONFIG_MAPS, "one", namespace)

    async def test_a_pod_without_a_node_goes_at_once(self, cluster: Cluster, namespace: str) -> None:
        await cluster.create(PODS, pod(namespace))
        await cluster.delete(PODS, "p", namespace)
        with pytest.raises(NotFound):
            await cluster.get(PODS, "p", namespace)

    async def test_a_pod_on_a_node_stays_until_the_node_confirms(self, cluster: Cluster, namespace: str) -> None:
        made = await cluster.create(PODS, pod(namespace, node="somewhere"))
        await cluster.delete(PODS, "p", namespace, grace_seconds=20)
        there = await cluster.get(PODS, "p", namespace)
        assert there["metadata"]["deletionGracePeriodSeconds"] == 20
        assert there["metadata"]["deletionTimestamp"]
        await cluster.delete(PODS, "p", namespace, uid=made["metadata"]["uid"], grace_seconds=0)
        with pytest.raises(NotFound):
            await cluster.get(PODS, "p", namespace)

    async def test_a_finished_pod_goes_at_once(self, cluster: Cluster, namespace: str) -> None:
        await cluster.create(PODS, pod(namespace, node="somewhere"))
        await cluster.patch(PODS, "p", namespace, {"status": {"phase": "Succeeded"}}, subresource="status")
        await cluster.delete(PODS, "p", namespace)
        with pytest.raises(NotFound):
            await cluster.get(PODS, "p", namespace)

    async def test_what_an_owner_owns_goes_with_it(self, cluster: Cluster, namespace: str) -> None:
        owner = await cluster.create(TRAINING_JOBS, job().namespace(namespace).build())
        await cluster.create(PODS, pod(namespace, "owned", owner=owner))
        await cluster.create(PODS, pod(namespace, "free"))
        await cluster.delete(TRAINING_JOBS, "digits", namespace)

        async def names() -> bool:
            return [item["metadata"]["name"] for item in (await cluster.list(PODS, namespace)).items] == ["free"]

        await eventually(names, within=30, what="the owned pod is collected")

    async def test_a_finalizer_of_somebody_holds_the_object(self, cluster: Cluster, namespace: str) -> None:
        held = config_map(namespace)
        held["metadata"]["finalizers"] = ["example.com/hold"]
        await cluster.create(CONFIG_MAPS, held)
        await cluster.delete(CONFIG_MAPS, "one", namespace)
        assert (await cluster.get(CONFIG_MAPS, "one", namespace))["metadata"]["deletionTimestamp"]
        await cluster.patch(CONFIG_MAPS, "one", namespace, {"metadata": {"finalizers": None}})
        with pytest.raises(NotFound):
            await cluster.get(CONFIG_MAPS, "one", namespace)


async def test_a_headless_service_is_taken_as_we_write_it(cluster: Cluster, namespace: str) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "gang", "namespace": namespace},
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"job": "gang"}},
    }
    made = await cluster.create(SERVICES, service)
    assert made["spec"]["clusterIP"] == "None"
