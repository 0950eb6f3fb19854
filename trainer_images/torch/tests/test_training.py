"""The recipe as a gang of real workers: what it reaches, and that nothing which happens to it shows in the result."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from artifacts import require_digits
from launching import Gang, Worker, wait_for
from smoothing import LEAST_SMOOTHED

from trainwright_runtime.sealed import read_seal, verify

RECIPE = ("recipe", "image-classification")
TOLERANCE = 2e-2
"""Between the loss curves of different numbers of workers: sums in another order, amplified by 300 steps; 8e-3 was measured."""


@dataclasses.dataclass
class Finished:
    workspace: Path
    seconds: float
    progress: dict[str, Any]
    metrics: str

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.workspace / "artifacts/report.json").read_text())

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return torch.load(self.workspace / "artifacts/model.pt", weights_only=True)


def finish(gang: Gang, workers: list[Worker], began: float) -> Finished:
    """Wait for all workers to be done; keeps the last that worker 0's port showed."""
    progress: dict[str, Any] = {}
    metrics = ""
    while workers[0].process.poll() is None:
        if shown := workers[0].progress():
            progress = shown
            metrics = (
                workers[0].get("/metrics")
                if workers[0].process.poll() is None and "checkpoint" in shown and not metrics
                else metrics
            )
        time.sleep(0.05)
    assert [worker.wait() for worker in workers] == [0] * len(workers), "\n".join(worker.output for worker in workers)
    return Finished(gang.workspace, time.monotonic() - began, progress, metrics)


def assert_equal_weights(one: Finished, other: Finished) -> None:
    assert one.weights.keys() == other.weights.keys()
    for name, tensor in one.weights.items():
        assert torch.equal(tensor, other.weights[name]), name


def assert_same_curve(one: Finished, other: Finished) -> None:
    """The test says which step differs."""
    assert [step for step, _ in one.report["losses"]] == [step for step, _ in other.report["losses"]]
    for (step, loss), (_, expected) in zip(one.report["losses"], other.report["losses"], strict=True):
        assert abs(loss - expected) <= TOLERANCE, f"step {step}: {loss} against {expected}"


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """The default training on digits, by two workers, undisturbed."""
    gang = Gang(tmp_path_factory.mktemp("two"))
    began = time.monotonic()
    workers = gang.start(*RECIPE, workers=2, config="log_every_steps: 1", TRAINWRIGHT_CHECKPOINT_EVERY_STEPS="50")
    yield finish(gang, workers, began)
    gang.end()


# --- what it reaches --------------------------------------------------------------------------------------------------


def test_digits_are_learned_by_two_workers(two_workers: Finished) -> None:
    test = two_workers.report["test"]
    assert test["accuracy"] >= 0.97
    assert test["macro_f1"] >= 0.97
    assert sum(map(sum, test["confusion"])) == 269
    assert two_workers.report["worldSize"] == 2


