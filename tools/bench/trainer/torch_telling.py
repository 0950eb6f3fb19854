"""What it costs to tell how a training goes: `torch_telling STEPS`.

Between real steps, `Run.step` as it is and without telling, in turns; seconds of each, and of the real steps, as means over many.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time

import torch

from bench.trainer.torch_step import BATCH, Loop
from trainwright_runtime.torch import Run

TOGETHER = 200
"""Steps that are averaged: there is a report in all of them, and no reading of a loss in most."""


class Silent(Run):
    """A run that nobody hears of."""

    def _tell(self, readings: object = None) -> None:  # noqa: ARG002 - the base's
        self._told_at = self._marks[-1]
        self._marks, self._noted, self._untold, self._waited = [], {}, 0, 0.0

    def _readings(self, loss: object) -> dict[str, float]:  # noqa: ARG002 - the base's
        return {}


def main() -> None:
    torch.set_num_threads(1)
    loop = Loop()
    runs = {"told": loop.run, "silent": Silent(model=loop.model, optimizer=loop.optimizer, total_steps=10**6)}
    seconds: dict[str, list[float]] = {"told": [], "silent": [], "step": []}
    bare = loop.bare()
    for turn in range(int(sys.argv[1])):
        for name in runs if turn % 2 else reversed(runs):
            began = time.perf_counter()
            next(bare)
            stepped = time.perf_counter()
            runs[name].step(samples=BATCH)
            seconds[name].append(time.perf_counter() - stepped)
            seconds["step"].append(stepped - began)
    # Twice as many steps as turns of either.
    seconds["step"] = seconds["step"][::2]
    means = {
        name: [statistics.mean(each[at : at + TOGETHER]) for at in range(0, len(each) - TOGETHER + 1, TOGETHER)]
        for name, each in seconds.items()
    }
    print(json.dumps(means))  # noqa: T201 - it is the answer


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        os.environ["TRAINWRIGHT_STATUS_DIR"] = directory
        main()
