"""Something counted over the last so many seconds, in memory that doesn't grow with what is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
PARTS = 60


class Sliding(Generic[T]):
    """A window of PARTS parts, each with a count of its own; the oldest goes when a new one begins.

    So it reaches back between `seconds` and a sixtieth less.
    """

    def __init__(self, seconds: float, make: Callable[[], T]) -> None:
        self.seconds = seconds
        self._width = seconds / PARTS
        self._make = make
        self._parts: dict[int, T] = {}

    def at(self, time: float, now: float) -> T | None:
        """The count that this time belongs to; None for a time that is out of the window."""
        number, newest = int(time // self._width), int(now // self._width)
        self._forget(newest)
        if not newest - PARTS < number <= newest:
            return None
        return self._parts.setdefault(number, self._make())

    def within(self, now: float) -> Iterator[T]:
        """The counts of the window, in no order."""
        self._forget(int(now // self._width))
        return iter(self._parts.values())

    def _forget(self, newest: int) -> None:
        for number in [one for one in self._parts if one <= newest - PARTS]:
            del self._parts[number]
