"""One training loop's checkpoints, resume, stop and progress: the part that is the same in every framework.

The loop says when a step is done; everything that follows from it is decided here. State leaves the training in one short copy,
and reaches the disk in a background thread of rank 0. What that state is, each framework's own run says (`torch/run.py`).
"""

from __future__ import annotations

import math
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

from trainwright_runtime.checkpoint import Checkpoint, CheckpointStore, NoUsableCheckpoint, Superseded
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.events import Events
from trainwright_runtime.exits import Exit, leave, say
from trainwright_runtime.gang import Gang, Own
from trainwright_runtime.progress import reporter
from trainwright_runtime.sealed import Writer
from trainwright_runtime.startup import FIRST_STEP, RENDEZVOUS, RESUME, STARTUP

T = TypeVar("T")

TELL_SECONDS = 0.5
"""How often steps are reported, many at once, and a loss is read: that waits for the GPU that has it."""

MAX_FAILED_SAVES = 3
"""Failures in a row after which training on, without a way back, is worse than stopping."""

MAX_NOT_FINITE = 3
"""Readings of the loss in a row that are NaN or infinite, after which nothing will come of it any more. One alone may be a step
that mixed precision passes over.
"""


class NotANumber(ValueError):
    """Weights that are to be saved hold NaN: whoever went on from them would train nothing."""


