"""In which order samples are learnt from, and by which rank.

The order is a function of seed and epoch alone. The number of ranks only decides who takes which part of each step, so one
worker and ten see the same steps, and a training that resumes with another number of workers goes on with the next sample.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One optimizer step, as this rank sees it: the micro-batches it takes of the `samples` that all ranks take together.

    `is_padding` marks a rank that has none of them: it takes one along, with no weight, so that the others needn't wait.
    """

    samples: int
    micro_batches: list[list[int]]
    is_padding: bool


def plan_epoch(
    size: int,
    *,
    epoch: int,
    seed: int,
    start: int,
    global_batch: int,
    micro_batch: int | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> list[Step]:
    """The steps of an epoch over `size` samples, from sample `start` on."""
    order = np.random.default_rng((seed, epoch)).permutation(size).tolist()
    steps = []
    for first in range(start, size, global_batch):
        together = order[first : first + global_batch]
        share = together[rank::world_size]
        own = share or together[:1]
        chunk = micro_batch or len(own)
        micro_batches = [own[at : at + chunk] for at in range(0, len(own), chunk)]
        steps.append(Step(samples=len(together), micro_batches=micro_batches, is_padding=not share))
    return steps
