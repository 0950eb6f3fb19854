"""The process node's corners: processes are real, the cluster is the in-memory one, and pods are bound by the test.

What kubectl shows of a node is in test_node.py, on a real API server.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.node import Unreliable, log_of, pod, running_node, state_of
from support.waiting import eventually
from trainwright.cluster.memory import MemoryCluster
from trainwright.cluster.port import CONFIG_MAPS, NODES, PODS, SECRETS, ClusterError, Object, Resource
from trainwright.local.gpus import Gpus
from trainwright.local.process import MARK, marked


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("harm", ['rm "$WHERE"', 'rm "$WHERE"; mkdir "$WHERE"', 'rm -r "$HOME"/*'])
async def test_a_pod_that_spoils_its_own_files_still_ends(cluster: Unreliable, harm: str) -> None:
    env = [{"name": "WHERE", "value": "/dev/termination-log"}]
    container = {"env": env, "terminationMessagePolicy": "FallbackToLogsOnError"}
    await cluster.create(PODS, pod("p", f"{harm}; exit 3", container=container))
    assert (await state_of(cluster, "p", "terminated"))["exitCode"] == 3


@pytest.mark.usefixtures("node")
async def test_last_words_belong_to_one_start_of_the_container(cluster: Unreliable) -> None:
    script = 'if [ -e "$HOME/again" ]; then exit 0; fi; touch "$HOME/again"; echo first > "$WHERE"; exit 1'
    container = {"env": [{"name": "WHERE", "value": "/dev/termination-log"}]}
    await cluster.create(PODS, pod("p", script, container=container, restartPolicy="OnFailure"))
    ended = await state_of(cluster, "p", "terminated")
    assert (ended["exitCode"], ended.get("message")) == (0, None)


def _variable(**source: Any) -> dict[str, Any]:
    return {"container": {"env": [{"name": "X", "valueFrom": source}]}}


def _volume(**source: Any) -> dict[str, Any]:
    return {"container": {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}, "volumes": [{"name": "v", **source}]}


MISSING = {
    "a config map of a variable": (
        _variable(configMapKeyRef={"name": "none", "key": "k"}),
        ("CreateContainerConfigError", 'configmap "none" not found'),
    ),
    "a key of a variable": (
        _variable(configMapKeyRef={"name": "map", "key": "none"}),
        ("CreateContainerConfigError", "couldn't find key none in ConfigMap map"),
    ),
    "a secret of a variable": (
        _variable(secretKeyRef={"name": "none", "key": "k"}),
        ("CreateContainerConfigError", 'secret "none" not found'),
    ),
    "a variable that is not text": (
        _variable(secretKeyRef={"name": "binary", "key": "k"}),
        ("CreateContainerConfigError", "key k of binary is not text and can't be an environment variable"),
    ),
    "a config map of a volume": (_volume(configMap={"name": "none"}), ("ContainerCreating", 'configmap "none" not found')),
    "a key of a volume": (
        _volume(configMap={"name": "map", "items": [{"key": "none", "path": "x"}]}),
        ("ContainerCreating", 'configmap "map" references non-existent key: none'),
    ),
    "a claim": (
        _volume(persistentVolumeClaim={"claimName": "none"}),
        ("ContainerCreating", 'persistentvolumeclaim "none" not found'),
    ),
}


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize(("spec", "said"), MISSING.values(), ids=MISSING.keys())
async def test_what_a_pod_waits_for_is_said_in_a_kubelet_s_words(
    cluster: Unreliable, spec: dict[str, Any], said: tuple[str, str]
) -> None:
    await cluster.create(CONFIG_MAPS, {"metadata": {"name": "map", "namespace": "default"}, "data": {"a": "b"}})
    await cluster.create(SECRETS, {"metadata": {"name": "binary", "namespace": "default"}, "data": {"k": "//79"}})
    await cluster.create(PODS, pod("p", "true", **spec))

    async def message() -> tuple[str, str] | None:
        waiting = await state_of(cluster, "p", "waiting")
        return (waiting["reason"], waiting["message"]) if "message" in waiting else None

    assert await eventually(message) == said


@pytest.mark.usefixtures("node")
async def test_files_of_volumes_have_the_modes_that_were_asked_for(cluster: Unreliable, tmp_path: Path) -> None:
    script = {"run": "#!/bin/sh\necho it ran\n", "plain": "x"}
    await cluster.create(CONFIG_MAPS, {"metadata": {"name": "map", "namespace": "default"}, "data": script})
    items = [{"key": "run", "path": "run", "mode": 0o500}, {"key": "plain", "path": "plain"}]
    spec = _volume(configMap={"name": "map", "defaultMode": 0o440, "items": items})
    spec["container"]["args"] = ["sh", "/v"]
    await cluster.create(PODS, pod("p", '"$1/run"; stat -c %a "$1/run" "$1/plain"', **spec))
    await state_of(cluster, "p", "terminated")
    assert (await log_of(tmp_path, cluster, "p")).split() == ["it", "ran", "500", "440"]


@pytest.mark.usefixtures("node")
async def test_from_bound_to_running_takes_well_under_a_second(cluster: Unreliable) -> None:
    began = time.monotonic()
    await cluster.create(PODS, pod("p", "sleep 60"))
    await state_of(cluster, "p", "running")
    assert time.monotonic() - began < 1.0, "measured: 8 ms"


async def test_real_gpus_are_exclusive_and_pretended_ones_hidden(cluster: Unreliable, tmp_path: Path) -> None:
    def asks(name: str, gpus: int) -> Object:
        limits = {"resources": {"limits": {"nvidia.com/gpu": str(gpus)}}} if gpus else {}
        return pod(name, 'echo "[$CUDA_VISIBLE_DEVICES]"; sleep 60', container=limits)

    async def seen(*names: str) -> list[str]:
        for name in names:
            await eventually(lambda name=name: log_of(tmp_path, cluster, name), what=f"{name} speaks")
        return [(await log_of(tmp_path, cluster, name)).strip() for name in names]

    async with running_node(cluster, tmp_path, gpus=Gpus(real=["GPU-a", "GPU-b", "GPU-c"], pretended=8)):
        for name, count in (("two", 2), ("one", 1), ("none", 0)):
            await cluster.create(PODS, asks(name, count))
            await state_of(cluster, name, "running")
        assert await seen("two", "one", "none") == ["[GPU-a,GPU-b]", "[GPU-c]", "[]"]
        await cluster.delete(PODS, "two", "default", grace_seconds=1)
        await eventually(lambda: _is_gone(cluster, "two"))
        await cluster.create(PODS, asks("next", 1))
        await state_of(cluster, "next", "running")
        assert await seen("next") == ["[GPU-a]"]


async def _is_gone(cluster: MemoryCluster, name: str) -> bool:
    return all(pod["metadata"]["name"] != name for pod in (await cluster.list(PODS)).items)


async def test_pods_outlive_an_api_server_that_is_away_and_the_node_comes_back(
    cluster: Unreliable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainwright.local.node.LEASE_SECONDS", 0.05)
    async with running_node(cluster, tmp_path) as node:
        await cluster.create(PODS, pod("p", 'while [ ! -e "$HOME/go" ]; do sleep 0.02; done; exit 7'))
        await state_of(cluster, "p", "running")
        uid = (await cluster.get(PODS, "p", "default"))["metadata"]["uid"]
        await cluster.delete(NODES, "n")
        cluster.away = True
        (tmp_path / "pods" / uid / "go").touch()
        await eventually(lambda: not marked(uid), what="the process ends while nobody can be told")
        assert not node.done()
        cluster.away = False
        assert (await state_of(cluster, "p", "terminated"))["exitCode"] == 7
        await eventually(lambda: _has_node(cluster), what="the node registers again")


async def test_a_node_whose_return_is_refused_tries_again(
    cluster: Unreliable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainwright.local.node.LEASE_SECONDS", 0.05)
    refusals = iter([ClusterError("etcdserver: leader changed", status=500)] * 2)
    create = cluster.create

    async def refusing(resource: Resource, obj: Object) -> Object:
        if resource is NODES and (refusal := next(refusals, None)):
            raise refusal
        return await create(resource, obj)

    async with running_node(cluster, tmp_path) as node:
        await eventually(lambda: _has_node(cluster))
        monkeypatch.setattr(cluster, "create", refusing)
        await cluster.delete(NODES, "n")
        await eventually(lambda: _has_node(cluster), what="the node registers again")
        assert not node.done()


async def _has_node(cluster: MemoryCluster) -> bool:
    return any(one["metadata"]["name"] == "n" for one in (await cluster.list(NODES)).items)


async def left_behind(cluster: MemoryCluster, state: Path, obj: Object) -> tuple[Object, psutil.Process]:
    """A pod that runs, as far as the cluster knows, and the process that a killed agent left of it."""
    stored = await cluster.create(PODS, obj)
    uid = stored["metadata"]["uid"]
    (state / "pods" / uid).mkdir(parents=True)
    process = subprocess.Popen(["sleep", "1000"], env={**os.environ, MARK: uid}, start_new_session=True)
    running = {"name": "main", "restartCount": 0, "state": {"running": {"startedAt": "2026-11-21T09:00:00Z"}}}
    status = {"phase": "Running", "startTime": "2026-11-21T09:00:00Z", "containerStatuses": [running]}
    await cluster.patch(PODS, obj["metadata"]["name"], "default", {"status": status}, subresource="status")
    return stored, psutil.Process(process.pid)


async def test_a_new_agent_never_runs_a_pod_a_second_time(cluster: Unreliable, tmp_path: Path) -> None:
    _, first = await left_behind(cluster, tmp_path, pod("once", "touch $HOME/../../twice"))
    _, second = await left_behind(cluster, tmp_path, pod("again", "exit 0", restartPolicy="OnFailure"))
    async with running_node(cluster, tmp_path):
        ended = await state_of(cluster, "once", "terminated")
        assert (ended["exitCode"], ended["reason"], ended["startedAt"]) == (137, "ContainerStatusUnknown", "2026-11-21T09:00:00Z")
        assert (await cluster.get(PODS, "once", "default"))["status"]["phase"] == "Failed"
        assert (await state_of(cluster, "again", "terminated"))["exitCode"] == 0
        status = (await cluster.get(PODS, "again", "default"))["status"]["containerStatuses"][0]
        assert status["restartCount"] == 1
        assert {_status(first), _status(second)} <= {psutil.STATUS_ZOMBIE, "gone"}
        assert not (tmp_path / "twice").exists()


async def test_a_new_agent_ends_what_is_left_of_pods_that_are_gone_but_not_of_a_living_one(
    cluster: Unreliable, tmp_path: Path
) -> None:
    gone, process = await left_behind(cluster, tmp_path, pod("gone", "true"))
    await cluster.delete(PODS, "gone", "default", grace_seconds=0)
    async with running_node(cluster, tmp_path):
        await eventually(lambda: not (tmp_path / "pods" / gone["metadata"]["uid"]).exists())
        assert _status(process) in (psutil.STATUS_ZOMBIE, "gone")
        await cluster.create(PODS, pod("alive", "sleep 60"))
        await state_of(cluster, "alive", "running")
        uid = (await cluster.get(PODS, "alive", "default"))["metadata"]["uid"]
        other = Unreliable()
        other.groups = cluster.groups
        async with running_node(other, tmp_path):
            await eventually(lambda: _has_node(other))
            await other.create(PODS, pod("mine", "true"))
            await state_of(other, "mine", "terminated")
            assert marked(uid), "a second agent on the same folder leaves the first one's pods alone"


def _status(process: psutil.Process) -> str:
    try:
        return process.status()
    except psutil.NoSuchProcess:
        return "gone"


async def test_steps_before_the_container_run_one_after_the_other(cluster: Unreliable, tmp_path: Path) -> None:
    share = {"name": "share", "mountPath": "/share"}

    def step(name: str, script: str) -> Object:
        return {"name": name, "image": "example", "command": ["sh", "-c", script], "volumeMounts": [share]}

    steps = [step("first", "echo one > /share/said"), step("second", "test -e /share/said && echo two >> /share/said")]
    main = {"volumeMounts": [share], "terminationMessagePolicy": "FallbackToLogsOnError"}
    volumes = [{"name": "share", "emptyDir": {}}]
    async with running_node(cluster, tmp_path):
        obj = pod("p", "cat /share/said", container=main, initContainers=steps, volumes=volumes)
        await cluster.create(PODS, obj)
        assert (await state_of(cluster, "p", "terminated"))["exitCode"] == 0
        assert await log_of(tmp_path, cluster, "p") == "one\ntwo\n"
        status = (await cluster.get(PODS, "p", "default"))["status"]
        assert [one["state"]["terminated"]["exitCode"] for one in status["initContainerStatuses"]] == [0, 0]
        assert {"type": "Initialized", "status": "True"}.items() <= next(
            one for one in status["conditions"] if one["type"] == "Initialized"
        ).items()

        steps[0]["command"][2] = "echo no disk; exit 5"
        steps[0]["terminationMessagePolicy"] = "FallbackToLogsOnError"
        await cluster.create(PODS, pod("q", "echo never", initContainers=steps, volumes=volumes))
        failed = await eventually(lambda: _phase(cluster, "q", "Failed"), within=15)
        first = failed["initContainerStatuses"][0]["state"]["terminated"]
        assert (first["exitCode"], first["message"]) == (5, "no disk")
        assert failed["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
        assert failed["conditions"][1]["status"] == "False"


async def _phase(cluster: MemoryCluster, name: str, phase: str) -> dict[str, Any] | None:
    status: dict[str, Any] = (await cluster.get(PODS, name, "default"))["status"]
    return status if status.get("phase") == phase else None
