"""A real Prometheus beside a twin: it finds operator and workers by itself, and its rules are what promtool says they are."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.jobs import apply, get, kill_worker, sample, succeeded, until
from support.monitoring import ask, expressions, promtool, query, recording
from support.twin import RunningTwin, running_twin
from support.waiting import eventually
from trainwright.local import prometheus
from trainwright.local.addresses import free_port


def test_rules_are_right_and_alerts_fire_when_they_should() -> None:
    assert "SUCCESS" in promtool("check", "rules", "rules.yaml")
    assert "SUCCESS" in promtool("test", "rules", "rules.test.yaml")
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTwin]:
    prices = tmp_path_factory.mktemp("prices") / "prices.yaml"
    prices.write_text("{currency: EUR, gpu: 2.5, cpu: 0.05}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINWRIGHT_PRICES", str(prices))
        with running_twin(gpus_per_node=2, monitoring=True) as twin:
            yield twin


@dataclass(frozen=True)
class Watched:
    """A twin, and a moment (seconds since the epoch) of its training that has steps, checkpoints and a failure behind it."""

    twin: RunningTwin
    moment: float


@pytest.fixture(scope="module")
def watched(trained: RunningTwin) -> Watched:
    return Watched(trained, time.time())


@pytest.fixture(scope="module")
def trained(monitored: RunningTwin) -> RunningTwin:
    """A training of two workers behind it, one of them killed on the way, with GPUs that are only counted; and one in the queue."""

    async def story() -> None:
        # What happens before the first scrape is no increase of anything.
        await eventually(lambda: query(monitored, "trainwright_queue_depth"), within=30)
        job = sample("digits")
        job["spec"] |= {"resources": {"gpus": 1, "cpu": "500m", "memory": "2Gi"}, "checkpoint": {"everySteps": 20}}
        job["spec"]["recipe"]["config"] |= {"step_delay_seconds": 0.1, "log_every_steps": 2}
        waiting = sample("digits")
        waiting["metadata"]["name"] = "waiting"
        waiting["spec"] |= {"resources": {"gpus": 3}}
        for one in (job, waiting):
            one["spec"]["runPolicy"] = {**one["spec"].get("runPolicy", {}), "schedulingPolicy": {"provider": "capacity"}}
            apply(monitored, "default", one)
        await until(monitored, "default", lambda status: (status.get("checkpoint") or {}).get("step", 0) >= 40)
        kill_worker(get(monitored, "default"), 1)
        await until(monitored, "default", lambda status: (status.get("progress") or {}).get("resumedFrom"), within=60)
        await until(monitored, "default", lambda status: (status.get("progress") or {}).get("step", 0) >= 200, within=120)

    asyncio.run(story())
    return monitored


@pytest.mark.long
async def test_it_finds_operator_and_workers_by_itself(trained: RunningTwin) -> None:
    await eventually(lambda: len(query(trained, 'up{job="digits"} == 1')) == 2, within=20)
    (step,) = query(trained, 'trainwright_step{rank="1"}')
    of = {"namespace": "default", "job": "digits", "attempt": "2", "worker": "1", "pod": "digits-a2-worker-1"}
    assert step["metric"].items() >= of.items()
    (ratio,) = query(trained, 'trainwright_job_progress_ratio{namespace="default", job="digits"}')
    assert 0 < float(ratio["value"][1]) < 1
    (restarts,) = query(trained, "trainwright_job_restarts_total")
    assert (restarts["metric"]["cause"], restarts["value"][1]) == ("Killed", "1")
    assert query(trained, "trainwright_data_wait_seconds_total > 0")
    assert query(trained, "trainwright_gradient_norm > 0")
    assert query(trained, "trainwright_learning_rate > 0")


@pytest.mark.long
async def test_every_recording_rule_finds_something_in_a_real_training(trained: RunningTwin) -> None:
    for rule in recording(serving=False):
        await eventually(lambda name=rule["record"]: query(trained, name), within=30, what=rule["record"])


def of_the_training(dashboard: str) -> list[str]:
    """All of a dashboard's expressions, asked of the training above."""
    return expressions(dashboard, namespace="default", job="digits")


@pytest.mark.long
@pytest.mark.parametrize("dashboard", ["fleet", "job", "operator"])
def test_every_expression_of_a_dashboard_finds_something_in_a_real_training(watched: Watched, dashboard: str) -> None:
    needing_none = [one for one in of_the_training(dashboard) if "trainwright_gpu_" not in one]
    assert [one for one in needing_none if not query(watched.twin, one, at=watched.moment)] == []


async def test_those_that_need_gpus_find_something_in_what_a_worker_with_gpus_said(tmp_path: Path) -> None:
    """A recorded page, scraped by a real Prometheus."""
    page = (Path(__file__).parent / "recorded_gpus.prom").read_bytes()

    class Worker(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Worker)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    labels = {"namespace": "default", "job": "digits", "worker": "0"}
    scraped = {"job_name": "recorded", "static_configs": [{"targets": [f"127.0.0.1:{server.server_port}"], "labels": labels}]}
    config = tmp_path / "prometheus.yml"
    config.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": [scraped]}))
    port = free_port("127.0.0.1")
    command = [prometheus.ensure(print)["prometheus"], f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL)
    try:
        needing = [one for name in ("fleet", "job", "operator") for one in of_the_training(name) if "trainwright_gpu_" in one]
        assert len(needing) == 4

        def found(expression: str) -> bool:
            with contextlib.suppress(OSError):
                return bool(ask(f"http://127.0.0.1:{port}", expression))
            return False

        for expression in needing:
            await eventually(lambda wanted=expression: found(wanted), within=30, what=expression)
    finally:
        process.kill()
        process.wait()
        server.shutdown()


@pytest.mark.long
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


@pytest.mark.long
async def test_a_job_s_figures_outlive_its_pods_and_go_with_it(trained: RunningTwin) -> None:
    await succeeded(trained, "default", within=150)
    await eventually(lambda: query(trained, 'trainwright_job_phase{job="digits", phase="Succeeded"} == 1'), within=20)
    (accuracy,) = query(trained, 'trainwright_job_metric{job="digits", name="test_accuracy"}')
    assert float(accuracy["value"][1]) > 0.9
    assert query(trained, 'trainwright_job_gpu_seconds_total{job="digits"} > 0')
    trained.kubectl("delete", "tj", "digits")
    await eventually(lambda: not query(trained, 'trainwright_job_phase{job="digits"}'), within=30)


@pytest.mark.long
def test_it_can_be_taken_away_and_had_again(monitored: RunningTwin) -> None:
    assert monitored.cli("up", "--name", "t", "--no-monitoring").returncode == 0
    assert monitored.twin.prometheus_url is None
    shown = monitored.cli("up", "--name", "t", "--monitoring")
    assert f"Prometheus: {monitored.twin.prometheus_url}" in shown.stdout.replace("\n", "")
    assert monitored.twin.prometheus_url is not None
