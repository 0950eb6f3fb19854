"""Where the time goes from the start of a rank's process to its first step: said once in its log, and by the worker's port.

All of it is counted, part after part, so a slow start is explained without a profiler: `import`, `data`, `model`, `rendezvous`
(waiting for the other ranks), `resume`, `first step`. In code that isn't a recipe's, what comes before its `Run` is `set-up`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

WORTH_A_WORD = 0.05
SET_UP, IMPORT, DATA, MODEL = "set-up", "import", "data", "model"
RENDEZVOUS, RESUME, FIRST_STEP = "rendezvous", "resume", "first step"


def seconds_since_start() -> float:
    """How long this process has been there, by the kernel's account; without one, by the CPU time it has used."""
    try:
        # The second field, the program's name, may have blanks and brackets in it.
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return time.process_time()


class Startup:
    """The parts of one start, one after the other. Once it has ended, nothing here does anything."""

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter, before: float | None = None) -> None:
        self._clock = clock
        self._marked = clock() - (seconds_since_start() if before is None else before)
        self._now: str | None = None
        self._seconds: dict[str, float] = {}
        self._has_ended = False

    def begins(self, part: str) -> None:
        """From here on it is this part. What was before the first that is named counts for it too."""
        self._count(part)
        self._now = part

    def was_set_up(self) -> None:
        """If no part was named until now, all of that was code of the user's own."""
        if self._now is None:
            self.begins(SET_UP)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part of known beginning and end. Also a decorator."""
        self.was_set_up()
        before = self._now
        self.begins(name)
        try:
            yield
        finally:
            # Who has data, or has met the others, is done with imports.
            self.begins(MODEL if before is None or before == IMPORT else before)

    def end(self) -> dict[str, float] | None:
        """The first step is done: seconds by part, in their order. None when that was known before."""
        if self._has_ended:
            return None
        self._count(SET_UP)
        self._has_ended = True
        return self._seconds

    def _count(self, otherwise: str) -> None:
        if self._has_ended:
            return
        now, part = self._clock(), self._now or otherwise
        self._seconds[part] = self._seconds.get(part, 0.0) + now - self._marked
        self._marked = now


STARTUP = Startup()
"""This process's."""


def sentence(parts: Mapping[str, float]) -> str:
    """As a log says it; what took no time isn't worth a word."""
    named = ", ".join(f"{part} {seconds:.1f}" for part, seconds in parts.items() if seconds >= WORTH_A_WORD)
    return f"first step after {sum(parts.values()):.1f} s: {named}"
