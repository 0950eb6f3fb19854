"""The recipe for tables as a gang of real workers: what it reaches, for any number of them, and what it leaves behind."""

from __future__ import annotations

import json
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

from trainwright_runtime.sealed import read_seal, verify

RECIPE = ("recipe", "tabular")
SHORT = "{epochs: 30, log_every_steps: 1, dropout: %s, step_delay_seconds: %s}"

LOADER = """
import json, sys
from pathlib import Path
import torch

path = Path(sys.argv[1])
samples = json.loads((path / "samples.json").read_text())
numbers = [[float("nan") if value is None else value for value in row] for row in samples["inputs"]["numbers"]]
model = torch.export.load(path / "model.pt2").module()
answer = model(torch.tensor(numbers), torch.tensor(samples["inputs"]["words"], dtype=torch.int64).reshape(len(numbers), -1))
assert not [name for name in sys.modules if name.startswith("trainwright")]
print(json.dumps(answer.tolist()))
"""


def loaded_elsewhere(artifacts: Path) -> list[Any]:
    """What the exported program answers to the sample inputs, in a process that knows nothing of ours."""
    result = subprocess.run([sys.executable, "-c", LOADER, artifacts], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def finished(gang: Gang, workers: list[Worker]) -> dict[str, Any]:
    assert [worker.wait() for worker in workers] == [0] * len(workers), "\n".join(worker.output for worker in workers)
    return gang.report()


def losses(report: dict[str, Any]) -> list[Any]:
    return report["curves"][0]["lines"]["training"]


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gang, dict[str, Any]]]:
    """Tumours told apart by two workers, undisturbed."""
    gang = Gang(tmp_path_factory.mktemp("two"))
    workers = gang.start(*RECIPE, workers=2, config=SHORT % (0, 0), TRAINWRIGHT_DATA=builtin("breast_cancer"))
    yield gang, finished(gang, workers)
    gang.end()


def test_tumours_are_told_apart_and_the_artifact_says_so(two_workers: tuple[Gang, dict[str, Any]]) -> None:
    gang, report = two_workers
    path = gang.workspace / "artifacts"
    manifest = read_seal(path)
    verify(path, manifest)
    assert manifest["metrics"]["accuracy"] >= 0.95
    assert set(manifest["files"]) == {"model.pt", "model.pt2", "samples.json", "report.json", "report.html", "curves.png"}
    assert manifest["columns"]["numbers"][0] == "mean radius"
    require_served_facts(path, manifest, tested=86)
    assert [one["shape"] for one in manifest["signature"]["inputs"]] == [[-1, 30], [-1, 0]]
    assert len(losses(report)) == 30 * 13
    page = Page((path / "report.html").read_text())
    assert {"Training loss", "Validation", "Confusion matrix", "ROC"} <= set(page.pictures)


def test_another_process_gets_the_answers_that_the_trainer_saw(two_workers: tuple[Gang, dict[str, Any]]) -> None:
    gang, _ = two_workers
    expected = json.loads((gang.workspace / "artifacts/samples.json").read_text())["outputs"]["logits"]
    torch.testing.assert_close(torch.tensor(loaded_elsewhere(gang.workspace / "artifacts")), torch.tensor(expected))


def test_one_worker_has_the_loss_curve_of_two(two_workers: tuple[Gang, dict[str, Any]], gang: Gang) -> None:
    workers = gang.start(*RECIPE, config=SHORT % (0, 0), TRAINWRIGHT_DATA=builtin("breast_cancer"))
    for (step, loss), (_, expected) in zip(losses(finished(gang, workers)), losses(two_workers[1]), strict=True):
        assert loss == pytest.approx(expected, rel=1e-2, abs=1e-4), f"step {step}"


def test_stopped_and_resumed_is_as_if_nothing_had_happened(gang: Gang, tmp_path: Path) -> None:
    unbroken = Gang(tmp_path / "unbroken")
    unbroken.folder.mkdir()
    undisturbed = unbroken.start(*RECIPE, config=SHORT % (0.2, 0), TRAINWRIGHT_DATA=builtin("breast_cancer"))
    expected = finished(unbroken, undisturbed)
    unbroken.end()
    (worker,) = gang.start(*RECIPE, config=SHORT % (0.2, 0.02), TRAINWRIGHT_DATA=builtin("breast_cancer"))
    wait_for(lambda: worker.progress().get("step", 0) >= 20, "step 20")
    worker.process.terminate()
    assert worker.wait() == 143
    workers = gang.start(*RECIPE, attempt=2, config=SHORT % (0.2, 0), TRAINWRIGHT_DATA=builtin("breast_cancer"))
    assert losses(finished(gang, workers)) == losses(expected)
    assert workers[0].message["progress"]["resumedFrom"] >= 20


def test_words_gaps_and_numbers_to_predict(gang: Gang) -> None:
    """A regression over a file of one's own: answers are in the unit of the target; missing values are there, too."""
    folder = gang.folder / "data"
    folder.mkdir()
    lines = ["size,place,price"]
    for row in range(200):
        size, place = row % 20, ("north", "south", "west")[row % 3]
        price = 1000 + 50 * size + {"north": 300, "south": -200, "west": 0}[place]
        lines.append(f"{'' if row % 25 == 7 else size},{'' if row % 31 == 5 else place},{price}")
    (folder / "houses.csv").write_text("\n".join(lines))
    data = json.dumps({"train": {"path": str(folder)}})
    config = "{target: price, task: regression, hidden: [32], epochs: 80, learning_rate: 0.02}"
    report = finished(gang, gang.start(*RECIPE, config=config, TRAINWRIGHT_DATA=data))
    assert report["metrics"]["test_r2"] >= 0.9
    manifest = read_seal(gang.workspace / "artifacts")
    assert manifest["columns"] == {"numbers": ["size"], "words": {"place": ["", "north", "south", "west"]}}
    samples = json.loads((gang.workspace / "artifacts/samples.json").read_text())
    answers = loaded_elsewhere(gang.workspace / "artifacts")
    torch.testing.assert_close(torch.tensor(answers), torch.tensor(samples["outputs"]["predictions"]))
    assert 500 < min(answers) < max(answers) < 2500


def test_a_training_that_diverges_is_told_so(gang: Gang) -> None:
    config = "{learning_rate: 1.0e+30, epochs: 2}"
    (worker,) = gang.start(*RECIPE, config=config, TRAINWRIGHT_DATA=builtin("diabetes"))
    assert worker.wait() == 64
    assert "it has diverged; try a lower 'learning_rate'" in worker.message["message"]
    assert not (gang.workspace / "artifacts").exists()
