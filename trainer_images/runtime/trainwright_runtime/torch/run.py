"""A torch training's state for `run.py`: weights, optimizer, schedule, scaler, and every rank's random numbers."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import IO, Any

import torch
from torch.nn.parallel import DistributedDataParallel

from trainwright_runtime.exits import say
from trainwright_runtime.gang import Gang
from trainwright_runtime.run import BaseRun, NotANumber
from trainwright_runtime.sealed import Writer
from trainwright_runtime.torch.gang import TorchGang
from trainwright_runtime.torch.state import Staging, generator_states, require_plain, set_generator_states, unwrapped

TIMED_STEPS = 20
"""DDP takes the time of one step in so many."""

_ADDED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""What torch can add up everywhere; numbers of eight bits and less are no weights in training."""


class Run(BaseRun):
    """A training loop that can be stopped at any step and goes on from there.

    Every rank makes one, after `init_process_group` where there is one (or with the `gang` of another library's making). `state`
    is a dict of plain values and tensors of the caller's own, saved with the model and filled in by `resume`. Attributes to read:
    `steps` (optimizer steps taken), `epoch`, and `position` (samples of this epoch that the gang has trained on).
    """

    framework = "torch"

    def __init__(
        self,
        *,
        model: Any,
        optimizer: Any,
        scheduler: Any = None,
        scaler: Any = None,
        state: dict[str, Any] | None = None,
        total_steps: int | None = None,
        main_metric: str | None = None,
        gang: Gang | None = None,
    ) -> None:
        super().__init__(gang or TorchGang(), state=state, total_steps=total_steps, main_metric=main_metric)
        self._model = unwrapped(model)
        self._parallel = model if isinstance(model, DistributedDataParallel) else None
        # Private names of torch's: where they are gone, nothing is said of stragglers.
        getattr(self._parallel, "_set_ddp_runtime_logging_sample_rate", lambda _every: None)(TIMED_STEPS)
        parts = {"optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
        self._parts = {name: part for name, part in parts.items() if part is not None}
        self._staging = Staging()
        # What is not learnt may be NaN by intention.
        self._learnt = {name for name, _ in self._model.named_parameters()}
        self._epoch_generators: dict[str, Any] | None = None

    @property
    def framework_version(self) -> str:
        return str(torch.__version__)

    def batches(self, loader: Any, *, samples: int | None = None) -> Iterator[Any]:
        """The batches of this epoch that are still to train; `samples` in one, over all ranks, if not the loader's batch size.

        What was trained before is drawn and passed over, with the generators as they were at the start of the epoch, so that
        a loader that shuffles or augments at random repeats itself exactly. A `step` counts what was given out since the last.
        """
        if samples is None:
            if getattr(loader, "batch_size", None) is None:
                raise ValueError("this loader has no batch_size: say with samples= how many, over all ranks, are in a batch")
            samples = loader.batch_size * self._gang.size
        done = self.position // samples
        generators = generator_states()
        if done and self._epoch_generators is not None:
            set_generator_states(self._epoch_generators)
        iterator = iter(loader)
        for _ in range(done):
            next(iterator, None)
        if done:
            set_generator_states(generators)
        for batch in self.data(iterator):
            self._taken += samples
            yield batch

    def _epoch_begins(self) -> None:
        if self.position == 0:
            self._epoch_generators = generator_states()

    def _own_seconds(self) -> float | None:
        if self._parallel is None:
            return None
        # Of the last step that DDP took the time of.
        timed: dict[str, float] = getattr(self._parallel, "_get_ddp_logging_data", dict)()
        passes = [timed.get("forward_compute_time", 0), timed.get("backward_compute_time", 0)]
        return sum(passes) / 1e9 if all(passes) else None

    def _learning_rate(self) -> float | None:
        return float(self._parts["optimizer"].param_groups[0]["lr"])

    def _loss_of(self, loss: Any) -> float:
        return float(loss.detach() if isinstance(loss, torch.Tensor) else loss)

    def _copies(self) -> Mapping[str, Writer] | None:
        generators = self._gang.gather({"now": generator_states(), "epoch": self._epoch_generators})
        if generators is None:
            return None
        files = {"model.pt": self._model.state_dict(), "training.pt": self._training_state()}
        files |= {f"rank-{rank}.pt": states for rank, states in enumerate(generators)}
        copies: dict[str, Any] = self._staging.copy(files)
        writers: dict[str, Writer] = {name: functools.partial(torch.save, content) for name, content in copies.items()}
        return writers | {"model.pt": functools.partial(_save, copies["model.pt"], self._learnt)}

    def _load(self, path: Path) -> Mapping[str, Any]:
        training = torch.load(path / "training.pt", map_location="cpu", weights_only=True)
        saved = set(training["parts"])
        if saved != set(self._parts):
            raise ValueError(f"it holds {', '.join(sorted(saved))}; this training has {', '.join(sorted(self._parts))}")
        self._model.load_state_dict(torch.load(path / "model.pt", map_location="cpu", weights_only=True))
        for name, part in self._parts.items():
            part.load_state_dict(training["parts"][name])
        self.state.clear()
        self.state.update(training["state"])
        facts: Mapping[str, Any] = training["facts"]
        generators = path / f"rank-{self._gang.rank}.pt"
        if generators.exists():
            states = torch.load(generators, map_location="cpu", weights_only=True)
            self._epoch_generators = states["epoch"]
            set_generator_states(states["now"])
        else:
            say(f"{path.name} was written by {facts['worldSize']} ranks: rank {self._gang.rank} starts its random numbers afresh")
        # A schedule that moves before the optimizer does is an error in a new process only: here the optimizer has moved.
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        return facts

    def _training_state(self) -> dict[str, Any]:
        require_plain(self.state, "state")
        return {
            "parts": {name: part.state_dict() for name, part in self._parts.items()},
            "state": self.state,
            "facts": self._facts_now(),
        }


def _save(weights: Mapping[str, Any], learnt: Set[str], stream: IO[bytes]) -> None:
    for name, weight in weights.items():
        # A sum is quickly had, and NaN if one of them is; it may be NaN of infinities, too.
        if name in learnt and weight.dtype in _ADDED and weight.sum().isnan() and weight.isnan().any():
            raise NotANumber(f"the weights {name} have become NaN")
    torch.save(weights, stream)
