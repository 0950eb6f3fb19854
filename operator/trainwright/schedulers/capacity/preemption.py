"""Who makes room for a gang of higher priority: those that lose least by it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Protocol, TypeVar

FEW = 8
"""Up to so many candidates every set of them is looked at."""


class Holder(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def unsaved(self) -> float: ...


One = TypeVar("One", bound=Holder)


def cheapest(candidates: Sequence[One], enough: Callable[[Sequence[One]], bool]) -> tuple[One, ...]:
    """The set of gangs whose end would make room with the least unsaved work, of equals the smallest; empty when none would.

    Of many candidates those with the least unsaved work are taken until there is room, and then whoever is not needed is let off,
    who would lose most first.
    """
    ordered = sorted(candidates, key=lambda one: (one.unsaved, one.name))
    if not ordered or not enough(ordered):
        return ()
    if len(ordered) <= FEW:
        sets = [some for size in range(1, len(ordered) + 1) for some in combinations(ordered, size)]
        sets.sort(key=lambda some: (sum(one.unsaved for one in some), len(some), [one.name for one in some]))
        return next(some for some in sets if enough(some))
    count = bisect_left(range(len(ordered)), True, key=lambda count: enough(ordered[:count]))
    chosen = ordered[:count]
    for one in reversed(ordered[:count]):
        fewer = [other for other in chosen if other is not one]
        if enough(fewer):
            chosen = fewer
    return tuple(chosen)
