"""What a twin of two nodes lives through: a drained node, a second twin beside it, the end of the whole machine."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from support.twin import RunningTwin
from support.waiting import eventually
from trainwright.local.process import marked

SCRIPT = "echo started >> $TRAINWRIGHT_WORKSPACE/starts; while [ ! -e $TRAINWRIGHT_WORKSPACE/go ]; do sleep 0.1; done"


def submit(twin: RunningTwin, name: str, **spec: Any) -> None:
    job = {
        "apiVersion": "trainwright.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {
            "framework": "none",
            "command": ["sh", "-c", SCRIPT],
            "resources": {"gpus": 1},
            "runPolicy": {"backoffLimit": 0},
            **spec,
        },
    }
    twin.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(job))


def status(twin: RunningTwin, name: str) -> dict[str, Any]:
    found: dict[str, Any] = twin.kubectl.json("get", "tj", name).get("status", {})
    return found


async def running(twin: RunningTwin, name: str, attempt: int) -> dict[str, Any]:
    def met() -> dict[str, Any] | None:
        seen = status(twin, name)
        assert seen.get("phase") != "Failed", seen
        return seen if seen.get("phase") == "Running" and seen["attempt"] == attempt else None

    seen: dict[str, Any] = await eventually(met, within=60, every=0.2, what=f"{name} runs as attempt {attempt}")
    return seen


def workspace(twin: RunningTwin, name: str) -> Path:
    claim = twin.kubectl.json("get", "pvc", f"{name}-workspace")
    return Path(twin.kubectl.json("get", "pv", claim["spec"]["volumeName"])["spec"]["hostPath"]["path"])


async def succeeds(twin: RunningTwin, name: str) -> dict[str, Any]:
    (workspace(twin, name) / "go").touch()
    await eventually(lambda: status(twin, name)["phase"] == "Succeeded", within=30, every=0.2, what=f"{name} succeeds")
    return status(twin, name)


async def test_a_drained_node_costs_a_restart_that_is_not_counted(two_nodes: RunningTwin) -> None:
    twin = two_nodes
    submit(twin, "drained")
    await running(twin, "drained", 1)
    (pod,) = twin.kubectl.json("get", "pods", "-l", "trainwright.dev/job=drained")["items"]
    node = pod["spec"]["nodeName"]
    try:
        twin.kubectl("drain", node, "--force", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=50s")
        seen = await running(twin, "drained", 2)
        assert (seen["restarts"]["failure"], seen["restarts"]["infrastructure"]) == (0, 1)
        assert seen["restarts"]["last"]["cause"] == "Evicted"
        (pod,) = twin.kubectl.json("get", "pods", "-l", "trainwright.dev/job=drained,trainwright.dev/attempt=2")["items"]
        assert pod["spec"]["nodeName"] != node
        await succeeds(twin, "drained")
    finally:
        twin.kubectl("uncordon", node)


async def test_a_second_twin_is_none_of_its_business(two_nodes: RunningTwin, twin: RunningTwin) -> None:
    submit(two_nodes, "beside")
    await running(two_nodes, "beside", 1)
    assert json.loads(twin.cli("status", "--name", "t", "--output", "json").stdout)["twin"]["nodes"].keys() == {"node-1"}
    assert "beside" not in twin.kubectl("get", "tj", "-A")
    await succeeds(two_nodes, "beside")


async def test_after_the_end_of_the_machine_up_goes_on_with_the_jobs(two_nodes: RunningTwin) -> None:
    twin = two_nodes
    submit(twin, "machine")
    await running(twin, "machine", 1)
    names = twin.twin._processes.names()
    pods = [folder.name for folder in (twin.twin.state / "nodes").glob("*/pods/*")]
    doomed = [twin.twin._processes.process(name) for name in names] + [one for uid in pods for one in marked(uid)]
    for process in doomed:
        assert process is not None
        # A script's `sleep` may end by itself meanwhile.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    await eventually(lambda: not any(twin.twin._processes.alive(name) for name in names), what="all of the twin is dead")
    result = twin.cli("up", "--name", "t")
    assert result.returncode == 0, result.stderr
    seen = await running(twin, "machine", 2)
    assert seen["restarts"]["last"]["cause"] == "NodeLost"
    assert (seen["restarts"]["failure"], seen["restarts"]["infrastructure"]) == (0, 1)
    assert (workspace(twin, "machine") / "starts").read_text() == "started\n" * 2
    await succeeds(twin, "machine")


@pytest.mark.parametrize(
    ("provider", "says"),
    [
        ("capacity", "within one example.com/rack room for 1 of 2 workers at most"),
        ("none", "1 of 2 workers wait"),
    ],
)
async def test_a_topology_key_keeps_the_gang_on_nodes_of_one_value(two_nodes: RunningTwin, provider: str, says: str) -> None:
    """Two nodes with one GPU each are two racks: a gang of two finds no rack for both, and says so; in one rack it runs."""
    twin, name = two_nodes, f"together-{provider}"
    for number in (1, 2):
        twin.kubectl("label", "node", f"node-{number}", f"example.com/rack=r{number}", "--overwrite")
    policy = {"schedulingPolicy": {"provider": provider}}
    submit(twin, name, workers=2, placement={"topologyKey": "example.com/rack"}, runPolicy=policy)
    await eventually(
        lambda: says in (status(twin, name).get("reason") or ""),
        within=30,
        every=0.2,
        what="one worker of the gang finds no room beside the other",
    )
    twin.kubectl("label", "node", "node-2", "example.com/rack=r1", "--overwrite")
    await running(twin, name, 1)
    await succeeds(twin, name)
