"""The recipe for time series as a gang of real workers: what it reaches beside no model at all, and what it leaves behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from artifacts import require_served_facts
from launching import Gang, Worker, builtin, wait_for
from pages import Page
from sales import SALES_CONFIG, sales
from test_tabular import START_SECONDS, assert_each_form_answers_as_the_trainer_did, digests, finished, losses

from trainwright_runtime.sealed import read_seal, verify

SHORT = "{time: week, window: 26, horizon: 4, epochs: %s, units: 16, dropout: %s, step_delay_seconds: %s, log_every_steps: 1}"
STEPS_OF_AN_EPOCH = 25


def start(gang: Gang, config: str, data: str = builtin("co2"), **given: Any) -> list[Worker]:
    return gang.start("recipe", "sequence", framework="tensorflow", config=config, TRAINWRIGHT_DATA=data, **given)


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gang, list[Worker], dict[str, Any]]]:
    """The air's carbon dioxide, forecast by two workers, undisturbed."""
    gang = Gang(tmp_path_factory.mktemp("two"))
    workers = start(gang, SHORT % (10, 0, 0), workers=2)
    yield gang, workers, finished(gang, workers)
    gang.end()


def test_the_forecast_is_better_than_none_and_the_artifact_says_so(
    two_workers: tuple[Gang, list[Worker], dict[str, Any]],
) -> None:
    gang, workers, report = two_workers
    path = gang.workspace / "artifacts"
    manifest = read_seal(path)
    verify(path, manifest)
    assert manifest["metrics"]["rmse"] < 0.85 * manifest["metrics"]["naive_rmse"]
    assert {"model.keras", "saved_model/saved_model.pb", "samples.json", "report.html"} <= set(manifest["files"])
    assert (manifest["task"], manifest["target"], manifest["channels"]) == ("forecast", "co2", ["co2"])
    require_served_facts(path, manifest, tested=4 * 340)
    assert len(losses(report)) == 10 * STEPS_OF_AN_EPOCH
    assert len(set(digests(workers))) == 1
    page = Page((path / "report.html").read_text())
    assert {"Training loss", "Validation", "The end of the test part, forecast 4 rows ahead"} <= set(page.pictures)


def test_another_process_gets_the_answers_that_the_trainer_saw(two_workers: tuple[Gang, list[Worker], dict[str, Any]]) -> None:
    assert_each_form_answers_as_the_trainer_did(two_workers[0].workspace / "artifacts")


@pytest.mark.long
def test_one_worker_has_the_loss_curve_of_two(two_workers: tuple[Gang, list[Worker], dict[str, Any]], gang: Gang) -> None:
    report = finished(gang, start(gang, SHORT % (10, 0, 0)))
    for (step, loss), (_, expected) in zip(losses(report), losses(two_workers[2]), strict=True):
        assert loss == pytest.approx(expected, rel=2e-2, abs=1e-3), f"step {step}"


@pytest.mark.long
def test_killed_and_resumed_is_as_if_nothing_had_happened(gang: Gang, tmp_path: Any) -> None:
    unbroken = Gang(tmp_path / "unbroken")
    unbroken.folder.mkdir()
    expected = finished(unbroken, start(unbroken, SHORT % (3, 0.2, 0)))
    unbroken.end()
    (worker,) = start(gang, SHORT % (3, 0.2, 0.05), TRAINWRIGHT_CHECKPOINT_EVERY_STEPS="10")
    wait_for(lambda: (worker.progress().get("checkpoint") or {}).get("step", 0) >= 30, "the checkpoint of step 30", START_SECONDS)
    os.killpg(worker.process.pid, signal.SIGKILL)
    assert worker.wait() == 137
    assert losses(finished(gang, start(gang, SHORT % (3, 0.2, 0), attempt=2))) == losses(expected)


def test_a_transformer_forecasts_several_series_with_covariates(gang: Gang) -> None:
    report = finished(gang, start(gang, SALES_CONFIG, sales(gang.folder / "data")))
    assert report["metrics"]["test_rmse"] < 0.5 * report["metrics"]["test_naive_rmse"]
    path = gang.workspace / "artifacts"
    assert read_seal(path)["signature"]["inputs"][0]["shape"] == [-1, 14, 2]
