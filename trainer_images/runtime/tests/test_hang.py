"""A rank that takes no steps any more is found, written down and ended; one that has reason to be silent is left alone."""

from __future__ import annotations

import time
from typing import Any

import pytest
from launching import Gang

from trainwright_runtime.gang import PACE_SAMPLES, Pace
from trainwright_runtime.launch.hang import hanging
from trainwright_runtime.progress import STEP_SECONDS_BOUNDS, Reporter

NOW = 10_000.0


def status(silent: float, *, steps: dict[float, int] | None = None, rank: int = 0, **more: Any) -> dict[str, Any]:
    counts = [(steps or {}).get(bound, 0) for bound in STEP_SECONDS_BOUNDS] + [(steps or {}).get(1e9, 0)]
    histogram = {"bounds": STEP_SECONDS_BOUNDS, "counts": counts, "sum": 90.0 * sum(counts)}
    return {"rank": rank, "alive": NOW - silent, "steps": sum(counts), "stepSeconds": histogram, **more}


@pytest.mark.parametrize(
    ("told", "hangs"),
    [
        pytest.param(status(59, steps={0.1: 1000}), False, id="silent for less than the deadline"),
        pytest.param(status(61, steps={0.1: 1000}, step=7), True, id="for longer"),
        pytest.param(status(250, steps={30.0: 10}), False, id="slow steps: ten of them may pass"),
        pytest.param(status(301, steps={30.0: 10}), True, id="slow steps: more than ten have passed"),
        pytest.param(status(200, steps={0.1: 1000, 30.0: 1}), True, id="one slow step in a thousand gives no patience"),
        pytest.param(status(850, steps={1e9: 3}), False, id="steps beyond the last bound: ten of their mean"),
        pytest.param(status(179), False, id="before the first step"),
        pytest.param(status(181), True, id="three deadlines before the first step"),
        pytest.param(status(9999, steps={0.1: 10}) | {"alive": None}, False, id="a model is being written"),
        pytest.param({"rank": 0}, False, id="nothing was ever reported"),
    ],
)
def test_who_hangs(told: dict[str, Any], hangs: bool) -> None:
    assert (hanging([told], now=NOW, deadline=60) is not None) == hangs


def test_the_one_that_has_been_silent_for_longest_is_named() -> None:
    told = [status(70, steps={0.1: 9}, rank=rank) | {"alive": NOW - silent} for rank, silent in ((4, 70.0), (5, 95.2), (6, 1.0))]
    rank, sentence = hanging([one | {"step": 12} for one in told], now=NOW, deadline=60) or (0, "")
    assert rank == 5
    assert sentence == "rank 5 has reported nothing for 95 s after step 12, longer than 60 s"


HANGS = """
import os, time, threading
import trainwright_runtime
for step in range(1, 6):
    trainwright_runtime.report(step=step, samples=8)
    time.sleep(0.05)
def waits_for_ever():
    threading.Event().wait()
if os.environ["RANK"] == "1":
    waits_for_ever()
while True:
    trainwright_runtime.report()
    time.sleep(0.1)
"""


def test_ranks_that_hang_are_written_down_and_ended(gang: Gang) -> None:
    (gang.folder / "train.py").write_text(HANGS)
    (worker,) = gang.start("module", "train", nproc=2, TRAINWRIGHT_PROGRESS_DEADLINE="2")
    assert worker.wait(30) == 67, worker.output
    message = worker.message
    assert (message["cause"], message["rank"]) == ("Hung", 1)
    assert "rank 1 has reported nothing for" in message["message"]
    assert any("in waits_for_ever" in line for line in message["lines"]), "where it was is the evidence"
    assert "time.sleep" in gang.log(0) or "train.py" in gang.log(0), "and the others wrote it into their logs"
    assert worker.leftovers() == []


def test_without_a_deadline_nobody_is_judged(gang: Gang) -> None:
    (gang.folder / "train.py").write_text("import trainwright_runtime, time; trainwright_runtime.report(step=1); time.sleep(4)")
    (worker,) = gang.start("module", "train", TRAINWRIGHT_PROGRESS_DEADLINE="0")
    assert worker.wait() == 0
    (worker,) = gang.start("module", "train", attempt=2, TRAINWRIGHT_PROGRESS_DEADLINE="3600")
    assert worker.wait() == 0


def test_a_straggler_stands_out_over_many_meetings() -> None:
    pace = Pace()
    for number in range(PACE_SAMPLES - 1):
        for wait in (0.01, 0.02):  # another meeting, and no other step
            pace.met([(0.09 + number * 1e-6, wait), (0.24 if number % 5 else 0.04, wait), (0.09, wait)], step=0.5)
    assert pace.straggler is None, "not yet seen for long enough"
    pace.met([None, (0.2, 0.0), (0.1, 0.0)], step=0.5)
    assert pace.straggler is None, "what some can't tell is no meeting"
    pace.met([(0.09, 0.01), (0.24, 0.01), (0.09, 0.01)], step=0.5)
    rank, ratio = pace.straggler or (0, 0.0)
    assert (rank, ratio) == (1, pytest.approx(2.5, rel=1e-3))
    pace.met([(0.09, 0.02), (0.25, 0.01), (0.09, 0.01)], step=10.0)
    assert pace.straggler is None, "that is little of such a long step"
    for number in range(PACE_SAMPLES):
        pace.met([(0.1, 0.0), (0.12 + number * 1e-6, 0.0), (0.1, 0.0)], step=0.5)
    assert pace.straggler is None, "it has caught up"


def test_a_straggler_is_in_progress_while_it_is_one() -> None:
    reporter = Reporter(rank=0, path=None)
    rest: dict[str, Any] = {"epoch": 0, "samples": 0, "waited": 0.0, "own": None, "metrics": {}}
    reporter.took([time.perf_counter()], step=1, straggler=(3, 1.7041), **rest)
    assert reporter.status()["straggler"] == {"rank": 3, "ratio": 1.7}
    reporter.took([time.perf_counter()], step=2, straggler=None, **rest)
    assert reporter.status()["straggler"] is None
