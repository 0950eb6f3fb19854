"""`trainwright up`, `down`, `status`: what they start, mend and leave behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import psutil
import yaml

from support.twin import ROOT, TRAINWRIGHT, RunningTwin, command_lines, running_twin, trainwright
from support.waiting import eventually


async def test_up_again_mends_what_died_and_leaves_the_rest(twin: RunningTwin) -> None:
    before = {name: twin.twin._processes.process(name).pid for name in twin.twin._processes.names()}  # type: ignore[union-attr]
    scheduler = psutil.Process(before["scheduler"])
    scheduler.kill()
    await eventually(lambda: not twin.twin._processes.alive("scheduler"))
    assert "dead" in twin.cli("status", "--name", "t").stdout
    result = twin.cli("up", "--name", "t")
    assert result.returncode == 0, result.stderr
    assert f"export KUBECONFIG={twin.kubectl.kubeconfig}" in result.stdout
    assert "1 node, 4 GPUs" in result.stdout, "mending keeps what was asked for at first"
    after = {name: twin.twin._processes.process(name).pid for name in before}  # type: ignore[union-attr]
    assert after.pop("scheduler") != before.pop("scheduler")
    assert after == before


async def test_doctor_tells_a_twin_with_its_operator_from_one_without(twin: RunningTwin) -> None:
    def operator() -> tuple[str, str]:
        found = json.loads(twin.cli("doctor", "--output", "json").stdout)["findings"]
        (one,) = [one for one in found if one["check"] == "operator"]
        return one["level"], one["message"]

    assert operator() == ("ok", "the twin's operator is healthy")
    process = twin.twin._processes.process("operator")
    assert process is not None
    process.kill()
    await eventually(lambda: not twin.twin._processes.alive("operator"))
    assert operator() == ("problem", "the twin's operator does not answer")
    assert twin.cli("doctor").returncode == 1
    assert twin.cli("up", "--name", "t").returncode == 0
    assert twin.cli("doctor").returncode == 0
    shown = twin.cli("top")
    assert "of 4 in use" in shown.stdout


async def test_down_leaves_no_process_and_no_file_even_with_jobs_running() -> None:
    with running_twin(nodes=2, gpus_per_node=0) as twin:
        job = yaml.safe_load((ROOT / "manifests" / "samples" / "hello.yaml").read_text())
        job["spec"] |= {"command": ["sh", "-c", "trap '' TERM; while true; do sleep 1; done"], "workers": 3}
        # Left to the scheduler, which spreads them: capacity would have them together.
        job["spec"]["runPolicy"] = {"schedulingPolicy": {"provider": "none"}}
        twin.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(job))
        ready = lambda: twin.kubectl("get", "tj", "hello", "-o", "jsonpath={.status.workers.ready}")  # noqa: E731
        await eventually(lambda: ready() == "3/3", within=30, every=0.2)
        nodes = {pod["spec"]["nodeName"] for pod in twin.kubectl.json("get", "pods")["items"]}
        assert nodes == {"node-1", "node-2"}, "the real scheduler spreads over both nodes"
        seen = json.loads(twin.cli("status", "--name", "t", "--output", "json").stdout)
        assert set(seen["twin"]["nodes"]) == {"node-1", "node-2"}
        assert [one["metadata"]["name"] for one in seen["jobs"]] == ["hello"]
        home = str(twin.home)
        result = twin.cli("down", "--name", "t")
        assert result.returncode == 0, result.stderr
        assert command_lines(home) == []
        assert command_lines("trap '' TERM; while true; do sleep 1; done") == []
        assert list((twin.home / "twins").iterdir()) == []
        assert "was not up" in twin.cli("down", "--name", "t").stdout


def test_commands_without_a_cluster_say_how_to_get_one(tmp_path) -> None:  # type: ignore[no-untyped-def]
    env = {"TRAINWRIGHT_HOME": str(tmp_path), "KUBECONFIG": "", "HOME": str(tmp_path)}
    result = trainwright("status", "digits", env=env)
    assert result.returncode == 2
    assert "trainwright up" in result.stderr
    assert "Traceback" not in result.stderr
    result = trainwright("kubeconfig", env=env)
    assert result.returncode == 2
    assert "is not up" in result.stderr


def test_two_that_bring_it_up_at_once_bring_up_one() -> None:
    home = Path(tempfile.mkdtemp(prefix="tw-"))
    env = {"TRAINWRIGHT_HOME": str(home)}
    try:
        command = [TRAINWRIGHT, "up", "--name", "t"]
        both = [subprocess.Popen(command, env={**os.environ, **env}, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        said = [one.communicate(timeout=100)[1] for one in both]
        assert [one.returncode for one in both] == [0, 0], said
        assert sum("somebody else is bringing this twin up" in one for one in said) == 1
        assert len(command_lines("kube-apiserver", str(home))) == 1
    finally:
        trainwright("down", "--name", "t", env=env)
        shutil.rmtree(home, ignore_errors=True)