class BaseRun(ABC):
    """A training loop that can be stopped at any step and goes on from there.

    Every rank makes one, when the gang is together. `state` is a dict of the caller's own, saved with the model and filled in by
    `resume`. Attributes to read: `steps` (optimizer steps taken), `epoch`, and `position` (samples of this epoch that the gang
    has trained on).
    """

    framework: str

    def __init__(
        self, gang: Gang, *, state: dict[str, Any] | None = None, total_steps: int | None = None, main_metric: str | None = None
    ) -> None:
        STARTUP.was_set_up()
        self.environment = RankEnvironment.read()
        self.steps = 0
        self.epoch = 0
        self.position = 0
        self.state: dict[str, Any] = {} if state is None else state
        self._gang = gang
        self._reporter = reporter()
        self._reporter.report(total_steps=total_steps, main_metric=main_metric)
        workspace = self.environment.workspace
        self._events = Events(workspace / "logs" / "tensorboard" if workspace is not None and gang.rank == 0 else None)
        self._policy = self.environment.checkpoint
        self._store = self._open_store()
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trainwright-checkpoint")
        self._in_flight: Future[Checkpoint] | None = None
        self._failed_saves = 0
        self._not_finite = 0
        self._saved_step: int | None = None
        self._saved_at = time.perf_counter()
        self._taken = 0
        self._waited = 0.0
        self._noted: dict[str, float] = {}
        self._marks: list[float] = []
        self._untold = 0
        self._told_at = -math.inf
        self._stop_asked = threading.Event()
        self._handler_before = signal.signal(signal.SIGTERM, lambda _signal, _frame: self._stop_asked.set())

    # --- what a framework says for itself -----------------------------------------------------------------------------

    @property
    @abstractmethod
    def framework_version(self) -> str:
        """Version of the framework's library, for manifests."""

    @abstractmethod
    def _copies(self) -> Mapping[str, Writer] | None:
        """The state at this step, by the files it is to be written to; None on all ranks but 0. Every rank is here.

        Training goes on while it is written, so the writers must hold copies. What was written before is on the disk by now, so
        memory of an earlier copy may be used again. A writer raises `NotANumber` for weights that hold NaN.
        """

    @abstractmethod
    def _load(self, path: Path) -> Mapping[str, Any]:
        """Take the state of the checkpoint at `path`; returns the facts that were saved with it.

        Raises RuntimeError, ValueError, KeyError or TypeError when it doesn't fit this training.
        """

    def _loss_of(self, loss: Any) -> float:
        """A loss as the loop has it, as a number."""
        return float(loss)

    def _learning_rate(self) -> float | None:
        """The learning rate of this step, where the framework can tell."""
        return None

    def _own_seconds(self) -> float | None:
        """Time of a recent step that this rank computed in, without waiting for others; None where the framework can't tell."""
        return None

    # --- what a loop calls --------------------------------------------------------------------------------------------

    def resume(self) -> int:
        """Load the newest usable checkpoint, if there is one; returns the step it was taken at, 0 without one.

        Ends the process with code 65 when every checkpoint is damaged, or belongs to another model.
        """
        with STARTUP.part(RENDEZVOUS):
            name, fault = self._gang.from_main(self._find() if self._gang.rank == 0 else None)
        if fault is not None:
            leave(Exit.NO_CHECKPOINT, fault)
        if name is None or self._policy.directory is None:
            return 0
        path = self._policy.directory / name
        try:
            with STARTUP.part(RESUME):
                facts = self._load(path)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            leave(Exit.NO_CHECKPOINT, f"checkpoint {name} does not fit this training: {error}")
        self.steps, self.epoch, self.position = facts["step"], facts["epoch"], facts["position"]
        self._saved_step = self.steps
        self._reporter.report(resumed_from=self.steps, epoch=self.epoch)
        self._events.go_on_from(self.steps + 1)
        self._reporter.checkpoint_found(step=self.steps, path=path, written=facts["time"])
        if self._gang.rank == 0:
            say(f"resumed from {name}: epoch {self.epoch}, {self.position} samples into it")
        return self.steps

    def epochs(self, count: int) -> Iterator[int]:
        """The epochs that are still to train, the one that was interrupted first."""
        STARTUP.begins(FIRST_STEP)
        while self.epoch < count:
            self._epoch_begins()
            yield self.epoch
            self.epoch += 1
            self.position = 0

    def step(self, *, loss: Any = None, samples: int | None = None) -> None:
        """An optimizer step is done. Saves when a checkpoint is due; on SIGTERM saves, and ends the process with code 143.

        `samples` is what the gang trained on in this step.
        """
        self.steps += 1
        taken = self._taken if samples is None else samples
        self._taken = 0
        self.position += taken
        self._untold += taken
        now = time.perf_counter()
        self._marks.append(now)
        is_due = now - self._told_at >= TELL_SECONDS
        if is_due or self._noted:
            self._tell(self._readings(loss) if is_due else {})
        stop, save = self._gang.meet(stop=self._stop_asked.is_set(), save=self._is_save_due_by_time(now), own=self._own_part)
        if stop:
            self._stop()
        if save or (self._policy.every_steps and self.steps % self._policy.every_steps == 0):
            self.save()

    def data(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches; the time until each comes is counted as waiting for data."""
        iterator = iter(batches)
        while True:
            began = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waited += time.perf_counter() - began
            yield batch

    def oom_retried(self) -> None:
        """Memory ran out in this step, and it is taken again with smaller micro-batches: count it."""
        self._reporter.oom_retried()

    def note(self, **metrics: float) -> None:
        """Metrics of the step that is being taken, such as `loss`: reported with it."""
        self._noted |= metrics

    def log(self, **metrics: float) -> None:
        """Report metrics by name, such as `val_accuracy`: what was measured between two steps, which is no part of their time."""
        self._tell()
        self._reporter.report(metrics=metrics)
        self._events.write(self.steps, metrics)

    def save(self) -> None:
        """Take a checkpoint now. Every rank must call it; it returns when the state is copied, before it is written."""
        if self._store is None or self._saved_step == self.steps:
            return
        began = self._saved_at = time.perf_counter()
        self._saved_step = self.steps
        self._settle()
        writers = self._copies()
        if writers is None:
            return
        self._in_flight = self._writer.submit(self._write, self._store, self.steps, writers, self._facts())
        self._reporter.checkpoint_blocked(time.perf_counter() - began)

    def close(self) -> None:
        """The training is over: take the last checkpoint, and wait until it is written and every rank is here.

        From here on SIGTERM does again what it did before: there is nothing left to save.
        """
        self.save()
        self._settle(must_succeed=True)
        self._writer.shutdown()
        self._events.close()
        self._tell()
        self._reporter.expect_silence()
        self._reporter.flush()
        stop = self._gang.any(self._stop_asked.is_set())
        signal.signal(signal.SIGTERM, self._handler_before)
        if stop:
            self._leave()

    # --- the rest -----------------------------------------------------------------------------------------------------

    def _tell(self, readings: Mapping[str, float] = MappingProxyType({})) -> None:
        """Report the steps that were taken since the last time. A step itself costs no more than to note its time."""
        if not self._marks:
            return
        metrics = {**readings, **self._noted}
        if metrics:
            self._events.write(self.steps, metrics)
        own = self._own_part()
        self._reporter.took(
            self._marks,
            step=self.steps,
            epoch=self.epoch,
            samples=self._untold,
            waited=self._waited,
            own=None if own is None else sum(own),
            straggler=self._gang.pace.straggler,
            metrics=metrics,
        )
        self._told_at = self._marks[-1]
        self._marks, self._noted, self._untold, self._waited = [], {}, 0, 0.0
        if "loss" in metrics:
            self._watch(metrics["loss"])

    def _watch(self, loss: float) -> None:
        """End the training when its loss has gone for good."""
        self._not_finite = 0 if math.isfinite(loss) else self._not_finite + 1
        if self._not_finite >= MAX_NOT_FINITE:
            self._diverged(f"the loss is {loss}, and was so {self._not_finite} readings in a row")

    def _diverged(self, what: str) -> NoReturn:
        rate = self._learning_rate()
        at = f" with learning rate {rate:g}" if rate else ""
        self._reporter.close()
        self._events.close()
        leave(
            Exit.INVALID_CONFIG,
            f"{what}, after step {self.steps}{at}: the training has diverged. Try a lower learning rate, or clip the gradients; "
            "checkpoints of before are intact",
        )

    def _own_part(self) -> Own | None:
        if (computed := self._own_seconds()) is None:
            return None
        return computed, self._waited / len(self._marks) if self._marks else 0.0

    def _readings(self, loss: Any) -> dict[str, float]:
        readings = {} if loss is None else {"loss": self._loss_of(loss)}
        if (rate := self._learning_rate()) is not None:
            readings["learning_rate"] = rate
        return readings

    def _epoch_begins(self) -> None:  # noqa: B027 - most have nothing to do then
        """Called before each epoch's first step, or its first after a resume."""

    def _open_store(self) -> CheckpointStore | None:
        if self._policy.directory is None:
            return None
        # `Never` leaves out what this job didn't write: so its later attempts still resume from their own.
        only_uid = self.environment.uid if self._policy.resume == "Never" else None
        return CheckpointStore(self._policy.directory, keep=self._policy.keep, only_uid=only_uid)

    def _find(self) -> tuple[str | None, str | None]:
        """Name of the checkpoint to resume from, and what is wrong when there can't be one."""
        if self._store is None:
            return None, None
        self._store.prepare()
        if self._policy.resume == "Never" and self.environment.attempt == 1:
            return None, None
        try:
            checkpoint = self._store.newest()
        except NoUsableCheckpoint as error:
            return None, str(error)
        return (checkpoint.path.name if checkpoint is not None else None), None

    def _facts(self) -> dict[str, Any]:
        """What a manifest says of the training at this step."""
        return {
            "framework": self.framework,
            "frameworkVersion": self.framework_version,
            "job": self.environment.job,
            "uid": self.environment.uid,
            "attempt": self.environment.attempt,
            "epoch": self.epoch,
            "position": self.position,
            "worldSize": self._gang.size,
        }

    def _facts_now(self) -> dict[str, Any]:
        """The same for the state itself, which must be told its step and time without its manifest."""
        return {"step": self.steps, "time": time.time(), **self._facts()}

    def _write(self, store: CheckpointStore, step: int, writers: Mapping[str, Writer], facts: Mapping[str, Any]) -> Checkpoint:
        began = time.perf_counter()
        try:
            checkpoint = store.write(step, writers, facts)
        except Exception as error:
            say(f"checkpoint step-{step} could not be written: {error}; those before it are intact")
            self._reporter.checkpoint_failed()
            raise
        seconds = time.perf_counter() - began
        self._reporter.checkpoint_written(step=step, path=checkpoint.path, write_seconds=seconds, size=checkpoint.size)
        return checkpoint

    def _settle(self, *, must_succeed: bool = False) -> None:
        """Wait for the write in flight, and face its failure."""
        if self._in_flight is None:
            return
        try:
            self._in_flight.result()
            self._failed_saves = 0
        except Superseded:
            raise
        except NotANumber as error:
            self._diverged(str(error))
        except Exception:
            self._failed_saves += 1
            if must_succeed or self._failed_saves >= MAX_FAILED_SAVES:
                raise
        finally:
            self._in_flight = None

    def _is_save_due_by_time(self, now: float) -> bool:
        if self._policy.every_seconds is None or now - self._saved_at < self._policy.every_seconds:
            return False
        return self._in_flight is None or self._in_flight.done()

    def _stop(self) -> NoReturn:
        self.save()
        self._settle(must_succeed=True)
        self._leave()

    def _leave(self) -> NoReturn:
        self._tell()
        self._reporter.close()
        self._events.close()
        self._gang.disband()
        kept = "its checkpoint is written" if self._store is not None else "there is no checkpoint directory to save to"
        leave(Exit.TERMINATED, f"asked to stop: left after step {self.steps}, {kept}")
