"""What a failure's own words tell beyond its cause: what its author can do, and whether another attempt could end otherwise."""

from __future__ import annotations

import re

from trainwright.api.causes import Cause
from trainwright.api.job import TrainingJob
from trainwright.observe.failure import Failure

_SHAPES = re.compile(r"mat1 and mat2 shapes cannot be multiplied \(\d+x(\d+) and (\d+)x\d+\)")
"""torch's words: what reaches a Linear layer (rows × features), and the layer's weights (in_features × out_features)."""


def advice(job: TrainingJob, failure: Failure) -> str:
    """The end of the sentence that tells of the failure; empty where nothing is plain."""
    if failure.cause is Cause.OOM_KILLED and job.spec.resources.memory:
        return f"; resources.memory is {job.spec.resources.memory}: raise it, or make batches smaller"
    if shapes := _shapes(failure):
        found, expected = shapes
        rule = "a Linear layer's in_features must be the last dimension of what reaches it"
        return f"; {rule}, which is {found} here, and not {expected}"
    return ""


def would_repeat(failure: Failure) -> bool:
    """Whether it lies in the program's text, so that another attempt would end in the same way."""
    return _shapes(failure) is not None


def _shapes(failure: Failure) -> tuple[str, str] | None:
    found = _SHAPES.search(failure.message) if failure.cause is Cause.ERROR else None
    return (found[1], found[2]) if found else None
