"""`Run` around a small loop in this process: what is restored, what is refused, and what a failing disk does."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from trainwright_runtime import sealed
from trainwright_runtime.progress import reporter
from trainwright_runtime.torch import Run
from trainwright_runtime.torch.state import Staging


class Loop:
    """Trains a line with a shuffling loader, noise from three generators, and a history of its own."""

    def __init__(self, *, width: int = 3, momentum: float = 0.9, scheduler: bool = True) -> None:
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        self.model = torch.nn.Linear(width, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=momentum)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 1, gamma=0.9) if scheduler else None
        generator = torch.Generator().manual_seed(1)
        data = TensorDataset(torch.rand(50, width, generator=generator), torch.rand(50, 1, generator=generator))
        self.loader = DataLoader(data, batch_size=8, shuffle=True)
        self.losses: list[float] = []
        self.run = Run(
            model=self.model, optimizer=self.optimizer, scheduler=self.scheduler, state={"losses": self.losses}, total_steps=28
        )

    def train(self, *, epochs: int = 4, at_step: Callable[[int], object] = lambda step: None) -> None:
        self.run.resume()
        losses = self.run.state["losses"]
        for _ in self.run.epochs(epochs):
            for inputs, targets in self.run.batches(self.loader):
                noise = torch.rand(()) + random.random() + np.random.rand()
                loss = ((self.model(inputs) - targets) ** 2).mean() * noise
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                losses.append(loss.item())
                at_step(self.run.steps + 1)
                self.run.step(loss=loss)
            if self.scheduler is not None:
                self.scheduler.step()
        self.run.close()

    @property
    def result(self) -> tuple[Any, ...]:
        return self.run.state["losses"], self.model.weight.tolist(), self.optimizer.param_groups[0]["lr"]


def checkpoints(workspace: Path) -> list[str]:
    return sorted(path.name for path in (workspace / "checkpoints").iterdir())


def stop_at(step: int) -> Callable[[int], object]:
    return lambda now: os.kill(os.getpid(), signal.SIGTERM) if now == step else None


@pytest.mark.parametrize("step", [1, 6, 7, 8, 14, 20], ids=lambda step: f"step {step}")
def test_stopped_anywhere_and_resumed_is_as_unbroken(alone: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Seven steps an epoch: inside of epochs, at their ends, and just after. The loader shuffles by the global generator."""
    monkeypatch.delenv("TRAINWRIGHT_CHECKPOINT_DIR")
    unbroken = Loop()
    unbroken.train()
    monkeypatch.setenv("TRAINWRIGHT_CHECKPOINT_DIR", str(alone / "checkpoints"))
    stopped = Loop()
    with pytest.raises(SystemExit) as left:
        stopped.train(at_step=stop_at(step))
    assert left.value.code == 143
    assert checkpoints(alone) == [f"step-{step}"]
    resumed = Loop()
    resumed.train()
    assert resumed.run.steps == 28
    assert resumed.result == unbroken.result


