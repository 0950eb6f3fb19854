"""Where a start's time goes: every second of it counts for one part, and the log and the port say so. The clock is made up."""

from __future__ import annotations

import pytest
from launching import Gang, wait_for

from trainwright_runtime.startup import Startup, seconds_since_start, sentence


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_recipes_start_is_split_and_nothing_of_it_is_lost(clock: Clock) -> None:
    startup = Startup(clock=clock, before=0.5)
    startup.begins("import")
    clock.now += 3
    with startup.part("data"):
        clock.now += 1
    clock.now += 2
    with startup.part("rendezvous"):
        clock.now += 4
    clock.now += 1
    startup.was_set_up()
    startup.begins("first step")
    clock.now += 0.25
    parts = startup.end()
    assert parts == {"import": 3.5, "data": 1, "model": 3, "rendezvous": 4, "first step": 0.25}
    assert sentence(parts) == "first step after 11.8 s: import 3.5, data 1.0, model 3.0, rendezvous 4.0, first step 0.2"


def test_what_comes_before_a_run_in_code_of_the_users_own_is_its_set_up(clock: Clock) -> None:
    startup = Startup(clock=clock, before=0.5)
    clock.now += 5
    startup.was_set_up()
    clock.now += 1
    with startup.part("rendezvous"):
        clock.now += 2
    startup.begins("first step")
    clock.now += 1
    assert startup.end() == {"set-up": 6.5, "rendezvous": 2, "first step": 1}


def test_code_that_only_reports_steps_has_a_start_of_one_part(clock: Clock) -> None:
    startup = Startup(clock=clock, before=2)
    assert startup.end() == {"set-up": 2}


def test_only_the_first_step_ends_a_start(clock: Clock) -> None:
    startup = Startup(clock=clock, before=1)
    parts = startup.end()
    clock.now += 9
    with startup.part("data"):
        clock.now += 9
    assert startup.end() is None
    assert parts == {"set-up": 1}


def test_a_part_is_counted_also_when_it_fails(clock: Clock) -> None:
    startup = Startup(clock=clock, before=0)
    startup.begins("import")

    @startup.part("data")
    def load() -> None:
        clock.now += 2
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError):
            load()
    assert startup.end() == {"import": 0, "data": 4, "model": 0}


def test_a_processs_age_is_known() -> None:
    assert 0 < seconds_since_start() < 24 * 3600


SCRIPT = """
import os, time
import trainwright_runtime
for step in (1, 2):
    trainwright_runtime.report(step=step)
while not os.path.exists("go"):
    time.sleep(0.02)
"""


def test_the_log_says_it_once_and_the_port_for_each_rank(gang: Gang) -> None:
    (gang.folder / "step_it.py").write_text(SCRIPT)
    (worker,) = gang.start("module", "step_it", nproc=2)
    wait_for(lambda: worker.progress().get("startup"), "the start in /progress")
    lines = [f'trainwright_startup_seconds{{part="set-up",rank="{rank}"}}' for rank in (0, 1)]
    wait_for(lambda: all(line in worker.get("/metrics") for line in lines), "both ranks in /metrics")
    shown = worker.progress()["startup"]
    assert shown.keys() == {"set-up"}
    (gang.folder / "go").touch()
    assert worker.wait() == 0
    assert worker.output.count("trainwright: first step after") == 1
    assert worker.message["progress"]["startup"] == shown
