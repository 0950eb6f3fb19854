"""`trainwright chaos`: every fault on a real training, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_story import digits, step

from support.jobs import apply, until
from support.twin import TRAINWRIGHT, RunningTwin
from support.waiting import eventually
from trainwright.local.slowdisk import Load
from trainwright_runtime.sealed import read_seal, verify


@pytest.fixture
def room(two_nodes: RunningTwin, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"c-{abs(hash(request.node.name)) % 10**6}"
    two_nodes.kubectl("create", "namespace", name)
    yield name
    two_nodes.kubectl("delete", "namespace", name, "--wait=false")
    for node in two_nodes.kubectl.json("get", "nodes")["items"]:
        two_nodes.kubectl("uncordon", node["metadata"]["name"])


async def training(twin: RunningTwin, room: str, *, epochs: int = 20, **spec: Any) -> dict[str, Any]:
    """A training with checkpoints, far from its end."""
    job = digits(step_delay_seconds=0.05, epochs=epochs)
    job["spec"] |= {"checkpoint": {"everySteps": 5}, "workers": 1, **spec}
    apply(twin, room, job)
    return await until(twin, room, lambda status: (status.get("checkpoint") or {}).get("step", 0) >= 5)


def chaos(twin: RunningTwin, *words: str) -> str:
    result = twin.cli("chaos", *words, "--name", "t")
    assert result.returncode == 0, result.stderr
    return result.stdout.replace("\n", " ")


async def resumed(twin: RunningTwin, room: str, *, within: float = 90) -> dict[str, Any]:
    return await until(twin, room, lambda status: (status.get("progress") or {}).get("resumedFrom"), within=within)


async def test_kill_worker(two_nodes: RunningTwin, room: str) -> None:
    await training(two_nodes, room)
    assert "of digits-worker-0" in chaos(two_nodes, "kill-worker", "digits", "-n", room)
    status = await resumed(two_nodes, room)
    assert (status["restarts"]["failure"], status["restarts"]["last"]["signal"]) == (1, 9)


async def test_hang_worker(two_nodes: RunningTwin, room: str) -> None:
    before = await training(two_nodes, room)
    assert "stood still for 2 s" in chaos(two_nodes, "hang-worker", "digits", "-n", room, "--for", "2")
    status = await until(two_nodes, room, lambda status: step(status) > step(before))
    assert status["restarts"]["total"] == 0


@pytest.mark.long
async def test_a_worker_that_hangs_for_long_has_its_gang_restarted(two_nodes: RunningTwin, room: str) -> None:
    """The other rank waits for it in an exchange, and says where; the one that hangs can't even say that."""
    await training(two_nodes, room, epochs=40, workers=2, runPolicy={"progressDeadlineSeconds": 3})
    stands = asyncio.create_task(
        asyncio.to_thread(chaos, two_nodes, "hang-worker", "digits", "-n", room, "--worker", "1", "--for", "25")
    )
    status = await resumed(two_nodes, room)
    last = status["restarts"]["last"]
    assert (last["cause"], last["pod"], status["restarts"]["byCause"]) == ("Hung", "digits-a1-worker-0", {"Hung": 1})
    assert re.search(r"File .* in ", last["evidence"]), "where the rank was that waited"
    events = two_nodes.kubectl("get", "events", "-n", room)
    assert "digits-a1-worker-1 said nothing at all" in events
    await stands


async def test_a_full_disk_is_said_and_leaves_the_checkpoints_before_it(two_nodes: RunningTwin, room: str) -> None:
    before = await training(two_nodes, room)
    assert "could write no file of more than" in chaos(two_nodes, "full-disk", "digits", "-n", room, "--for", "10")
    status = await resumed(two_nodes, room)
    assert status["progress"]["resumedFrom"] >= before["checkpoint"]["step"]
    assert "File too large" in status["restarts"]["last"]["evidence"]
    log = next(Path(status["checkpoint"]["path"]).parents[1].glob("logs/attempt-1/rank-0.log")).read_text()
    assert "could not be written" in log
    assert "those before it are intact" in log


