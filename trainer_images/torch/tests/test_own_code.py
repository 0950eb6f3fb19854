"""The scripts of docs/own-code.md, exactly as they stand there, in gangs of two workers."""

from __future__ import annotations

import difflib
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from launching import Gang, wait_for

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


@pytest.mark.parametrize(
    ("program", "workers", "nproc"),
    [(("python", "train.py"), 2, 1), (("torchrun", "train.py"), 2, 1), (("torchrun", "train.py"), 1, 2)],
    ids=["MASTER_ADDR style", "torchrun over two pods", "torchrun in a pod of two GPUs"],
)
def test_a_script_that_knows_nothing_of_us_runs_as_it_is(
    gang: Gang, code: Path, program: tuple[str, ...], workers: int, nproc: int
) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    started = gang.start("command", "--", *program, workers=workers, nproc=nproc, cwd=code, PATH=path)
    assert [worker.wait() for worker in started] == [0] * workers, started[0].output
    assert final_loss(gang.log(0)) < 0.5


def test_with_ten_lines_it_survives_a_kill_bit_for_bit(gang: Gang, code: Path) -> None:
    (code / "train_resumable.py").write_text(
        SCRIPTS["train_resumable.py"].replace(
            "        run.step(loss=loss)", "        import time; time.sleep(0.01)\n        run.step(loss=loss)"
        )
    )
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

    unbroken = Gang(gang.folder / "unbroken")
    unbroken.folder.mkdir()
    workers = unbroken.start("module", "train_resumable", workers=2, cwd=code)
    assert [worker.wait() for worker in workers] == [0, 0]
    assert final_loss(resumed[0].output) == final_loss(workers[0].output)
    unbroken.end()