def test_the_artifact_is_sealed_and_says_what_it_is(two_workers: Finished) -> None:
    path = two_workers.workspace / "artifacts"
    manifest = read_seal(path)
    verify(path, manifest)
    assert (
        set(manifest["files"])
        == {"model.pt", "model.pt2", "samples.json", "report.json", "report.html", "curves.png"}
        == {p.name for p in path.iterdir()} - {"manifest.json"}
    )
    assert manifest["framework"] == "torch"
    assert manifest["uid"] == "uid-1"
    assert manifest["metrics"]["accuracy"] == two_workers.report["test"]["accuracy"]
    assert manifest["signature"]["inputs"][0]["shape"] == [-1, 1, 8, 8]
    assert len(manifest["data"]["sha256"]) == 64
    samples = require_digits(path, manifest)
    program = torch.export.load(path / "model.pt2").module()
    torch.testing.assert_close(program(torch.tensor(samples["inputs"]["images"])), torch.tensor(samples["outputs"]["logits"]))
    assert (path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not list(two_workers.workspace.glob(".artifacts*"))


@pytest.mark.parametrize("batch", [1, 5])
def test_the_exported_program_needs_no_code_of_ours(two_workers: Finished, batch: int) -> None:
    from trainwright_runtime.torch.images import Classifier, small_cnn

    program = torch.export.load(two_workers.workspace / "artifacts/model.pt2").module()
    model = Classifier(small_cnn(channels=1, classes=10, dropout=0.0), grey_to_colour=False).eval()
    model.load_state_dict(two_workers.weights)
    images = torch.rand(batch, 1, 8, 8)
    torch.testing.assert_close(program(images), model(images))


def test_progress_is_shown_while_it_trains(two_workers: Finished) -> None:
    shown = two_workers.progress
    assert shown["step"] == shown["totalSteps"] == 300
    assert shown["mainMetric"] == "val_accuracy"
    assert shown["metrics"]["val_accuracy"] > 0.9
    assert shown["samplesPerSecond"] > 0
    assert shown["checkpoint"]["path"] == str(two_workers.workspace / f"checkpoints/step-{shown['checkpoint']['step']}")
    assert 'trainwright_checkpoints_total{rank="0"}' in two_workers.metrics
    assert 'trainwright_loss{rank="0"}' in two_workers.metrics


def test_checkpoints_are_kept_as_asked(two_workers: Finished) -> None:
    assert sorted(path.name for path in (two_workers.workspace / "checkpoints").iterdir()) == ["step-200", "step-250", "step-300"]


def test_tensorboard_reads_its_events(two_workers: Finished) -> None:
    values: dict[str, list[float]] = {}
    for path in (two_workers.workspace / "logs/tensorboard").iterdir():
        for event in events(path.read_bytes()):
            for value in event.summary.value:
                values.setdefault(value.tag, []).append(value.simple_value)
    assert len(values["val_accuracy"]) == 15
    assert len(values["loss"]) == 300
    assert values["test_accuracy"] == pytest.approx([two_workers.report["test"]["accuracy"]])


def events(content: bytes) -> Iterator[Any]:
    """TFRecord: length, its checksum, the event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    while content:
        (length,) = struct.unpack("<Q", content[:8])
        yield Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]


# --- any number of workers --------------------------------------------------------------------------------------------


def test_one_worker_has_the_loss_curve_of_two(two_workers: Finished, gang: Gang) -> None:
    began = time.monotonic()
    one = finish(gang, gang.start(*RECIPE, config="log_every_steps: 1"), began)
    assert len(one.report["losses"]) == 300
    assert_same_curve(one, two_workers)


def test_gradients_are_clipped_by_their_common_length_and_smoothed_labels_are_never_certain(gang: Gang, tmp_path: Path) -> None:
    config = "{epochs: 4, label_smoothing: 0.1, clip_norm: 0.5, warmup_epochs: 1, log_every_steps: 1}"
    two = finish(gang, gang.start(*RECIPE, workers=2, config=config), time.monotonic())
    alone = Gang(tmp_path / "alone")
    alone.folder.mkdir()
    one = finish(alone, alone.start(*RECIPE, config=config), time.monotonic())
    alone.end()
    assert_same_curve(one, two)
    assert LEAST_SMOOTHED < min(loss for _, loss in one.report["losses"]) < 0.8
    assert one.report["test"]["accuracy"] > 0.9


def test_two_workers_stopped_within_an_epoch_are_finished_by_one(two_workers: Finished, gang: Gang) -> None:
    """Only worker 1 is asked to stop, as in an eviction; both leave, and the place in the data is kept to the sample."""
    workers = gang.start(*RECIPE, workers=2, config="{log_every_steps: 1, step_delay_seconds: 0.01}")
    wait_for(lambda: workers[0].has_reached(28), "step 28")
    workers[1].process.terminate()
    assert [worker.wait() for worker in workers] == [143, 143]
    assert {worker.message["cause"] for worker in workers} == {"Terminated"}
    began = time.monotonic()
    one = finish(gang, gang.start(*RECIPE, attempt=2, config="log_every_steps: 1"), began)
    assert one.progress["resumedFrom"] >= 28
    assert_same_curve(one, two_workers)


# --- killed and resumed -----------------------------------------------------------------------------------------------

GOLDEN = "{epochs: 4, dropout: 0.2, log_every_steps: 1, schedule: step, schedule_epochs: 2, step_delay_seconds: %s}"


def test_stopped_then_killed_then_resumed_is_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """Golden: parameters bit-equal and the same losses, dropout included, so random numbers and loader are restored too."""
    gang = Gang(tmp_path / "unbroken")
    gang.folder.mkdir()
    unbroken = finish(gang, gang.start(*RECIPE, workers=2, config=GOLDEN % 0), time.monotonic())
    gang.end()

    gang = Gang(tmp_path / "broken")
    gang.folder.mkdir()
    workers = gang.start(*RECIPE, workers=2, config=GOLDEN % 0.02, TRAINWRIGHT_CHECKPOINT_EVERY_STEPS="7")
    wait_for(lambda: workers[0].has_reached(10), "step 10")
    for worker in workers:
        worker.process.terminate()
    assert [worker.wait() for worker in workers] == [143, 143]

    workers = gang.start(*RECIPE, workers=2, attempt=2, config=GOLDEN % 0.02, TRAINWRIGHT_CHECKPOINT_EVERY_STEPS="7")
    wait_for(lambda: workers[0].has_reached(45) and workers[0].progress()["checkpoint"]["step"] >= 42, "a checkpoint at step 42")
    (rank,) = workers[1].ranks()
    os.kill(rank, signal.SIGKILL)
    assert workers[1].wait() == 137
    assert workers[1].message["message"] == "killed by SIGKILL"
    assert workers[0].wait(20) not in (0, 143), "rank 0 doesn't wait for a peer that is gone"
    assert workers[0].message["cause"] == "PeerLost"

    workers = gang.start(*RECIPE, workers=2, attempt=3, config=GOLDEN % 0, TRAINWRIGHT_CHECKPOINT_EVERY_STEPS="7")
    broken = finish(gang, workers, time.monotonic())
    assert broken.progress["resumedFrom"] >= 42
    assert broken.report["losses"] == unbroken.report["losses"]
    assert broken.report["epochs"] == unbroken.report["epochs"]
    assert_equal_weights(broken, unbroken)
    gang.end()


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "environ", "message"),
    [
        ("epoch: 3", {}, "unknown key 'epoch' (value 3); did you mean 'epochs'?"),
        ("{optimizer: adam, momentum: 0.5}", {}, "key 'momentum' has no effect with optimizer: adam; it goes with sgd"),
        ("{}", {"TRAINWRIGHT_DATA": "{}"}, "spec.data needs an entry named 'train', or a single one; there is none"),
    ],
    ids=["unknown key", "key without effect", "no data"],
)
def test_what_is_refused_is_said_with_code_64(gang: Gang, config: str, environ: dict[str, str], message: str) -> None:
    (worker,) = gang.start(*RECIPE, config=config, **environ)
    assert worker.wait() == 64
    assert worker.message["cause"] == "InvalidConfig"
    assert message in worker.message["message"]
