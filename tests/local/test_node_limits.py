"""What becomes of containers above their memory, of processes that hide, and of cgroups that a killed agent left.

Each with both ways to hold a container to its memory: the agent's watch, and the kernel's cgroups.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import psutil
import pytest

from support.node import Unreliable, cgroups_left, pod, running_node, state_of
from support.waiting import eventually
from trainwright.cluster.port import PODS, Object
from trainwright.local.cgroups import Groups
from trainwright.local.process import marked

EAT = f"{sys.executable} -c 'import time; held = bytearray({{}} << 20); time.sleep({{}})'"
LIMIT = {"resources": {"limits": {"memory": "200Mi"}}}


async def test_a_container_above_its_memory_is_killed(cluster: Unreliable, tmp_path: Path) -> None:
    async with running_node(cluster, tmp_path):
        await cluster.create(PODS, pod("greedy", f"{EAT.format(400, 60)} & wait", container=LIMIT))
        await cluster.create(PODS, pod("modest", f"{EAT.format(50, 1)} & wait", container=LIMIT))
        end = await state_of(cluster, "greedy", "terminated")
        assert (end["exitCode"], end["reason"]) == (137, "OOMKilled")
        assert (await state_of(cluster, "modest", "terminated"))["exitCode"] == 0


async def test_one_greedy_process_ends_the_container_whole(cluster: Unreliable, tmp_path: Path) -> None:
    async with running_node(cluster, tmp_path):
        await cluster.create(PODS, pod("p", f"{EAT.format(400, 60)} & sleep 600; wait", container=LIMIT))
        end = await state_of(cluster, "p", "terminated")
        assert (end["exitCode"], end["reason"]) == (137, "OOMKilled")


async def test_a_container_that_starts_again_starts_with_all_of_its_memory(cluster: Unreliable, tmp_path: Path) -> None:
    script = f'if [ -e "$HOME/again" ]; then exit 0; fi; touch "$HOME/again"; {EAT.format(400, 60)}'
    async with running_node(cluster, tmp_path):
        await cluster.create(PODS, pod("p", script, container=LIMIT, restartPolicy="OnFailure"))
        end = await state_of(cluster, "p", "terminated")
        assert (end["exitCode"], end["reason"]) == (0, "Completed")


async def test_a_burst_is_not_missed_by_the_kernel(cluster: Unreliable, tmp_path: Path) -> None:
    if cluster.groups is None:
        pytest.skip("the watch looks four times a second, and says so in docs/local-twin.md")
    async with running_node(cluster, tmp_path):
        await cluster.create(PODS, pod("p", f"{EAT.format(400, 0)}; exit 0", container=LIMIT))
        end = await state_of(cluster, "p", "terminated")
        assert (end["exitCode"], end["reason"]) == (137, "OOMKilled")


async def test_a_process_that_hides_from_the_node_is_found_in_its_group(cluster: Unreliable, tmp_path: Path) -> None:
    if cluster.groups is None:
        pytest.skip("only a cgroup keeps what has left its session and its environment")
    async with running_node(cluster, tmp_path):
        script = f"env -i setsid sleep 600 & echo $! > {tmp_path}/pid; sleep 0.2"
        await cluster.create(PODS, pod("p", script))
        await state_of(cluster, "p", "terminated")
        hidden = int((tmp_path / "pid").read_text())
        await eventually(lambda: not psutil.pid_exists(hidden) or psutil.Process(hidden).status() == psutil.STATUS_ZOMBIE)


async def test_an_agent_finds_the_limits_of_the_one_before_it(cluster: Unreliable, tmp_path: Path) -> None:
    """The first agent is killed, as a process: only that leaves its pods running. The second knows of no groups itself."""
    stored = await cluster.create(
        PODS, pod("p", f'while [ ! -e "$HOME/go" ]; do sleep 0.02; done; {EAT.format(400, 60)}', container=LIMIT)
    )
    uid = stored["metadata"]["uid"]
    await started_by_an_agent_that_died(tmp_path, stored, cluster.groups)
    groups, cluster.groups = cluster.groups, None
    async with running_node(cluster, tmp_path):
        await state_of(cluster, "p", "running")
        (tmp_path / "pods" / uid / "go").touch()
        end = await state_of(cluster, "p", "terminated")
        assert (end["exitCode"], end["reason"]) == (137, "OOMKilled")
    assert groups is None or not cgroups_left(groups)


async def test_a_new_agent_removes_the_groups_of_pods_that_are_gone(cluster: Unreliable, tmp_path: Path) -> None:
    stored = await cluster.create(PODS, pod("p", "sleep 600", container=LIMIT))
    await started_by_an_agent_that_died(tmp_path, stored, cluster.groups)
    await cluster.delete(PODS, "p", "default", grace_seconds=0)
    async with running_node(cluster, tmp_path):
        await eventually(lambda: not (tmp_path / "pods" / stored["metadata"]["uid"]).exists())
        assert cluster.groups is None or not cgroups_left(cluster.groups)


async def started_by_an_agent_that_died(state: Path, pod: Object, groups: Groups | None) -> None:
    """What an agent leaves of a pod that runs when it is killed."""
    uid, main = pod["metadata"]["uid"], pod["spec"]["containers"][0]
    folder = state / "pods" / uid
    folder.mkdir(parents=True)
    program = """
import asyncio, json, os, sys
from pathlib import Path
from trainwright.local.cgroups import Groups
from trainwright.local.process import ContainerProcess
folder, command, path, version = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3], int(sys.argv[4])
groups = Groups(Path(path), version) if path else None
env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
start = ContainerProcess.start(command, env=env, cwd=folder, log=folder / "log", mark=folder.name,
    folder=folder / "containers" / "main", started="2026-11-21T09:00:00Z", memory=200 << 20, groups=groups)
async def main():
    await start
    os._exit(9)
asyncio.run(main())
"""
    where = [str(groups.path), str(groups.version)] if groups else ["", "0"]
    agent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(folder), json.dumps(main["command"]), *where)
    assert await agent.wait() == 9
    assert marked(uid)
