"""`Run` around a loop without any strategy, in this process: models of Keras 3, and of the Keras before it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from trainwright_runtime import progress
from trainwright_runtime.sealed import read_seal, verify
from trainwright_runtime.tensorflow import Run


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """This process as the only worker of a job; leaves no handler or reporter behind."""
    monkeypatch.setenv("TRAINWRIGHT_CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    monkeypatch.setenv("TRAINWRIGHT_CHECKPOINT_EVERY_STEPS", "4")
    monkeypatch.setattr(progress, "_reporter", None)
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path / "checkpoints"
    signal.signal(signal.SIGTERM, handler)


class Training:
    """A model, what changes it, and noise of the loop's own; `library` is one Keras or the other."""

    def __init__(self, library: Any, *, width: int = 8) -> None:
        library.utils.set_random_seed(0)
        self.model = library.Sequential([library.layers.Dense(width, activation="relu"), library.layers.Dense(1)])
        self.model.build((None, 4))
        self.optimizer = library.optimizers.Adam(0.01)
        self.optimizer.build(self.model.trainable_variables)
        self.noise = tf.random.Generator.from_seed(7)
        self.run = Run(
            model=self.model, optimizer=self.optimizer, generators=[self.noise], state={"losses": [], "last": np.zeros(4)}
        )

    def go(self, steps: int) -> None:
        while self.run.steps < steps:
            inputs = self.noise.normal((16, 4))
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self.model(inputs) - tf.reduce_sum(inputs, 1, keepdims=True)) ** 2)
            self.optimizer.apply_gradients(
                zip(tape.gradient(loss, self.model.trainable_variables), self.model.trainable_variables, strict=True)
            )
            self.run.state["losses"].append(float(loss))
            self.run.state["last"] = inputs[0].numpy()
            self.run.step(loss=loss, samples=16)


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras 3", "tf_keras"])
def test_what_goes_on_from_a_checkpoint_is_what_never_stopped(alone: Path, library: Any) -> None:
    unbroken = Training(library)
    unbroken.go(6)
    weights = [weight.copy() for weight in unbroken.model.get_weights()]
    unbroken.go(12)
    unbroken.run.close()
    newest = read_seal(alone / "step-12")
    verify(alone / "step-12", newest)
    assert newest["framework"] == "tensorflow"
    for path in (alone / "step-12", alone / "step-8"):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()

    resumed = Training(library)
    assert resumed.run.resume() == 4
    assert len(resumed.run.state["losses"]) == 4
    resumed.go(6)
    assert all(np.array_equal(one, other) for one, other in zip(resumed.model.get_weights(), weights, strict=True))
    resumed.go(12)
    assert resumed.run.state["losses"] == unbroken.run.state["losses"]
    np.testing.assert_array_equal(resumed.run.state["last"], unbroken.run.state["last"])
    resumed.run.close()


def test_a_checkpoint_of_another_model_leaves_this_one_as_it_was(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = Training(keras)
    first.go(4)
    first.run.close()
    other = Training(keras, width=9)
    before = other.model.get_weights()
    with pytest.raises(SystemExit) as left:
        other.run.resume()
    assert left.value.code == 65
    assert "of shape (4, 8); here it is (4, 9)" in capsys.readouterr().err
    assert all(np.array_equal(one, two) for one, two in zip(other.model.get_weights(), before, strict=True))


def test_batches_of_an_interrupted_epoch_are_those_that_are_left(alone: Path) -> None:
    run = Training(keras).run
    data = tf.data.Dataset.range(40).shuffle(40, seed=3, reshuffle_each_iteration=False).batch(8)
    whole = [batch.numpy().tolist() for batch in data]
    seen = []
    for batch in run.batches(data, samples=8):
        seen.append(batch.numpy().tolist())
        run.step()
        if run.position == 16:
            break
    seen += [batch.numpy().tolist() for batch in run.batches(data, samples=8)]
    assert seen == whole


def test_weights_that_have_become_nan_are_not_saved_and_end_the_training(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training = Training(keras)
    training.go(4)
    training.run._settle()
    weight = training.model.trainable_variables[0]
    weight.assign(weight * float("nan"))
    with pytest.raises(SystemExit) as left:
        training.go(12)
    assert left.value.code == 64
    assert [path.name for path in alone.glob("step-*")] == ["step-4"]
    assert "have become NaN, after step 12 with learning rate 0.01: the training has diverged" in capsys.readouterr().err
