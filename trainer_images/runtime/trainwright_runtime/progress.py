"""How a rank says how far it is, without slowing a step.

`report` only stores numbers; a background thread writes them, at most twice a second, to a file that the launcher of this pod
reads when somebody asks (`launch/server.py`). The file is replaced by a rename, so a reader never sees half of one, and a rank
that is killed leaves its last word behind. Outside of a launcher there is no such file, and reporting costs nothing more.
"""

from __future__ import annotations

import atexit
import bisect
import collections
import contextlib
import faulthandler
import json
import math
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.exits import say
from trainwright_runtime.startup import STARTUP, Startup, sentence

FLUSH_SECONDS = 0.5
DUMP_SIGNAL = signal.SIGUSR2
"""Has a rank that reports write where each of its threads is; from C, so that it does even where Python waits for ever."""
RATE_WINDOW = 20
"""Flushes over which speed is averaged: ten seconds."""

STEP_SECONDS_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Reporter:
    """Collects what one rank reports, and keeps the status file at `path` close to it."""

    def __init__(self, *, rank: int, path: Path | None, startup: Startup | None = None) -> None:
        self._path = path
        self._startup = startup
        self._lock = threading.Lock()
        self._status: dict[str, Any] = {"rank": rank}
        self._metrics: dict[str, float] = {}
        self._saves = {"written": 0, "failed": 0, "blockedSeconds": 0.0, "writeSeconds": 0.0, "bytes": 0}
        self._counts = [0] * (len(STEP_SECONDS_BOUNDS) + 1)
        self._seconds = 0.0
        self._step: int | None = None
        self._steps = 0
        self._samples = 0
        self._waited = 0.0
        self._not_finite = 0
        self._oom_retries = 0
        self._marked = time.perf_counter()
        self._heartbeat = 0.0
        self._is_silent = False
        self._speed: collections.deque[tuple[float, int, int]] = collections.deque(maxlen=RATE_WINDOW)
        self._changed = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def report(
        self,
        *,
        step: int | None = None,
        total_steps: int | None = None,
        epoch: int | None = None,
        samples: int = 0,
        waited: float = 0.0,
        own: float | None = None,
        metrics: Mapping[str, float] | None = None,
        main_metric: str | None = None,
        resumed_from: int | None = None,
    ) -> None:
        """Note what is known now; what is left out stays as it was.

        `step` counts from the start of the training, `samples` are those trained since the last report, by all ranks together,
        and `waited` the seconds since then in which this rank had to wait for data. `own` is what it needed of a recent step for
        itself, in seconds, without waiting for other ranks. The time of a step is that since the previous report of anything, so
        one after an evaluation keeps the evaluation out of it; a report of nothing is a sign of life.
        """
        now = time.perf_counter()
        with self._lock:
            if step is not None:
                taken = step - self._step if self._step is not None else 1
                if taken > 0:
                    each = (now - self._marked) / taken
                    self._took([self._marked + each * place for place in range(1, taken)] + [now])
                self._step = step
            if step is not None or metrics is not None or total_steps is not None or resumed_from is not None:
                self._marked = now
            self._note(samples, waited, metrics, totalSteps=total_steps, epoch=epoch, mainMetric=main_metric, ownStepSeconds=own)
            if resumed_from is not None:
                self._status["resumedFrom"] = self._step = resumed_from
        self._wake()

    def took(
        self,
        marks: Sequence[float],
        *,
        step: int,
        epoch: int,
        samples: int,
        waited: float,
        own: float | None,
        straggler: tuple[int, float] | None,
        metrics: Mapping[str, float],
    ) -> None:
        """Note several steps at once, each by when it ended (`time.perf_counter`); `step` is the last. See `report`.

        `straggler`: the rank that slows all others down, and how many times as long it takes as they do.
        """
        with self._lock:
            self._took(marks)
            self._step = step
            self._note(samples, waited, metrics, epoch=epoch, ownStepSeconds=own)
            self._status["straggler"] = {"rank": straggler[0], "ratio": round(straggler[1], 2)} if straggler else None
        self._wake()

    def oom_retried(self) -> None:
        """Note that memory ran out in a step, and that it is taken again with less at a time."""
        with self._lock:
            self._oom_retries += 1
        self._wake()

    def expect_silence(self) -> None:
        """What follows may take long and reports nothing, such as writing a model: no news is no sign of hanging until a step."""
        with self._lock:
            self._is_silent = True
        self._wake()

    def checkpoint_written(self, *, step: int, path: Path, write_seconds: float, size: int) -> None:
        """Note a checkpoint that is complete."""
        with self._lock:
            self._status["checkpoint"] = {"step": step, "time": time.time(), "path": str(path)}
            self._saves["written"] += 1
            self._saves["writeSeconds"] += write_seconds
            self._saves["bytes"] += size
        self._wake()

    def checkpoint_found(self, *, step: int, path: Path, written: float) -> None:
        """Note the checkpoint that this process starts from."""
        with self._lock:
            self._status["checkpoint"] = {"step": step, "time": written, "path": str(path)}
        self._wake()

    def checkpoint_failed(self) -> None:
        """Note a checkpoint that could not be written."""
        with self._lock:
            self._saves["failed"] += 1
        self._wake()

    def checkpoint_blocked(self, seconds: float) -> None:
        """Note time that training stood still for a checkpoint."""
        with self._lock:
            self._saves["blockedSeconds"] += seconds
        self._wake()

    def status(self) -> dict[str, Any]:
        """What has been reported, in the shape that the launcher serves."""
        with self._lock:
            status = {
                **self._status,
                "heartbeat": self._heartbeat,
                "alive": None if self._is_silent else self._heartbeat,
                "steps": self._steps,
                "samples": self._samples,
                "metrics": {name: value for name, value in self._metrics.items() if math.isfinite(value)},
                "saves": dict(self._saves),
                "stepSeconds": {"bounds": STEP_SECONDS_BOUNDS, "counts": list(self._counts), "sum": self._seconds},
                "dataWaitSeconds": self._waited,
                "computeSeconds": max(0.0, self._seconds - self._waited - self._saves["blockedSeconds"]),
                "lossesNotFinite": self._not_finite,
                "oomRetries": self._oom_retries,
            }
            if self._step is not None:
                status["step"] = self._step
            self._speed.append((self._marked, self._steps, self._samples))
            (first_time, first_steps, first_samples), (last_time, last_steps, last_samples) = self._speed[0], self._speed[-1]
        if (elapsed := last_time - first_time) > 0 and last_steps > first_steps:
            status["samplesPerSecond"] = (last_samples - first_samples) / elapsed
            if "totalSteps" in status:
                left = max(0, status["totalSteps"] - status.get("step", 0))
                status["etaSeconds"] = left * elapsed / (last_steps - first_steps)
        return status

    def flush(self) -> None:
        """Write the status file now."""
        if self._path is None:
            return
        aside = self._path.with_name(f".{self._path.name}.tmp")
        # Progress is worth less than training: a status directory that has gone must not end a rank.
        with contextlib.suppress(OSError):
            aside.write_text(json.dumps(self.status()))
            os.replace(aside, self._path)

    def close(self) -> None:
        """Write the last word and end the background thread."""
        self._stopped.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.flush()

    def _took(self, marks: Sequence[float]) -> None:
        self._is_silent = False
        for mark in marks:
            # Something else may have been reported since the first of them.
            seconds = max(0.0, mark - self._marked)
            self._counts[bisect.bisect_left(STEP_SECONDS_BOUNDS, seconds)] += 1
            self._seconds += seconds
            self._marked = max(mark, self._marked)
        self._steps += len(marks)
        if self._startup is not None:
            self._started(self._startup)

    def _note(self, samples: int, waited: float, metrics: Mapping[str, float] | None, **status: object) -> None:
        self._samples += samples
        self._waited += waited
        self._heartbeat = time.time()
        self._status.update((key, value) for key, value in status.items() if value is not None)
        if metrics:
            self._metrics.update((name, float(value)) for name, value in metrics.items())
            self._not_finite += not math.isfinite(metrics.get("loss", 0.0))

    def _started(self, startup: Startup) -> None:
        self._startup = None
        if (parts := startup.end()) is None:
            return
        self._status["startup"] = {part: round(seconds, 3) for part, seconds in parts.items()}
        if self._path is not None and self._status["rank"] == 0:
            say(sentence(parts))

    def _wake(self) -> None:
        if self._path is None or self._changed.is_set():
            return
        self._changed.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._flush_for_ever, name="trainwright-progress", daemon=True)
            self._thread.start()
            atexit.register(self.close)

    def _flush_for_ever(self) -> None:
        while not self._stopped.is_set():
            self._changed.wait()
            self._changed.clear()
            self.flush()
            self._stopped.wait(FLUSH_SECONDS)


_reporter: Reporter | None = None
_reporter_lock = threading.Lock()


def reporter() -> Reporter:
    """This process's reporter, made from the environment when first asked for."""
    global _reporter  # noqa: PLW0603 - one process is one rank
    if _reporter is None:
        with _reporter_lock:
            if _reporter is None:
                environment = RankEnvironment.read()
                directory = environment.status_dir
                path = directory / f"rank-{environment.rank}.json" if directory is not None else None
                if path is not None:
                    faulthandler.register(DUMP_SIGNAL, file=2)
                _reporter = Reporter(rank=environment.rank, path=path, startup=STARTUP)
    return _reporter


def report(
    *,
    step: int | None = None,
    total_steps: int | None = None,
    epoch: int | None = None,
    samples: int = 0,
    metrics: Mapping[str, float] | None = None,
    main_metric: str | None = None,
) -> None:
    """Say how far this rank is; see `Reporter.report`. Cheap enough for every step, and without anything a sign of life."""
    reporter().report(step=step, total_steps=total_steps, epoch=epoch, samples=samples, metrics=metrics, main_metric=main_metric)