async def test_a_slow_disk_delays_a_training_and_harms_nothing(two_nodes: RunningTwin, room: str) -> None:
    before = await training(two_nodes, room, epochs=6)
    volume = Path(before["checkpoint"]["path"]).parents[1]
    there = {path.name for path in volume.iterdir()}
    result = two_nodes.cli("chaos", "slow-disk", "digits", "-n", room, "--for", "5", "--name", "t")
    assert result.returncode == 0, result.stderr
    assert re.search(r"of 5 s: a flushed write takes \d+\.\d\d ms", result.stderr)
    said = re.search(r"took (\S+) ms instead of (\S+) ms \((\S+) times as long\)", result.stdout)
    assert said, result.stdout
    assert float(said[1]) / float(said[2]) == pytest.approx(float(said[3]), rel=0.1)
    status = await until(two_nodes, room, lambda status: status.get("phase") == "Succeeded")
    assert (status["attempt"], status["restarts"]["total"]) == (1, 0)
    assert status["checkpoint"]["step"] > before["checkpoint"]["step"]
    for path in volume.glob("checkpoints/step-*"):
        verify(path, read_seal(path))
    assert {path.name for path in volume.iterdir()} - there <= {"artifacts"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)], ids=["Ctrl-C", "TERM"])
async def test_a_slow_disk_that_is_called_off_leaves_nothing(
    two_nodes: RunningTwin, room: str, number: signal.Signals, code: int
) -> None:
    volume = Path((await training(two_nodes, room))["checkpoint"]["path"]).parents[1]
    words = ["chaos", "slow-disk", "digits", "-n", room, "--for", "600", "--name", "t"]
    command = subprocess.Popen(
        [TRAINWRIGHT, *words], env={**os.environ, **two_nodes.environment}, stderr=subprocess.PIPE, text=True
    )
    try:
        await eventually(lambda: len(scratch_files(command.pid, volume)) == 5, what="the writers and the probe at work")
        command.send_signal(number)
        assert command.wait(20) == code
    finally:
        command.kill()
        _, said = command.communicate()
    assert "Traceback" not in said
    assert not [path for path in volume.rglob("*") if path.is_file() and path.stat().st_size >= Load.file_bytes]


def scratch_files(pid: int, folder: Path) -> list[Path]:
    """Files without a name that a process holds there."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = link.readlink()
            if str(target).endswith("(deleted)") and target.is_relative_to(folder):
                found.append(target)
    return found


async def test_kill_operator_and_drop_api_are_not_noticed_by_a_training(two_nodes: RunningTwin, room: str) -> None:
    await training(two_nodes, room)
    assert "a new one works" in chaos(two_nodes, "kill-operator")
    assert "answered nothing for 3 s" in chaos(two_nodes, "drop-api", "--for", "3")
    before = two_nodes.kubectl.json("get", "tj", "digits", "-n", room)["status"]
    status = await until(two_nodes, room, lambda status: step(status) > step(before))
    assert (status["attempt"], status["restarts"]["total"]) == (1, 0)


async def test_drain_node(two_nodes: RunningTwin, room: str) -> None:
    await training(two_nodes, room)
    assert "is drained" in chaos(two_nodes, "drain-node", "digits", "-n", room)
    status = await resumed(two_nodes, room)
    assert (status["restarts"]["failure"], status["restarts"]["last"]["cause"]) == (0, "Evicted")


@pytest.mark.timeout(360)
@pytest.mark.long
async def test_stop_node(two_nodes: RunningTwin, room: str) -> None:
    """20 s until the node counts as away, 10 until its pods are given up, 30 of grace, 15 of patience with the silent node."""
    await training(two_nodes, room)
    assert "is off" in chaos(two_nodes, "stop-node", "digits", "-n", room)
    status = await resumed(two_nodes, room, within=240)
    assert (status["restarts"]["failure"], status["restarts"]["last"]["cause"]) == (0, "NodeLost")
    assert two_nodes.cli("up", "--name", "t").returncode == 0
    ready = '{.items[*].status.conditions[?(@.type=="Ready")].status}'
    await eventually(lambda: two_nodes.kubectl("get", "nodes", "-o", f"jsonpath={ready}") == "True True", within=30, every=0.2)


def test_what_is_not_there_can_t_be_broken(two_nodes: RunningTwin) -> None:
    result = two_nodes.cli("chaos", "kill-worker", "nobody", "--name", "t")
    assert result.returncode == 2
    assert "no process of worker 0 of job nobody runs in namespace default" in result.stderr.replace("\n", " ")
    result = two_nodes.cli("chaos", "drop-api", "--name", "not-there")
    assert result.returncode == 2
    assert "trainwright up" in result.stderr
