"""Two ways of doing the same, one time each in turns: the timing loop of every script here.

The turns are as short as they can be, so that whatever else the machine does meets both alike.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator

Seconds = dict[str, list[float]]
"""`bare` and `managed`, and the CPU time of the same, `bareCpu` and `managedCpu`: a number for each turn."""

WARM_UP = 20


def in_turns(bare: Iterator[None], managed: Iterator[None], *, turns: int, warm_up: int = WARM_UP) -> Seconds:
    """Each `next` is one turn. Who goes first changes from one pair to the next."""
    seconds: Seconds = {"bare": [], "managed": [], "bareCpu": [], "managedCpu": []}
    pair = [("bare", bare), ("managed", managed)]
    for turn in range(-warm_up, turns):
        for name, work in pair if turn % 2 else reversed(pair):
            wall, cpu = time.perf_counter(), time.process_time()
            next(work)
            if turn >= 0:
                seconds[name].append(time.perf_counter() - wall)
                seconds[f"{name}Cpu"].append(time.process_time() - cpu)
    return seconds


def answer(measure: Callable[[], Seconds]) -> None:
    """Print what is measured; meanwhile progress is reported to a file, as under the launcher."""
    with tempfile.TemporaryDirectory() as directory:
        os.environ["TRAINWRIGHT_STATUS_DIR"] = directory
        print(json.dumps(measure()))  # noqa: T201 - it is the answer