def test_asked_to_stop_after_the_last_step_it_still_leaves_with_143(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the evaluation after the last epoch, say: the training is kept, and the next start finds it finished."""
    loop = Loop()
    close = loop.run.close
    monkeypatch.setattr(loop.run, "close", lambda: (os.kill(os.getpid(), signal.SIGTERM), close()))
    with pytest.raises(SystemExit) as left:
        loop.train()
    assert left.value.code == 143
    assert Loop().run.resume() == 28


def test_after_the_end_sigterm_is_as_it_was_before(alone: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    loop = Loop()
    assert signal.getsignal(signal.SIGTERM) is not before
    loop.train()
    assert signal.getsignal(signal.SIGTERM) is before


def test_state_that_could_not_be_loaded_again_is_refused_when_it_is_saved(alone: Path) -> None:
    loop = Loop()
    loop.run.state["best"] = [{"score": np.float64(0.5)}]
    with pytest.raises(TypeError, match=r"state\['best'\]\[0\]\['score'\] is a numpy.float64: only plain values"):
        loop.run.save()


def test_without_a_directory_it_leaves_in_order_all_the_same(
    alone: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TRAINWRIGHT_CHECKPOINT_DIR")
    with pytest.raises(SystemExit) as left:
        Loop().train(at_step=stop_at(5))
    assert left.value.code == 143
    assert "there is no checkpoint directory to save to" in capfd.readouterr().err


def test_a_checkpoint_is_taken_every_so_many_steps_and_at_the_end(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINWRIGHT_CHECKPOINT_EVERY_STEPS", "6")
    monkeypatch.setenv("TRAINWRIGHT_CHECKPOINT_KEEP", "4")
    Loop().train()
    assert checkpoints(alone) == ["step-12", "step-18", "step-24", "step-28"]
    status = reporter().status()
    assert status["saves"]["written"] == 5
    assert status["checkpoint"]["step"] == 28


def test_a_checkpoint_is_taken_every_so_many_seconds(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that the loop turns: ten seconds a step."""
    monkeypatch.setenv("TRAINWRIGHT_CHECKPOINT_EVERY_SECONDS", "75")
    monkeypatch.setenv("TRAINWRIGHT_CHECKPOINT_KEEP", "9")
    clock = [1000.0]
    monkeypatch.setattr("trainwright_runtime.run.time.perf_counter", lambda: clock[0])

    def tick(_step: int) -> None:
        clock[0] += 10

    loop = Loop()
    # A write that is still in flight puts the next one off; here each is awaited, so that the clock alone decides.
    step = loop.run.step
    monkeypatch.setattr(loop.run, "step", lambda **given: (step(**given), loop.run._settle()))
    loop.train(at_step=tick)
    assert checkpoints(alone) == ["step-16", "step-24", "step-28", "step-8"]


@pytest.mark.parametrize(
    ("attempt", "resumes"), [("1", False), ("2", True)], ids=["the first attempt ignores what it finds", "later ones resume"]
)
def test_never_means_not_from_others(alone: Path, monkeypatch: pytest.MonkeyPatch, attempt: str, resumes: bool) -> None:
    monkeypatch.setenv("TRAINWRIGHT_UID", "theirs")
    Loop().train(epochs=4)
    monkeypatch.setenv("TRAINWRIGHT_RESUME", "Never")
    monkeypatch.setenv("TRAINWRIGHT_UID", "ours")
    with pytest.raises(SystemExit):
        Loop().train(at_step=stop_at(5))
    monkeypatch.setenv("TRAINWRIGHT_ATTEMPT", attempt)
    assert Loop().run.resume() == (5 if resumes else 0)
    assert checkpoints(alone) == ["step-28", "step-5"]


def test_a_model_that_is_another_one_is_code_65(alone: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Loop().train(epochs=1)
    for other in (Loop(width=4), Loop(scheduler=False)):
        with pytest.raises(SystemExit) as left:
            other.run.resume()
        assert left.value.code == 65
        assert "checkpoint step-7 does not fit this training" in capfd.readouterr().err


def test_only_damaged_checkpoints_are_code_65(alone: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Loop().train(epochs=1)
    (alone / "checkpoints/step-7/model.pt").write_bytes(b"nothing")
    with pytest.raises(SystemExit) as left:
        Loop().run.resume()
    assert left.value.code == 65
    assert "every checkpoint in" in capfd.readouterr().err


def test_a_checkpoint_of_more_ranks_is_taken_by_one_that_was_not_there(
    alone: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Loop().train(epochs=1)
    loop = Loop()
    loop.run._gang.rank = 1
    monkeypatch.setattr(loop.run._gang, "from_main", lambda value: (str(alone / "checkpoints/step-7"), None))
    assert loop.run.resume() == 7
    assert "rank 1 starts its random numbers afresh" in capfd.readouterr().err


def fail_writes(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """The disk is full for the writes of these numbers, counted from 1."""
    real, count = sealed.write_sealed, [0]

    def write_sealed(path: Path, files: Any, facts: Any) -> Any:
        count[0] += 1
        if count[0] in numbers:
            files = {
                **files,
                "model.pt": lambda stream: (stream.write(b"some"), (_ for _ in ()).throw(OSError(28, "No space left on device"))),
            }
        return real(path, files, facts)

    monkeypatch.setattr("trainwright_runtime.checkpoint.write_sealed", write_sealed)


def test_a_disk_that_is_full_for_a_while_is_survived_and_said(
    alone: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRAINWRIGHT_CHECKPOINT_EVERY_STEPS", "4")
    fail_writes(monkeypatch, 2, 3)
    Loop().train()
    assert checkpoints(alone) == ["step-20", "step-24", "step-28"]
    assert reporter().status()["saves"]["failed"] == 2
    assert (
        "checkpoint step-8 could not be written: [Errno 28] No space left on device; those before it are intact"
        in capfd.readouterr().err
    )


def test_a_disk_that_stays_full_ends_the_training_with_what_was_kept(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINWRIGHT_CHECKPOINT_EVERY_STEPS", "4")
    fail_writes(monkeypatch, *range(2, 50))
    with pytest.raises(OSError, match="No space left"):
        Loop().train()
    assert checkpoints(alone) == ["step-4"]
    assert Loop().run.resume() == 4


def test_a_last_checkpoint_that_fails_is_not_passed_over(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_writes(monkeypatch, 1)
    with pytest.raises(OSError, match="No space left"):
        Loop().train()


def test_training_goes_on_while_a_checkpoint_is_written(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write is held up until three steps later; what it wrote is the state of its own step all the same."""
    import threading

    gate = threading.Event()
    real = sealed.write_sealed
    monkeypatch.setattr("trainwright_runtime.checkpoint.write_sealed", lambda *args: (gate.wait(30), real(*args))[1])
    monkeypatch.setenv("TRAINWRIGHT_CHECKPOINT_EVERY_STEPS", "4")
    monkeypatch.setenv("TRAINWRIGHT_CHECKPOINT_KEEP", "9")
    seen: dict[int, Any] = {}
    loop = Loop()

    def at_step(step: int) -> None:
        seen[step] = loop.model.weight.detach().clone()
        if step == 7:
            assert not list((alone / "checkpoints").glob("step-*"))
            gate.set()

    loop.train(at_step=at_step)
    saved = torch.load(alone / "checkpoints/step-4/model.pt", weights_only=True)
    assert torch.equal(saved["weight"], seen[4])
    assert not torch.equal(saved["weight"], seen[7])


def test_copies_of_a_checkpoint_are_right_whatever_changes_between_two_of_them() -> None:
    staging = Staging()
    weight, step = torch.arange(6.0).reshape(2, 3), torch.tensor(1)
    first = staging.copy({"model": {"weight": weight.T}, "list": [step, "x"]})
    memory = first["model"]["weight"].data_ptr()
    weight += 1
    assert first["model"]["weight"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]], "training goes on, the copy stays"
    second = staging.copy({"model": {"weight": weight.T}, "list": [step, "x"]})
    assert second["model"]["weight"].data_ptr() == memory, "memory is kept"
    assert torch.equal(second["model"]["weight"], weight.T)
    grown = staging.copy({"model": {"weight": torch.ones(4, dtype=torch.int64)}, "list": [step]})
    assert (grown["model"]["weight"].dtype, grown["list"]) == (torch.int64, [torch.tensor(1)])
    sparse = torch.eye(3).to_sparse()
    assert torch.equal(staging.copy({"s": sparse})["s"].to_dense(), torch.eye(3))


def test_weights_that_hold_nan_are_not_saved_and_end_the_training(
    alone: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A buffer that is minus infinity, as masks are, and a NaN in one, are nobody's fault."""
    monkeypatch.setenv("TRAINWRIGHT_CHECKPOINT_EVERY_STEPS", "4")
    loop = Loop()
    loop.model.register_buffer("mask", torch.tensor([float("-inf"), float("nan")]))

    def at_step(step: int) -> None:
        if step == 10:
            with torch.no_grad():
                loop.model.weight[0, 1] = float("nan")

    monkeypatch.setattr("trainwright_runtime.run.MAX_NOT_FINITE", 1000)
    with pytest.raises(SystemExit) as end:
        loop.train(at_step=at_step)
    assert end.value.code == 64
    assert checkpoints(alone) == ["step-4", "step-8"]
    assert "the weights weight have become NaN, after step 16 with learning rate 0.0081" in capfd.readouterr().err


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_gone_for_good_ends_the_training_with_what_may_help(
    alone: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.setattr("trainwright_runtime.run.TELL_SECONDS", 0.0)
    run = Loop().run
    gone = torch.tensor(float(value))
    # One step that mixed precision passes over is none.
    for loss in (torch.tensor(1.0), gone, gone, torch.tensor(1.0), gone, gone):
        run.step(loss=loss, samples=1)
    with pytest.raises(SystemExit) as end:
        run.step(loss=gone, samples=1)
    assert end.value.code == 64
    said = capfd.readouterr().err
    assert f"the loss is {value}, and was so 3 readings in a row, after step 7 with learning rate 0.01" in said
    assert "Try a lower learning rate, or clip the gradients" in said
    assert reporter().status()["lossesNotFinite"] == 5
