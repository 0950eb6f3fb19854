"""A workspace in object storage, on a whole twin: a real S3 server, real trainings, each worker on a disk of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.jobs import apply, get, kill_worker, sample
from support.object_store import ObjectStore
from support.twin import RunningTwin
from support.waiting import eventually
from trainwright.local.addresses import free_port

# The first one may have to build the store.
pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ObjectStore]:
    """A real S3 server of this test's own."""
    made = ObjectStore(tmp_path, free_port("127.0.0.1"))
    made.start()
    yield made
    made.stop()


def digits(store: ObjectStore, **spec: Any) -> dict[str, Any]:
    job = sample("digits")
    job["spec"] |= {"workspace": {"uri": "s3://runs/team"}, "env": store.env()} | spec
    return job


async def ended(twin: RunningTwin, space: str) -> dict[str, Any]:
    def over() -> dict[str, Any] | None:
        status = get(twin, space)["status"]
        return status if status.get("phase") in ("Succeeded", "Failed") else None

    status: dict[str, Any] = await eventually(over, within=150, every=0.3)
    return status


async def saved(twin: RunningTwin, space: str) -> dict[str, Any]:
    """The first checkpoint that status knows to be in the store."""
    found: dict[str, Any] = await eventually(lambda: get(twin, space)["status"].get("checkpoint"), within=90, every=0.1)
    return found


def verify(folder: Path) -> None:
    """Every file of a sealed directory is there as its manifest says."""
    files = json.loads((folder / "manifest.json").read_text())["files"]
    assert files
    for name, facts in files.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == facts["sha256"], name


async def test_a_lost_worker_costs_steps_and_not_the_training(twin: RunningTwin, space: str, store: ObjectStore) -> None:
    apply(twin, space, digits(store))
    checkpoint = await saved(twin, space)
    assert checkpoint["path"] == f"s3://runs/team/{space}/digits/checkpoints/step-{checkpoint['step']}"
    # Worker 0 has the only disk with newer checkpoints; it goes with it.
    kill_worker(get(twin, space), 0)
    status = await ended(twin, space)
    assert status["phase"] == "Succeeded", status
    assert status["attempt"] == 2
    assert status["progress"]["resumedFrom"] >= checkpoint["step"]
    assert "persistentvolumeclaim" not in twin.kubectl("get", "pvc", "-n", space, "-o", "name")
    folder = store.bucket / "team" / space / "digits"
    verify(folder / "artifacts")
    kept = sorted(folder.glob("checkpoints/step-*"))
    assert len(kept) == 3
    for one in kept:
        verify(one)
    logs = sorted(str(path.relative_to(folder / "logs")) for path in folder.glob("logs/*/*"))
    assert {"attempt-2/rank-0.log", "attempt-2/rank-1.log"} <= set(logs)
    said = twin.cli("delete", "digits", "-n", space).stdout
    assert said == f"digits deleted; its results stay in s3://runs/team/{space}/digits\n"


async def test_a_suspended_job_goes_on_from_what_the_store_has(twin: RunningTwin, space: str, store: ObjectStore) -> None:
    apply(twin, space, digits(store))
    await saved(twin, space)
    assert twin.cli("suspend", "digits", "-n", space).returncode == 0
    await eventually(lambda: "pod/" not in twin.kubectl("get", "pods", "-n", space, "-o", "name"), within=60, every=0.1)
    seals = (store.bucket / "team" / space / "digits" / "checkpoints").glob("step-*/manifest.json")
    at = max(json.loads(seal.read_text())["step"] for seal in seals)
    assert twin.cli("resume", "digits", "-n", space).returncode == 0
    status = await ended(twin, space)
    assert status["phase"] == "Succeeded", status
    assert status["progress"]["resumedFrom"] == at, "the checkpoint that the suspend took had arrived"


async def test_a_store_that_is_away_for_a_while_delays_and_loses_nothing(
    twin: RunningTwin, space: str, store: ObjectStore
) -> None:
    apply(twin, space, digits(store))
    await saved(twin, space)
    store.stop()

    def complaint() -> bool:
        return "not in object storage yet" in twin.kubectl("logs", "digits-a1-worker-0", "-n", space)

    await eventually(complaint, within=90, every=0.3)
    store.start()
    status = await ended(twin, space)
    assert (status["phase"], status["attempt"]) == ("Succeeded", 1), status
    verify(store.bucket / "team" / space / "digits" / "artifacts")


async def test_a_key_that_does_not_fit_is_said(twin: RunningTwin, space: str, store: ObjectStore) -> None:
    job = digits(store, env=store.env(secret="wrong"), runPolicy={"backoffLimit": 0})
    apply(twin, space, job)
    status = await ended(twin, space)
    assert status["phase"] == "Failed"
    assert f"s3://runs/team/{space}/digits" in status["reason"]
    assert "Forbidden" in status["reason"] or "PermissionError" in status["reason"], status["reason"]


async def test_units_of_a_search_survive_the_disk_of_worker_zero(twin: RunningTwin, space: str, store: ObjectStore) -> None:
    """Only its disk has them, and it goes with its pod; the next attempt's worker 0 finds in the store what had arrived there."""
    job = sample("sklearn-search")
    job["metadata"]["name"] = "digits"
    job["spec"] |= {"workspace": {"uri": "s3://runs/team"}, "env": store.env()}
    job["spec"]["recipe"]["config"]["unit_delay_seconds"] = 1.0
    apply(twin, space, job)
    folder = store.bucket / "team" / space / "digits"
    (arrived,) = await eventually(lambda: list(folder.glob("checkpoints/search-*/attempt-1.json")), within=120, every=0.2)
    there = json.loads(arrived.read_text())["units"]
    kill_worker(get(twin, space), 0)
    status = await ended(twin, space)
    assert (status["phase"], status["attempt"]) == ("Succeeded", 2), status
    assert status["progress"]["resumedFrom"] >= len(there) > 0
    units = json.loads(arrived.with_name("attempt-2.json").read_text())["units"]
    assert len(units) == 60
    assert units.items() >= there.items()
    verify(folder / "artifacts")
