"""Scripts of users, exactly as the samples and docs/frameworks/tensorflow.md have them, in gangs."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import yaml
from launching import Gang, Worker, wait_for

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
START_SECONDS = 180


def sample(name: str) -> str:
    """The script of a sample."""
    config_map, _ = yaml.safe_load_all((ROOT / f"manifests/samples/{name}.yaml").read_text())
    return config_map["data"]["train.py"]


def command(gang: Gang, script: str, **given: Any) -> list[Worker]:
    (gang.folder / "train.py").write_text(script)
    return gang.start("command", "--", sys.executable, "train.py", framework="tensorflow", **given)


def finish(workers: list[Worker]) -> None:
    assert [worker.wait(START_SECONDS) for worker in workers] == [0] * len(workers), "\n".join(one.output for one in workers)


def slowed(script: str, line: str) -> str:
    """The script with steps long enough for the test to act between them."""
    assert line in script
    indent = line[: len(line) - len(line.lstrip())]
    return script.replace(line, f"{line}\n{indent}import time; time.sleep(0.02)")


def test_fit_of_keras_on_one_worker_goes_on_where_it_was_killed(gang: Gang) -> None:
    script = sample("tensorflow-keras-fit")
    callback = "callbacks=["
    assert callback in script
    slow = script.replace(
        callback, f"{callback}keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: __import__('time').sleep(1)), "
    )
    (worker,) = command(gang, slow)
    wait_for(lambda: "Epoch 6/12" in worker.output, "epoch 6", START_SECONDS)
    os.kill(worker.ranks()[0], signal.SIGKILL)
    assert worker.wait() == 137
    (worker,) = command(gang, script, attempt=2)
    finish([worker])
    assert "Epoch 4/12" not in worker.output
    (accuracy,) = re.findall(r"1 replicas, accuracy ([\d.]+)", worker.output)
    assert float(accuracy) > 0.95
    model = keras.models.load_model(gang.workspace / "artifacts/model.keras")
    assert model(np.zeros((1, 8, 8, 1), dtype=np.float32)).shape == (1, 10)


def test_fit_of_the_keras_before_on_two_workers_goes_on_where_one_was_killed(gang: Gang) -> None:
    script = sample("tensorflow-mwms-fit")
    callback = "callbacks=[backup]"
    assert callback in script
    wait = "tf.keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: __import__('time').sleep(1))"
    slow = script.replace(callback, f"callbacks=[backup, {wait}]")
    legacy = {"workers": 2, "TF_USE_LEGACY_KERAS": "1"}
    workers = command(gang, slow, **legacy)
    wait_for(lambda: "Epoch 4/8" in workers[0].output, "epoch 4", START_SECONDS)
    os.kill(workers[1].ranks()[0], signal.SIGKILL)
    assert workers[1].wait() == 137
    assert workers[0].wait(60) not in (0, 143), "worker 0 doesn't wait for a peer that is gone"
    assert workers[0].message["cause"] == "PeerLost", workers[0].message
    workers = command(gang, script, attempt=2, **legacy)
    finish(workers)
    assert "Epoch 2/8" not in workers[0].output
    scores = [re.findall(rf"worker {index} of 2, accuracy ([\d.]+)", worker.output) for index, worker in enumerate(workers)]
    assert scores[0] == scores[1]
    assert float(scores[0][0]) > 0.95
    assert (gang.workspace / "artifacts/model.keras").exists()


@pytest.fixture
def own_loop() -> str:
    page = (ROOT / "docs/frameworks/tensorflow.md").read_text()
    (script,) = re.findall(r'```python title="train.py"\n(.*?)```', page, re.DOTALL)
    return script


def final_losses(workers: list[Worker]) -> list[str]:
    return [re.findall(r"^final loss (\S+)$", worker.output, re.MULTILINE)[0] for worker in workers]


def test_a_loop_of_ones_own_ends_after_a_kill_as_if_there_had_been_none(tmp_path: Path, own_loop: str) -> None:
    unbroken = Gang(tmp_path / "unbroken")
    unbroken.folder.mkdir()
    workers = command(unbroken, own_loop, workers=2)
    finish(workers)
    expected = final_losses(workers)
    assert expected[0] == expected[1]
    assert float(expected[0]) < 0.5
    unbroken.end()

    gang = Gang(tmp_path / "broken")
    gang.folder.mkdir()
    every = {"TRAINWRIGHT_CHECKPOINT_EVERY_STEPS": "10"}
    workers = command(gang, slowed(own_loop, "        loss = step(inputs, truth)"), workers=2, **every)
    wait_for(lambda: workers[0].progress().get("checkpoint", {}).get("step", 0) >= 40, "a checkpoint at step 40", START_SECONDS)
    os.kill(workers[1].ranks()[0], signal.SIGKILL)
    assert workers[1].wait() == 137
    assert workers[0].wait(60) not in (0, 143)
    workers = command(gang, own_loop, workers=2, attempt=2, **every)
    finish(workers)
    assert workers[0].message["progress"]["resumedFrom"] >= 40
    assert final_losses(workers) == expected
    gang.end()
