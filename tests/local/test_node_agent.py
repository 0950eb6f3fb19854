"""What pods of a real twin live through: the death of the node's agent, and of the API server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import yaml

from support.twin import RunningTwin
from support.waiting import eventually
from trainwright.local.process import marked


def apply(twin: RunningTwin, space: str, name: str, script: str) -> str:
    """Start a pod and wait until it runs; its uid."""
    container = {"name": "main", "image": "example", "command": ["sh", "-c", script]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]},
    }
    twin.kubectl("apply", "-n", space, "-f", "-", stdin=yaml.safe_dump(pod))
    return twin.kubectl("get", "pod", name, "-n", space, "-o", "jsonpath={.metadata.uid}")


def status(twin: RunningTwin, space: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = twin.kubectl.json("get", "pod", name, "-n", space)["status"]
    return found


def ended(twin: RunningTwin, space: str, name: str) -> dict[str, Any] | None:
    container: dict[str, Any] = status(twin, space, name).get("containerStatuses", [{"state": {}}])[0]
    return container["state"].get("terminated")


async def killed(twin: RunningTwin, name: str) -> None:
    process = twin.twin._processes.process(name)
    assert process is not None
    process.kill()
    await eventually(lambda: not twin.twin._processes.alive(name))


def up(twin: RunningTwin) -> None:
    result = twin.cli("up", "--name", "t", "--gpus-per-node", "4")
    assert result.returncode == 0, result.stderr


async def test_an_agent_that_was_killed_comes_back_and_follows_the_pods_that_went_on(
    twin: RunningTwin, space: str, tmp_path: Path
) -> None:
    starts, go = tmp_path / "starts", tmp_path / "go"
    script = f"echo started >> {starts}; while [ ! -e {go} ]; do sleep 0.05; done; echo went on; exit 7"
    uid = apply(twin, space, "stays", script)
    gone = apply(twin, space, "goes", "exec sleep 1000")
    apply(twin, space, "over", "echo done")
    ends = apply(twin, space, "ends", f"while [ ! -e {tmp_path}/end ]; do sleep 0.05; done; exit 3")
    for one in (uid, gone, ends):
        await eventually(lambda one=one: marked(one), within=20, every=0.1)
    await eventually(lambda: status(twin, space, "stays")["phase"] == "Running", within=20, every=0.1)
    await eventually(lambda: status(twin, space, "ends")["phase"] == "Running", within=20, every=0.1)
    await eventually(lambda: ended(twin, space, "over"), within=20, every=0.1)
    before = status(twin, space, "stays")
    await killed(twin, "node-1")
    (tmp_path / "end").touch()
    await eventually(lambda: not marked(ends), what="a pod ends while nobody looks")
    twin.kubectl("delete", "pod", "goes", "-n", space, "--force", "--grace-period=0")
    up(twin)
    assert (await eventually(lambda: ended(twin, space, "ends"), within=20, every=0.1))["exitCode"] == 3
    await eventually(lambda: not marked(gone), what="what is deleted is ended")
    assert marked(uid), "pods don't die with their agent, nor by its return"
    go.touch()
    last = await eventually(lambda: ended(twin, space, "stays"), within=20, every=0.1)
    assert (last["exitCode"], last["reason"]) == (7, "Error")
    after = status(twin, space, "stays")
    assert after["podIP"] == before["podIP"]
    assert after["containerStatuses"][0]["restartCount"] == 0
    assert starts.read_text() == "started\n"
    assert twin.kubectl("logs", "stays", "-n", space) == "went on\n"
    assert twin.kubectl("logs", "over", "-n", space) == "done\n", "the log of a pod that was over before stays"
    after = apply(twin, space, "after", "exit 0")
    await eventually(lambda: status(twin, space, "after")["phase"] == "Succeeded", within=20, every=0.1)
    assert not [one for one in marked(after) if one.status() != psutil.STATUS_ZOMBIE]


async def test_a_pod_that_ends_while_the_api_server_is_dead_is_told_of_later(
    twin: RunningTwin, space: str, tmp_path: Path
) -> None:
    uid = apply(twin, space, "p", f"while [ ! -e {tmp_path}/go ]; do sleep 0.1; done; echo last words; exit 7")
    await eventually(lambda: status(twin, space, "p")["phase"] == "Running", within=20, every=0.1)
    await killed(twin, "apiserver")
    (tmp_path / "go").touch()
    await eventually(lambda: not marked(uid), within=10)
    assert twin.twin._processes.alive("node-1")
    up(twin)
    last = await eventually(lambda: ended(twin, space, "p"), within=30, every=0.1)
    assert (last["exitCode"], last["reason"]) == (7, "Error")
    assert twin.kubectl("logs", "p", "-n", space) == "last words\n"
