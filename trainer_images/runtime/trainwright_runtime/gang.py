"""What the ranks have to decide together, and how they do it without a message a step.

A rank that leaves or saves on its own leaves the others waiting in a collective for ever. So the ranks meet in one tiny exchange
about twice a second, at the same step, and act on its result. How they exchange is the framework's business; this is the rest.
"""

from __future__ import annotations

import collections
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

MEET_SECONDS = 0.5
MAX_STEPS_APART = 1000
PACE_SAMPLES = 15
"""Different steps that a straggler must have been one at, by the median."""
STRAGGLER_RATIO, STRAGGLER_SHARE = 1.5, 0.03
"""A straggler needs so many times as long as the others, and that share of a step more."""

Own = tuple[float, float]
"""What a rank needs of a step for itself, in seconds: computing, and waiting for data."""


class Pace:
    """What each rank needs of a step for itself, and so who keeps the others waiting."""

    def __init__(self) -> None:
        self._seen: collections.deque[list[float]] = collections.deque(maxlen=PACE_SAMPLES)
        self._computed: list[float] = []
        self._step = 0.0

    def met(self, told: Sequence[Own | None], *, step: float) -> None:
        """What the ranks said at a meeting, in their order; `step`: seconds that steps take now.

        Nothing is learnt from a meeting that some can't tell at, nor from one that knows of no other step than the last:
        frameworks take the time of some steps only.
        """
        self._step = step
        own = [one for one in told if one is not None]
        computed = [one[0] for one in own]
        if len(own) == len(told) and computed != self._computed:
            self._computed = computed
            self._seen.append([sum(one) for one in own])

    @property
    def straggler(self) -> tuple[int, float] | None:
        """The slowest rank, and how many times as long it takes as the others on average; None while nobody stands out."""
        if len(self._seen) < PACE_SAMPLES:
            return None
        usual = [statistics.median(column) for column in zip(*self._seen, strict=True)]
        slowest = max(range(len(usual)), key=usual.__getitem__)
        others = (sum(usual) - usual[slowest]) / max(1, len(usual) - 1)
        is_slow = usual[slowest] > STRAGGLER_RATIO * others and usual[slowest] - others > STRAGGLER_SHARE * self._step
        return (slowest, usual[slowest] / others) if others and is_slow else None


class Gang:
    """The ranks of this training; as it stands a gang of one. A framework's own overrides `exchange` and `disband`."""

    def __init__(self, *, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self._steps_to_meeting = 1
        self._steps_apart = 1
        self._met = time.monotonic()
        self.pace = Pace()

    def exchange(self, value: Any) -> list[Any]:
        """Every rank's value, in order of rank, on every rank; all ranks must call it. Values are plain: JSON could say them."""
        return [value]

    def total(self, value: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The sum over all ranks of a number or an array that each has in the same shape, on every rank; all must call it."""
        own = np.asarray(value, dtype=np.float64)
        if self.size == 1:
            return own
        return np.asarray(np.sum([np.asarray(one) for one in self.exchange(own.tolist())], axis=0))

    def disband(self) -> None:
        """Wait until every rank is here, then end the framework's side in order."""

    def meet(self, *, stop: bool, save: bool, own: Callable[[], Own | None] = lambda: None) -> tuple[bool, bool]:
        """Called once a step by every rank: whether to stop now, and whether to save now.

        The gang stops when any rank has been asked to; it saves when rank 0 asks for it. `own` is asked for when there is a
        meeting.
        """
        if self.size == 1:
            return stop, save
        self._steps_to_meeting -= 1
        if self._steps_to_meeting > 0:
            return False, False
        elapsed = max(time.monotonic() - self._met, 1e-6)
        fitting = int(self._steps_apart * MEET_SECONDS / elapsed)
        # Growth is bounded: the first steps of a training are no measure for those that follow.
        apart = max(1, min(fitting, self._steps_apart * 4, MAX_STEPS_APART))
        wishes = self.exchange([int(stop), int(save), apart, own()])
        self.pace.met([wish[3] for wish in wishes], step=elapsed / self._steps_apart)
        self._met = time.monotonic()
        self._steps_apart = self._steps_to_meeting = wishes[0][2]
        return any(wish[0] for wish in wishes), bool(wishes[0][1])

    def from_main(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        return self.exchange(value)[0]

    def gather(self, value: Any) -> list[Any] | None:
        """Every rank's value, in order of rank, on rank 0; None elsewhere."""
        values = self.exchange(value)
        return values if self.rank == 0 else None

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; every rank waits for the others here."""
        return any(self.exchange(bool(flag)))
