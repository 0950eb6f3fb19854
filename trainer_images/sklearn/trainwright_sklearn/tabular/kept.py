"""Finished units on disk, so that a killed gang does none of them twice.

One file an attempt, rewritten whole and put in place by a rename: an attempt that is over, on a node that has lost its network,
can't spoil the file of the one that followed it, and a copier (object storage) never sees half of one. The folder is named after
what the scores depend on, so another configuration, or other data, starts anew.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any

from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.exits import Exit, leave
from trainwright_runtime.progress import Reporter

WRITE_SECONDS = 1.0
WRITE_SECONDS_REMOTE = 10.0
"""Files go to object storage when they have been still for some seconds (`mirror.py`)."""


class KeptUnits:
    """The finished units of one search. Without a checkpoint directory nothing is kept."""

    def __init__(self, environment: RankEnvironment, key: str, reporter: Reporter) -> None:
        self._environment = environment
        self._reporter = reporter
        policy = environment.checkpoint
        self._folder = policy.directory / f"search-{key}" if policy.directory is not None else None
        self._every = WRITE_SECONDS_REMOTE if environment.workspace_uri else WRITE_SECONDS
        self._written = 0
        self._wrote = 0.0

    def read(self) -> dict[int, Any]:
        """What earlier attempts finished. Ends the process with code 65 when a file is damaged."""
        never = self._environment.checkpoint.resume == "Never"
        if self._folder is None or (never and self._environment.attempt == 1):
            return {}
        found: dict[int, Any] = {}
        for path in sorted(self._folder.glob("attempt-*.json")):
            try:
                content = json.loads(path.read_text())
                units = {int(unit): result for unit, result in content["units"].items()}
                is_foreign = content["uid"] != self._environment.uid
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                leave(Exit.NO_CHECKPOINT, f"{path} is damaged ({error}); delete it to do its units again")
            if not (never and is_foreign):
                found |= units
        if found:
            self._reporter.report(resumed_from=len(found))
            self._reporter.checkpoint_found(step=len(found), path=self._folder, written=time.time())
        self._written = len(found)
        return found

    def write(self, units: Mapping[int, Any], *, at_once: bool = False) -> None:
        """Keep them, if there are more than before and the last time was long enough ago, or `at_once`."""
        now = time.monotonic()
        if self._folder is None or len(units) <= self._written or not (at_once or now - self._wrote >= self._every):
            return
        began = time.perf_counter()
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"attempt-{self._environment.attempt}.json"
        aside = path.with_name(f".{path.name}.tmp")
        content = json.dumps({"uid": self._environment.uid, "units": dict(units)}).encode()
        with aside.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        aside.rename(path)
        self._written, self._wrote = len(units), now
        seconds = time.perf_counter() - began
        self._reporter.checkpoint_written(step=len(units), path=self._folder, write_seconds=seconds, size=len(content))
