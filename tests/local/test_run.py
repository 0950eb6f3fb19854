"""`trainwright run`: a job without a cluster, in one process tree."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.twin import ROOT, TRAINWRIGHT, command_lines, trainwright
from support.waiting import eventually

DIGITS = ROOT / "manifests" / "samples" / "digits.yaml"


def write(path: Path, *objects: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump_all(objects))
    return path


def plain(name: str, *command: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "trainwright.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {"framework": "none", "command": list(command), **spec},
    }


def test_a_job_from_start_to_results(tmp_path: Path) -> None:
    file = write(tmp_path / "job.yaml", plain("greet", "sh", "-c", 'echo hello > "$TRAINWRIGHT_WORKSPACE/said"; echo spoken'))
    result = trainwright("run", file, "--dir", tmp_path / "runs")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "spoken" in result.stdout
    assert "Succeeded" in result.stdout
    assert (tmp_path / "runs" / "greet" / "workspace" / "said").read_text() == "hello\n"
    assert command_lines(str(tmp_path)) == []


def test_a_gang_that_waits_for_its_turn_elsewhere_has_room_here(tmp_path: Path) -> None:
    placement = {"nodeSelector": {"example.com/gpu": "h200"}, "topologyKey": "example.com/rack"}
    policy = {"schedulingPolicy": {"provider": "capacity", "priorityClass": "urgent"}}
    job = plain("gang", "true", workers=2, resources={"gpus": 4}, placement=placement, runPolicy=policy)
    result = trainwright("run", write(tmp_path / "job.yaml", job), "--dir", tmp_path / "runs", timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "all 2 workers finished" in result.stdout


def test_a_deployment_beside_the_job_is_left_out_with_a_word(tmp_path: Path) -> None:
    deployment = {
        "apiVersion": "trainwright.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "m"},
        "spec": {"server": "sklearn"},
    }
    file = write(tmp_path / "both.yaml", deployment, plain("greet", "true", publish={"deployment": "m"}))
    result = trainwright("run", file, "--dir", tmp_path / "runs")
    assert result.returncode == 0, result.stderr
    assert "ModelDeployment m is left out" in " ".join(result.stderr.split())
    assert "m: Offered" in result.stdout


def test_a_failing_job_shows_its_last_lines_and_exits_1(tmp_path: Path) -> None:
    file = write(tmp_path / "job.yaml", plain("broken", "sh", "-c", "echo the reason >&2; exit 3", runPolicy={"backoffLimit": 1}))
    result = trainwright("run", file, "--dir", tmp_path / "runs")
    assert result.returncode == 1
    assert "exited with code 3" in result.stdout
    assert "the reason" in result.stdout
    assert "attempt 2" in result.stdout


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"worker": 2}, "spec.worker: is not a field of a TrainingJob; known here: framework", id="an unknown field"),
        pytest.param({"workers": 0}, "spec.workers: 0", id="no workers"),
        pytest.param({"framework": "keras"}, "spec.framework: 'keras' is not one of", id="an unknown framework"),
        pytest.param(
            {"recipe": {"name": "x"}}, "exactly one of spec.recipe, spec.entrypoint and spec.command", id="two things to run"
        ),
    ],
)
def test_a_bad_job_is_refused_before_anything_starts(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    file = write(tmp_path / "job.yaml", plain("bad", "true", **change))
    for command in ("run", "submit"):
        result = trainwright(command, file)
        assert result.returncode == 2
        assert said in result.stderr
        assert "Traceback" not in result.stderr


def test_a_file_that_is_not_there_or_not_yaml(tmp_path: Path) -> None:
    assert "No such file" in trainwright("run", tmp_path / "none.yaml").stderr
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [")
    assert "is not YAML" in trainwright("run", bad).stderr


async def test_a_second_run_of_the_same_job_in_the_same_place_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "job.yaml", plain("one", "sh", "-c", 'touch "$TRAINWRIGHT_WORKSPACE/up"; sleep 60'))
    command = [TRAINWRIGHT, "run", file, "--dir", tmp_path / "runs"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    await eventually((tmp_path / "runs" / "one" / "workspace" / "up").exists, within=30)
    second = trainwright("run", file, "--dir", tmp_path / "runs")
    assert second.returncode == 2
    assert "another `trainwright run` of this job" in second.stderr
    first.send_signal(signal.SIGINT)
    assert first.wait(timeout=60) == 130
    assert command_lines(str(tmp_path)) == []


async def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path: Path) -> None:
    job = yaml.safe_load(DIGITS.read_text())
    job["spec"]["checkpoint"] = {"everySteps": 100_000}
    job["spec"]["recipe"]["config"] |= {"step_delay_seconds": 0.1, "epochs": 4}
    file = write(tmp_path / "job.yaml", job)
    command = [TRAINWRIGHT, "run", file, "--dir", tmp_path / "runs"]
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        progress = tmp_path / "runs" / "digits" / "workspace" / "logs" / "attempt-1" / "rank-0.log"
        await eventually(lambda: progress.exists() and "epoch 1/" in progress.read_text(), within=60)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130, log.read_text()
    assert "the same command goes on" in log.read_text()
    saved = list((tmp_path / "runs" / "digits" / "workspace" / "checkpoints").glob("step-*/manifest.json"))
    assert len(saved) == 1, "no checkpoint was due but the one that SIGTERM asks for"
    step = json.loads(saved[0].read_text())["step"]
    assert command_lines(str(tmp_path)) == []
    job["spec"]["recipe"]["config"]["step_delay_seconds"] = 0.0
    write(file, job)
    result = trainwright("run", file, "--dir", tmp_path / "runs", env={**os.environ, "COLUMNS": "200"})
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"resumed from step {step}" in result.stdout
