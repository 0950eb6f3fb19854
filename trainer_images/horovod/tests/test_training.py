"""The recipe on gangs of real Horovod ranks: what it reaches, that ranks agree, and that a kill doesn't show in the result."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from artifacts import require_digits
from launching import Gang, Worker, wait_for
from smoothing import LEAST_SMOOTHED

from trainwright_runtime.sealed import read_seal, verify

RECIPE = ("recipe", "image-classification")


def start(gang: Gang, *arguments: str, **given: Any) -> list[Worker]:
    return gang.start(*arguments, framework="horovod", **given)


def weights(gang: Gang) -> dict[str, torch.Tensor]:
    return torch.load(gang.workspace / "artifacts/model.pt", weights_only=True)


def test_digits_are_learned_by_two_workers(gang: Gang) -> None:
    workers = start(gang, *RECIPE, workers=2, config="epochs: 10")
    assert [worker.wait() for worker in workers] == [0, 0], workers[0].output
    result = gang.report()
    assert result["test"]["accuracy"] >= 0.97
    assert result["worldSize"] == 2
    manifest = read_seal(gang.workspace / "artifacts")
    verify(gang.workspace / "artifacts", manifest)
    assert (manifest["framework"], manifest["frameworkVersion"]) == ("horovod", "0.28.1")
    require_digits(gang.workspace / "artifacts", manifest)


def test_one_worker_has_the_loss_curve_of_two(tmp_path: Path) -> None:
    curves = []
    for count in (1, 2):
        gang = Gang(tmp_path / str(count))
        gang.folder.mkdir()
        config = "{epochs: 3, label_smoothing: 0.1, clip_norm: 0.5, warmup_epochs: 1, log_every_steps: 1}"
        workers = start(gang, *RECIPE, workers=count, config=config)
        assert [worker.wait() for worker in workers] == [0] * count, workers[0].output
        curves.append(gang.report()["losses"])
        gang.end()
    assert [step for step, _ in curves[0]] == [step for step, _ in curves[1]]
    assert max(abs(one - two) for (_, one), (_, two) in zip(*curves, strict=True)) < 5e-3
    assert LEAST_SMOOTHED < min(loss for _, loss in curves[0]) < 0.8


GOLDEN = "{epochs: 4, dropout: 0.2, log_every_steps: 1, step_delay_seconds: %s}"


def test_a_killed_worker_costs_steps_and_nothing_else(tmp_path: Path) -> None:
    unbroken = Gang(tmp_path / "unbroken")
    unbroken.folder.mkdir()
    assert [worker.wait() for worker in start(unbroken, *RECIPE, workers=2, config=GOLDEN % 0)] == [0, 0]
    unbroken.end()

    broken = Gang(tmp_path / "broken")
    broken.folder.mkdir()
    every = {"TRAINWRIGHT_CHECKPOINT_EVERY_STEPS": "7"}
    workers = start(broken, *RECIPE, workers=2, config=GOLDEN % 0.02, **every)
    wait_for(lambda: workers[0].has_reached(20), "step 20")
    (rank,) = [pid for pid in workers[1].ranks() if b"HOROVOD_RANK=1" in Path(f"/proc/{pid}/environ").read_bytes()]
    os.kill(rank, signal.SIGKILL)
    assert workers[1].wait() == 137
    assert workers[0].wait(40) not in (0, 143), "rank 0 doesn't wait for a peer that is gone"
    assert workers[0].message["cause"] == "PeerLost", workers[0].message
    workers = start(broken, *RECIPE, workers=2, attempt=2, config=GOLDEN % 0.02, **every)
    wait_for(lambda: workers[0].has_reached(40), "step 40")
    workers[1].process.terminate()
    assert [worker.wait() for worker in workers] == [143, 143], workers[0].output
    workers = start(broken, *RECIPE, workers=2, attempt=3, config=GOLDEN % 0, **every)
    assert [worker.wait() for worker in workers] == [0, 0]
    assert workers[0].message["progress"]["resumedFrom"] >= 40
    assert broken.report()["losses"] == unbroken.report()["losses"]
    assert all(torch.equal(tensor, weights(broken)[name]) for name, tensor in weights(unbroken).items())
    broken.end()


# Learns as the usual script does, and then tells what it has: each rank its own file.
SCRIPT = """
import horovod.torch as hvd, torch, torch.nn.functional as F
from sklearn.datasets import load_digits

hvd.init()
torch.manual_seed(hvd.rank())
digits = load_digits()
images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
sampler = torch.utils.data.distributed.DistributedSampler(images, num_replicas=hvd.size(), rank=hvd.rank())
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1 * hvd.size(), momentum=0.9)
optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
hvd.broadcast_parameters(model.state_dict(), root_rank=0)
hvd.broadcast_optimizer_state(optimizer, root_rank=0)
for epoch in range(3):
    sampler.set_epoch(epoch)
    order = torch.tensor(list(sampler))
    for batch in order.split(64):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        if epoch == 2:
            local = torch.autograd.grad(F.cross_entropy(model(images[batch]), labels[batch]), model[0].weight)[0]
        optimizer.synchronize()
        if epoch == 2:
            torch.save((local, model[0].weight.grad.clone()), f"gradient-{hvd.rank()}.pt")
        with optimizer.skip_synchronize():
            optimizer.step()
torch.save(model.state_dict(), f"model-{hvd.rank()}.pt")
print(f"rank {hvd.rank()} of {hvd.size()}, local {hvd.local_rank()} of {hvd.local_size()}, cross {hvd.cross_rank()}")
"""


@pytest.mark.parametrize("start_as", ["command", pytest.param("module", marks=pytest.mark.long)])
def test_the_usual_script_runs_as_it_is(gang: Gang, start_as: str) -> None:
    (gang.folder / "train.py").write_text(SCRIPT)
    words = ("command", "--each-rank", "--", sys.executable, "train.py") if start_as == "command" else ("module", "train")
    workers = start(gang, *words, workers=2, nproc=2)
    assert [worker.wait() for worker in workers] == [0, 0], workers[0].output
    assert [gang.log(rank).splitlines()[-1] for rank in range(4)] == [
        "rank 0 of 4, local 0 of 2, cross 0",
        "rank 1 of 4, local 1 of 2, cross 0",
        "rank 2 of 4, local 0 of 2, cross 1",
        "rank 3 of 4, local 1 of 2, cross 1",
    ]
    models = [torch.load(gang.folder / f"model-{rank}.pt", weights_only=True) for rank in range(4)]
    for other in models[1:]:
        assert all(torch.equal(tensor, other[name]) for name, tensor in models[0].items()), "parameters are equal to the bit"
    gradients = [torch.load(gang.folder / f"gradient-{rank}.pt", weights_only=True) for rank in range(4)]
    mean = torch.stack([local for local, _ in gradients]).mean(0)
    for _, shared in gradients:
        torch.testing.assert_close(shared, mean)


def test_a_rendezvous_that_can_not_be_held_is_said(gang: Gang) -> None:
    (gang.folder / "wait.py").write_text("import time\nwhile True: time.sleep(0.05)\n")
    (worker,) = start(gang, "module", "wait", TRAINWRIGHT_POD_IP="192.0.2.1", GLOO_SOCKET_IFNAME="lo")
    assert worker.wait() == 1
    assert worker.message["message"] == "trainwright_runtime.horovod.rendezvous ended with 1"
