"""The scripts of docs/own-code.md, exactly as they stand there, in gangs of two workers."""

from __future__ import annotations

import difflib
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from launching import Gang, Worker, wait_for

from trainwright_runtime.sealed import read_seal

PAGE = Path(__file__).parents[3] / "docs/own-code.md"
SCRIPTS = dict(re.findall(r'```python title="(\S+)"\n(.*?)```', PAGE.read_text(), re.DOTALL))


@pytest.fixture
def code(gang: Gang) -> Path:
    """The user's scripts in a folder of their own."""
    folder = gang.folder / "code"
    folder.mkdir()
    for name, text in SCRIPTS.items():
        (folder / name).write_text(text)
    return folder


def final_loss(output: str) -> float:
    (found,) = re.findall(r"^final loss (\S+)$", output, re.MULTILINE)
    return float(found)


def test_the_difference_is_about_ten_lines() -> None:
    lines = difflib.ndiff(SCRIPTS["train.py"].splitlines(), SCRIPTS["train_resumable.py"].splitlines())
    assert sum(line.startswith("+ ") for line in lines) <= 10


def ends_well(worker: Worker) -> bool:
    """Whether the script ran to its end. A bare interpreter may abort after that, in gloo's threads: docs/own-code.md says so."""
    return worker.wait() == 0 or "terminate called without an active exception" in worker.output


def test_as_an_entrypoint_it_always_ends_with_its_own_code(gang: Gang, code: Path, plain_loss: float) -> None:
    workers = gang.start("module", "train", workers=2, cwd=code)
    assert [worker.wait() for worker in workers] == [0, 0], workers[0].output
    assert final_loss(workers[0].output) == plain_loss


def venv_path() -> str:
    """PATH as in the image: the environment's programs first."""
    return f"{Path(sys.executable).parent}:{os.environ['PATH']}"


@pytest.fixture(scope="module")
def plain_loss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[float]:
    """What the script that knows nothing of us ends with, started as `python train.py` in two pods."""
    gang = Gang(tmp_path_factory.mktemp("plain"))
    (gang.folder / "train.py").write_text(SCRIPTS["train.py"])
    workers = gang.start("command", "--", "python", "train.py", workers=2, PATH=venv_path())
    assert all(ends_well(worker) for worker in workers), workers[0].output
    yield final_loss(workers[0].output)
    gang.end()


def test_a_script_for_master_addr_and_rank_runs_as_it_is(plain_loss: float) -> None:
    assert plain_loss < 0.5


def test_a_script_for_torchrun_runs_as_it_is(gang: Gang, code: Path, plain_loss: float) -> None:
    workers = gang.start("command", "--", "torchrun", "train.py", workers=2, cwd=code, PATH=venv_path())
    assert all(ends_well(worker) for worker in workers), workers[0].output
    assert final_loss(workers[0].output) == plain_loss


def test_torchrun_in_a_pod_of_two_gpus_saves_when_asked_to_stop(gang: Gang, code: Path) -> None:
    slow_down(code)
    (worker,) = gang.start("command", "--", "torchrun", "train_resumable.py", nproc=2, cwd=code, PATH=venv_path())
    wait_for(lambda: worker.progress().get("step", 0) >= 20, "step 20")
    assert 'trainwright_step{rank="1"}' in worker.get("/metrics")
    worker.process.terminate()
    assert worker.wait() == 143, worker.output
    assert worker.message["cause"] == "Terminated"
    (checkpoint,) = (gang.workspace / "checkpoints").iterdir()
    assert read_seal(checkpoint)["worldSize"] == 2


def slow_down(code: Path) -> None:
    """Make steps long enough for the tests to act between them."""
    text = SCRIPTS["train_resumable.py"]
    step = "        run.step(loss=loss)"
    assert step in text
    (code / "train_resumable.py").write_text(text.replace(step, f"        import time; time.sleep(0.01)\n{step}"))


def test_with_ten_lines_it_survives_a_kill_and_ends_bit_for_bit_where_the_plain_one_does(
    gang: Gang, code: Path, plain_loss: float
) -> None:
    slow_down(code)
    start = {"workers": 2, "cwd": code, "TRAINWRIGHT_CHECKPOINT_EVERY_STEPS": "20"}
    command = ("module", "train_resumable")
    workers = gang.start(*command, **start)  # type: ignore[arg-type]
    wait_for(lambda: workers[0].progress().get("checkpoint", {}).get("step", 0) >= 60, "a checkpoint at step 60")
    os.kill(workers[0].ranks()[0], signal.SIGKILL)
    assert workers[0].wait() == 137
    assert workers[1].wait() not in (0, 143)

    resumed = gang.start(*command, attempt=2, **start)  # type: ignore[arg-type]
    shown = wait_for(lambda: (seen := resumed[0].progress()).get("metrics") and seen, "its loss in /progress")
    assert shown["resumedFrom"] >= 60
    assert shown["totalSteps"] == 290
    assert [worker.wait() for worker in resumed] == [0, 0], resumed[0].output

    assert final_loss(resumed[0].output) == plain_loss


STRAGGLER = """
import os, time, torch, torch.distributed as dist
from trainwright_runtime.torch import Run
dist.init_process_group("gloo")
torch.manual_seed(0)
model = torch.nn.Linear(8, 8)
if os.environ["RANK"] == "1":
    model.register_forward_pre_hook(lambda *_: time.sleep(0.05))
model = torch.nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
run = Run(model=model, optimizer=optimizer)
for _ in run.epochs(1):
    while not os.path.exists("go"):
        optimizer.zero_grad()
        loss = model(torch.ones(4, 8)).sum() * 1e-3
        loss.backward()
        optimizer.step()
        run.step(loss=loss, samples=8)
"""


def test_a_rank_that_is_slower_than_the_other_is_named(gang: Gang) -> None:
    """Both take the same time for a step, because they wait for each other."""
    (gang.folder / "train.py").write_text(STRAGGLER)
    workers = gang.start("module", "train", workers=2)
    found = wait_for(lambda: workers[0].progress().get("straggler"), "the straggler to be named")
    assert found["rank"] == 1
    assert found["ratio"] > 1.5
    page = workers[1].get("/metrics")
    own = float(re.findall(r'trainwright_own_step_seconds\{rank="1"\} ([\d.]+)', page)[0])
    assert own > 0.04
    for worker in workers:
        worker.process.terminate()
    assert [worker.wait() for worker in workers] == [143, 143]
