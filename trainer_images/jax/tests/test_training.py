"""The recipe on gangs of real JAX processes: what it reaches, what a kill costs, what a fresh process makes of its model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from artifacts import require_digits
from flax import serialization
from launching import Gang, Worker, wait_for
from smoothing import LEAST_SMOOTHED

from trainwright_runtime.sealed import read_seal, verify

RECIPE = ("recipe", "image-classification")


def start(gang: Gang, *arguments: str, **given: Any) -> list[Worker]:
    return gang.start(*arguments, framework="jax", **given)


def finish(gang: Gang, workers: list[Worker]) -> dict[str, Any]:
    assert [worker.wait(200) for worker in workers] == [0] * len(workers), workers[0].output
    return gang.report()


def parameters(gang: Gang) -> Any:
    return serialization.msgpack_restore((gang.workspace / "artifacts/model.msgpack").read_bytes())


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gang]:
    """The default training on digits, by two workers, undisturbed."""
    gang = Gang(tmp_path_factory.mktemp("two"))
    finish(gang, start(gang, *RECIPE, workers=2, config="log_every_steps: 1"))
    yield gang
    gang.end()


def test_digits_are_learned_by_two_workers(two_workers: Gang) -> None:
    path = two_workers.workspace / "artifacts"
    manifest = read_seal(path)
    verify(path, manifest)
    assert manifest["metrics"]["accuracy"] >= 0.97
    assert manifest["framework"] == "jax"
    assert set(manifest["files"]) == {
        "model.msgpack",
        "model.stablehlo",
        "samples.json",
        "report.json",
        "report.html",
        "curves.png",
    }
    assert manifest["signature"]["inputs"][0]["shape"] == [-1, 8, 8, 1]
    require_digits(path, manifest)


def test_one_worker_has_the_loss_curve_of_two(two_workers: Gang, gang: Gang) -> None:
    one = finish(gang, start(gang, *RECIPE, config="log_every_steps: 1"))
    two = two_workers.report()
    assert [step for step, _ in one["losses"]] == [step for step, _ in two["losses"]]
    apart = max(abs(mine - other) for (_, mine), (_, other) in zip(one["losses"], two["losses"], strict=True))
    assert apart < 5e-2, "sums in another order, amplified by 300 steps; 1.4e-2 was measured"


# Nothing of ours, nor Flax: the program has all it needs.
FRESH = """
import sys, numpy as np
from jax import export
program = export.deserialize(open(sys.argv[1], "rb").read())
images = np.load(sys.argv[2])
np.save(sys.argv[3], np.asarray(program.call(images)))
assert "flax" not in sys.modules and "trainwright_runtime" not in sys.modules
"""


def test_a_fresh_process_predicts_what_the_trainer_saw(two_workers: Gang, tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    from trainwright_runtime.images.data import split

    digits = load_digits()
    _, _, test = split(digits.target.tolist())
    images = (digits.images[test] / 16).astype(np.float32)[..., None]
    np.save(tmp_path / "images.npy", images)
    artifacts = two_workers.workspace / "artifacts"
    words = [str(artifacts / "model.stablehlo"), str(tmp_path / "images.npy"), str(tmp_path / "logits.npy")]
    subprocess.run([sys.executable, "-c", FRESH, *words], check=True, timeout=120)
    logits = np.load(tmp_path / "logits.npy")
    confusion = np.zeros((10, 10), dtype=int)
    np.add.at(confusion, (digits.target[test], logits.argmax(1)), 1)
    report = json.loads((artifacts / "report.json").read_text())
    assert confusion.tolist() == report["test"]["confusion"]


GOLDEN = "{epochs: 4, dropout: 0.2, log_every_steps: 1, step_delay_seconds: %s}"


def test_a_killed_worker_costs_steps_and_nothing_else(tmp_path: Path) -> None:
    """Golden: parameters bit-equal and the same losses, dropout included."""
    unbroken = Gang(tmp_path / "unbroken")
    unbroken.folder.mkdir()
    expected = finish(unbroken, start(unbroken, *RECIPE, workers=2, config=GOLDEN % 0))
    unbroken.end()

    broken = Gang(tmp_path / "broken")
    broken.folder.mkdir()
    every = {"TRAINWRIGHT_CHECKPOINT_EVERY_STEPS": "7"}
    workers = start(broken, *RECIPE, workers=2, config=GOLDEN % 0.02, **every)
    wait_for(lambda: workers[0].has_reached(20), "step 20")
    (rank,) = workers[1].ranks()
    os.kill(rank, signal.SIGKILL)
    assert workers[1].wait() == 137
    assert workers[0].wait(60) not in (0, 143), "process 0 doesn't wait for a peer that is gone"
    assert workers[0].message["cause"] == "PeerLost", workers[0].message
    workers = start(broken, *RECIPE, workers=2, attempt=2, config=GOLDEN % 0.02, **every)
    wait_for(lambda: workers[0].has_reached(40), "step 40")
    workers[1].process.terminate()
    assert [worker.wait() for worker in workers] == [143, 143], workers[0].output
    workers = start(broken, *RECIPE, workers=2, attempt=3, config=GOLDEN % 0, **every)
    found = finish(broken, workers)
    assert workers[0].message["progress"]["resumedFrom"] >= 40
    assert found["losses"] == expected["losses"]
    assert found["epochs"] == expected["epochs"]
    for place, mine, other in _pairs(parameters(broken), parameters(unbroken)):
        assert np.array_equal(mine, other), place
    broken.end()


def _pairs(one: Any, other: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            yield from _pairs(one[name], other[name], f"{place}/{name}")
    else:
        yield place, one, other


def test_clipped_gradients_and_smoothed_labels(gang: Gang) -> None:
    report = finish(
        gang,
        start(gang, *RECIPE, config="{epochs: 4, label_smoothing: 0.1, clip_norm: 0.5, warmup_epochs: 1, log_every_steps: 1}"),
    )
    assert LEAST_SMOOTHED < min(loss for _, loss in report["losses"]) < 0.8
    assert report["test"]["accuracy"] > 0.9


def test_a_training_that_diverges_keeps_what_was_good_and_says_what_may_help(gang: Gang) -> None:
    config = "{optimizer: sgd, learning_rate: 1.0e+12, schedule: none, epochs: 3, log_every_steps: 1}"
    (worker,) = start(gang, *RECIPE, config=config, TRAINWRIGHT_CHECKPOINT_EVERY_STEPS="1000")
    assert worker.wait(200) == 64
    assert "the training has diverged. Try a lower learning rate" in worker.message["message"]
    assert not list((gang.workspace / "checkpoints").glob("step-*"))


def test_a_checkpoint_of_another_model_is_refused(gang: Gang) -> None:
    every = {"TRAINWRIGHT_CHECKPOINT_EVERY_STEPS": "7"}
    finish(gang, start(gang, *RECIPE, config="{epochs: 1}", **every))
    (worker,) = start(gang, *RECIPE, attempt=2, config="{epochs: 2, optimizer: sgd}", **every)
    assert worker.wait() == 65
    assert "does not fit this training" in worker.message["message"]


@pytest.mark.long
def test_a_residual_network_in_bf16_learns_too(gang: Gang) -> None:
    config = "{model: resnet18, precision: bf16, epochs: 2, global_batch: 32, learning_rate: 0.001, log_every_steps: 1}"
    losses = [loss for _, loss in finish(gang, start(gang, *RECIPE, config=config))["losses"]]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])


# As JAX's own guide has it: not a line of ours.
SCRIPT = """
import jax
jax.distributed.initialize()
import jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from sklearn.datasets import load_digits

