"""scikit-learn on a whole twin: every sample runs to its end, and a killed worker of a search costs what it had in hand."""

from __future__ import annotations

import json
from pathlib import Path

from test_story import step

from support.jobs import SAMPLES, apply, get, kill_worker, sample, succeeded, until
from support.twin import RunningTwin


async def test_the_samples_run_to_success(twin: RunningTwin, space: str) -> None:
    for name in ("sklearn-tabular", "sklearn-script", "torch-tabular"):
        twin.kubectl("apply", "-n", space, "-f", SAMPLES / f"{name}.yaml")
    for name in ("sklearn-tabular", "torch-tabular"):
        status = await succeeded(twin, space, name, within=200)
        assert status["metrics"]["test_accuracy"] >= 0.95
        assert status["progress"]["percent"] == 100
    await succeeded(twin, space, "sklearn-script", within=150)
    assert "accuracy 1.000 on 45 wines" in twin.cli("logs", "sklearn-script", "-n", space).stdout


async def test_a_killed_worker_of_a_search_costs_what_it_had_in_hand(twin: RunningTwin, space: str) -> None:
    """The pods get half a core each, so each does one unit at a time; the kept units are those of all attempts."""
    job = sample("sklearn-search")
    job["spec"]["recipe"]["config"]["unit_delay_seconds"] = 0.3
    apply(twin, space, job)
    await until(twin, space, lambda status: step(status) >= 8, name="sklearn-search", within=150)
    kill_worker(get(twin, space, "sklearn-search"), 1)
    status = await succeeded(twin, space, "sklearn-search", within=150)
    assert (status["attempt"], status["restarts"]["failure"]) == (2, 1)
    assert status["restarts"]["last"]["pod"] == "sklearn-search-a1-worker-1"
    assert status["progress"]["resumedFrom"] >= 8
    assert status["metrics"]["test_accuracy"] >= 0.97

    folder = Path(status["checkpoint"]["path"])
    first, second = (json.loads((folder / f"attempt-{attempt}.json").read_text())["units"] for attempt in (1, 2))
    assert len(first) == status["progress"]["resumedFrom"]
    assert len(second) == 60
    assert second.items() >= first.items(), "with the seconds that each took: none was done again"
    report = json.loads((folder.parents[1] / "artifacts" / "report.json").read_text())
    assert report["environment"]["workers"] == 2
    logs = twin.cli("logs", "sklearn-search", "-n", space, "--all").stdout
    assert "worker 1 did " in logs
