"""Conditions of our objects: what is said of one now, over what was said before."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import TypeVar

from trainwright.api.reasons import Reason
from trainwright.api.status import Condition
from trainwright.observe.times import rfc3339

Kind = TypeVar("Kind", bound=StrEnum)
One = TypeVar("One", bound=Condition)


def conditions_after(
    before: Iterable[One],
    sayings: Iterable[tuple[Kind, bool, Reason, str]],
    *,
    make: type[One],
    order: Iterable[Kind],
    generation: int,
    now: float,
) -> list[One]:
    """All conditions, in the order of their kinds; the time of one moves only when its status does."""
    conditions: dict[str, One] = {condition.type: condition for condition in before}
    for kind, true, reason, message in sayings:
        old = conditions.get(kind)
        word = "True" if true else "False"
        conditions[kind] = make.model_validate(
            {
                "type": kind,
                "status": word,
                "reason": reason.value,
                "message": message,
                "lastTransitionTime": old.last_transition_time if old and old.status == word else rfc3339(now),
                "observedGeneration": generation,
            }
        )
    return [conditions[kind] for kind in order if kind in conditions]
