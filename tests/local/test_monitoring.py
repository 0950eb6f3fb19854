"""A real Prometheus beside a twin: it finds operator and workers by itself, and its rules are what promtool says they are."""

from __future__ import annotations

import asyncio
import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from support.jobs import apply, get, kill_worker, sample, succeeded, until
from support.twin import ROOT, RunningTwin, running_twin
from support.waiting import eventually
from trainwright.local import prometheus

FOLDER = ROOT / "manifests" / "monitoring"


def promtool(*words: str) -> str:
    result = subprocess.run(
        [prometheus.ensure(print)["promtool"], *words], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_rules_are_right_and_alerts_fire_when_they_should() -> None:
    assert "SUCCESS" in promtool("check", "rules", "rules.yaml")
    assert "SUCCESS" in promtool("test", "rules", "rules.test.yaml")
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")


def query(twin: RunningTwin, expression: str) -> list[dict[str, Any]]:
    """What an instant query finds; numbers that are none don't count as found."""
    url = f"{twin.twin.prometheus_url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return [one for one in found if one["value"][1] != "NaN"]


@pytest.fixture(scope="module")
def monitored() -> Iterator[RunningTwin]:
    with running_twin(gpus_per_node=2, monitoring=True) as twin:
        yield twin


@pytest.fixture(scope="module")
def trained(monitored: RunningTwin) -> RunningTwin:
    """A training of two workers behind it, one of them killed on the way, with GPUs that are only counted."""

    async def story() -> None:
        job = sample("digits")
        job["spec"] |= {"resources": {"gpus": 1, "cpu": "500m", "memory": "2Gi"}, "checkpoint": {"everySteps": 20}}
        job["spec"]["recipe"]["config"] |= {"step_delay_seconds": 0.1, "log_every_steps": 2}
        apply(monitored, "default", job)
        await until(monitored, "default", lambda status: (status.get("checkpoint") or {}).get("step", 0) >= 40)
        kill_worker(get(monitored, "default"), 1)
        await until(monitored, "default", lambda status: (status.get("progress") or {}).get("step", 0) >= 150, within=120)

    asyncio.run(story())
    return monitored


async def test_it_finds_operator_and_workers_by_itself(trained: RunningTwin) -> None:
    await eventually(lambda: len(query(trained, 'up{job="digits"} == 1')) == 2, within=20)
    (step, other) = query(trained, "trainwright_step")
    assert step["metric"].items() >= {"namespace": "default", "job": "digits", "attempt": "2", "worker": "0", "rank": "0"}.items()
    assert other["metric"]["pod"] == "digits-a2-worker-1"
    (ratio,) = query(trained, 'trainwright_job_progress_ratio{namespace="default", job="digits"}')
    assert 0 < float(ratio["value"][1]) < 1
    (restarts,) = query(trained, "trainwright_job_restarts_total")
    assert (restarts["metric"]["cause"], restarts["value"][1]) == ("Killed", "1")
    assert query(trained, "trainwright_data_wait_seconds_total > 0")
    assert query(trained, "trainwright_gradient_norm > 0")
    assert query(trained, "trainwright_learning_rate > 0")


async def test_every_recording_rule_finds_something_in_a_real_training(trained: RunningTwin) -> None:
    groups = yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"] if "record" in rule):
        await eventually(lambda name=rule["record"]: query(trained, name), within=30, what=rule["record"])


async def test_it_goes_on_with_an_operator_that_was_killed(trained: RunningTwin) -> None:
    """The next one has the same address, and tells what the first did: it is all in the jobs' status."""
    operator = trained.twin.process("operator")
    assert operator is not None
    operator.kill()
    await eventually(
        lambda: not query(trained, "trainwright_queue_depth offset 1s and on() up{job='trainwright-operator'} == 1"), within=20
    )
    assert trained.cli("up", "--name", "t").returncode == 0
    await eventually(lambda: query(trained, "trainwright_job_restarts_total == 1"), within=20)


async def test_a_job_s_figures_outlive_its_pods_and_go_with_it(trained: RunningTwin) -> None:
    await succeeded(trained, "default", within=150)
    await eventually(lambda: query(trained, 'trainwright_job_phase{job="digits", phase="Succeeded"} == 1'), within=20)
    (accuracy,) = query(trained, 'trainwright_job_metric{job="digits", name="test_accuracy"}')
    assert float(accuracy["value"][1]) > 0.9
    assert query(trained, 'trainwright_job_gpu_seconds_total{job="digits"} > 0')
    trained.kubectl("delete", "tj", "digits")
    await eventually(lambda: not query(trained, 'trainwright_job_phase{job="digits"}'), within=30)


def test_it_can_be_taken_away_and_had_again(monitored: RunningTwin) -> None:
    assert monitored.cli("up", "--name", "t", "--no-monitoring").returncode == 0
    assert monitored.twin.prometheus_url is None
    shown = monitored.cli("up", "--name", "t", "--monitoring")
    assert f"Prometheus: {monitored.twin.prometheus_url}" in shown.stdout.replace("\n", "")
    assert monitored.twin.prometheus_url is not None
