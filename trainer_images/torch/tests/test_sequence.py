"""The recipe for time series as a gang of real workers: what it reaches beside no model at all, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from artifacts import require_served_facts
from launching import Gang, Worker, builtin, wait_for
from pages import Page
from sales import SALES_CONFIG, sales

from trainwright_runtime.sealed import read_seal, verify

RECIPE = ("recipe", "sequence")
SHORT = "{time: week, window: 26, horizon: 4, epochs: %s, units: 16, dropout: %s, step_delay_seconds: %s, log_every_steps: 1}"
CO2 = builtin("co2")
STEPS_OF_AN_EPOCH = 25

LOADER = """
import json, sys
from pathlib import Path
import torch

path = Path(sys.argv[1])
samples = json.loads((path / "samples.json").read_text())
model = torch.export.load(path / "model.pt2").module()
answer = model(torch.tensor(samples["inputs"]["values"]))
assert model(torch.tensor(samples["inputs"]["values"][:1])).shape == (1, 4), "any number of windows"
assert not [name for name in sys.modules if name.startswith("trainwright")]
print(json.dumps(answer.tolist()))
"""


def finished(gang: Gang, workers: list[Worker]) -> dict[str, Any]:
    assert [worker.wait() for worker in workers] == [0] * len(workers), "\n".join(worker.output for worker in workers)
    return gang.report()


def losses(report: dict[str, Any]) -> list[Any]:
    return report["curves"][0]["lines"]["training"]


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gang, dict[str, Any]]]:
    """The air's carbon dioxide, forecast by two workers, undisturbed."""
    gang = Gang(tmp_path_factory.mktemp("two"))
    workers = gang.start(*RECIPE, workers=2, config=SHORT % (12, 0, 0), TRAINWRIGHT_DATA=CO2)
    yield gang, finished(gang, workers)
    gang.end()


def test_the_forecast_is_better_than_none_and_the_artifact_says_so(two_workers: tuple[Gang, dict[str, Any]]) -> None:
    gang, report = two_workers
    path = gang.workspace / "artifacts"
    manifest = read_seal(path)
    verify(path, manifest)
    assert manifest["metrics"]["rmse"] < 0.82 * manifest["metrics"]["naive_rmse"]
    assert manifest["metrics"]["skill"] == pytest.approx(1 - manifest["metrics"]["rmse"] / manifest["metrics"]["naive_rmse"])
    assert set(manifest["files"]) == {"model.pt", "model.pt2", "samples.json", "report.json", "report.html", "curves.png"}
    assert (manifest["task"], manifest["target"], manifest["channels"]) == ("forecast", "co2", ["co2"])
    require_served_facts(path, manifest, tested=4 * 340)
    assert manifest["signature"]["inputs"] == [{"name": "values", "dtype": "float32", "shape": [-1, 26, 1]}]
    assert len(losses(report)) == 12 * STEPS_OF_AN_EPOCH
    page = Page((path / "report.html").read_text())
    assert {"Training loss", "Validation", "The end of the test part, forecast 4 rows ahead"} <= set(page.pictures)


def test_another_process_gets_the_answers_that_the_trainer_saw(two_workers: tuple[Gang, dict[str, Any]]) -> None:
    gang, _ = two_workers
    path = gang.workspace / "artifacts"
    result = subprocess.run([sys.executable, "-c", LOADER, path], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    expected = json.loads((path / "samples.json").read_text())["outputs"]["forecast"]
    torch.testing.assert_close(torch.tensor(json.loads(result.stdout)), torch.tensor(expected))


def test_one_worker_has_the_loss_curve_of_two(two_workers: tuple[Gang, dict[str, Any]], gang: Gang) -> None:
    report = finished(gang, gang.start(*RECIPE, config=SHORT % (12, 0, 0), TRAINWRIGHT_DATA=CO2))
    for (step, loss), (_, expected) in zip(losses(report), losses(two_workers[1]), strict=True):
        assert loss == pytest.approx(expected, rel=2e-2, abs=1e-3), f"step {step}"


def test_killed_and_resumed_is_as_if_nothing_had_happened(gang: Gang, tmp_path: Path) -> None:
    unbroken = Gang(tmp_path / "unbroken")
    unbroken.folder.mkdir()
    expected = finished(unbroken, unbroken.start(*RECIPE, config=SHORT % (3, 0.2, 0), TRAINWRIGHT_DATA=CO2))
    unbroken.end()
    (worker,) = gang.start(*RECIPE, config=SHORT % (3, 0.2, 0.03), TRAINWRIGHT_DATA=CO2, TRAINWRIGHT_CHECKPOINT_EVERY_STEPS="10")
    wait_for(lambda: (worker.progress().get("checkpoint") or {}).get("step", 0) >= 30, "the checkpoint of step 30")
    os.killpg(worker.process.pid, signal.SIGKILL)
    assert worker.wait() == 137
    workers = gang.start(*RECIPE, attempt=2, config=SHORT % (3, 0.2, 0), TRAINWRIGHT_DATA=CO2)
    assert losses(finished(gang, workers)) == losses(expected)
    assert workers[0].message["progress"]["resumedFrom"] >= 30


def test_a_transformer_forecasts_several_series_with_covariates(gang: Gang) -> None:
    report = finished(gang, gang.start(*RECIPE, config=SALES_CONFIG, TRAINWRIGHT_DATA=sales(gang.folder / "data")))
    assert report["metrics"]["test_rmse"] < 0.5 * report["metrics"]["test_naive_rmse"]
    manifest = read_seal(gang.workspace / "artifacts")
    assert manifest["signature"]["inputs"][0]["shape"] == [-1, 14, 2]
    assert set(manifest["features"]) == {"sold", "rain"}