digits = load_digits()
images, labels = (digits.data / 16).astype(np.float32), digits.target.astype(np.int32)
mesh = Mesh(jax.devices(), ("data",))
spread = NamedSharding(mesh, P("data"))
count = len(labels) // jax.process_count()
mine = slice(jax.process_index() * count, (jax.process_index() + 1) * count)
x, y = (jax.make_array_from_process_local_data(spread, part[mine]) for part in (images, labels))
weights = jnp.zeros((64, 10))

@jax.jit
def update(weights, x, y):
    def loss(weights):
        return -jnp.mean(jnp.sum(jax.nn.one_hot(y, 10) * jax.nn.log_softmax(x @ weights), axis=1))
    return weights - 5.0 * jax.grad(loss)(weights)

for _ in range(200):
    weights = update(weights, x, y)
accuracy = jax.jit(lambda w, x, y: jnp.mean((x @ w).argmax(1) == y))(weights, x, y)
print(f"{jax.process_count()} processes, accuracy {float(accuracy):.3f}")
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_the_guides_script_runs_as_it_is(gang: Gang, workers: int) -> None:
    (gang.folder / "train.py").write_text(SCRIPT)
    started = start(gang, "command", "--", sys.executable, "train.py", workers=workers)
    assert [worker.wait() for worker in started] == [0] * workers, started[0].output
    assert gang.log(0).splitlines()[-1].startswith(f"{workers} processes, accuracy 0.9")


@pytest.mark.long
def test_a_process_that_fails_does_not_wait_for_the_others(gang: Gang) -> None:
    """JAX would have it wait at exit, for minutes, for processes that wait for it."""
    (gang.folder / "train.py").write_text(
        "import jax\njax.distributed.initialize()\n"
        "from jax.experimental import multihost_utils\n"
        "if jax.process_index() == 0: raise ValueError('no such thing')\n"
        "multihost_utils.sync_global_devices('here')\n"
    )
    workers = start(gang, "module", "train", workers=2)
    assert workers[0].wait(60) == 1
    assert workers[0].message["message"] == "ValueError: no such thing"
