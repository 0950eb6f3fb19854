"""What a checkpoint of a PyTorch training consists of: copies of tensors, and the state of the random number generators.

Everything is kept to plain containers, numbers and tensors, so that loading needs no unpickling of code (`weights_only`).
"""

from __future__ import annotations

import random
import sys
from typing import Any

import torch

PLAIN = (type(None), bool, int, float, str, bytes)
"""By type, not by isinstance: numpy's float64 is a float too, and needs numpy's code to be loaded."""


def unwrapped(model: Any) -> Any:
    """The user's own module, without what DistributedDataParallel and torch.compile put around it.

    A checkpoint then fits whether it is loaded by one process or by many.
    """
    while True:
        if isinstance(model, torch.nn.parallel.DistributedDataParallel):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod
        else:
            return model


class Staging:
    """Copies of nested tensors on the CPU, in memory that is kept from one checkpoint to the next.

    Training may go on while a copy is being written. Fresh memory would cost several times the copy itself: the C library gives
    large blocks back, and the system hands them out again page by page. What `copy` returned is good until its next call.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, ...], torch.Tensor] = {}
        self._used: dict[tuple[Any, ...], torch.Tensor] = {}

    def copy(self, content: Any) -> Any:
        """The same nesting, every tensor copied."""
        self._used = {}
        copied = self._copied(content, ())
        self._kept = self._used
        return copied

    def _copied(self, value: Any, place: tuple[Any, ...]) -> Any:
        if isinstance(value, torch.Tensor):
            return self._tensor(value.detach(), place)
        if isinstance(value, dict):
            return {key: self._copied(item, (*place, key)) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._copied(item, (*place, index)) for index, item in enumerate(value))
        return value

    def _tensor(self, tensor: torch.Tensor, place: tuple[Any, ...]) -> torch.Tensor:
        if tensor.layout is not torch.strided or tensor.is_quantized:
            return tensor.to("cpu", copy=True)
        kept = self._kept.get(place)
        if kept is None or kept.shape != tensor.shape or kept.dtype != tensor.dtype:
            kept = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
        kept.copy_(tensor)
        self._used[place] = kept
        return kept


def require_plain(value: Any, name: str) -> None:
    """Raise TypeError for what could be saved and then not be loaded again, which would be found out after the next crash."""
    if isinstance(value, dict):
        for key, item in value.items():
            require_plain(item, f"{name}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            require_plain(item, f"{name}[{index}]")
    elif type(value) not in PLAIN and not isinstance(value, torch.Tensor):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise TypeError(f"{name} is a {kind}: only plain values, lists, dicts and tensors can be kept in a checkpoint")


def generator_states() -> dict[str, Any]:
    """The state of every random number generator that this process has in use."""
    version, numbers, gauss = random.getstate()
    states: dict[str, Any] = {
        "python": [version, list(numbers), gauss],
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [],
    }
    if (numpy := sys.modules.get("numpy")) is not None:
        name, keys, position, has_gauss, cached = numpy.random.get_state()
        states["numpy"] = [str(name), torch.from_numpy(keys.astype("int64")), int(position), int(has_gauss), float(cached)]
    return states


def set_generator_states(states: dict[str, Any]) -> None:
    """Continue every generator from where `generator_states` saw it."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"][0])
    if "numpy" in states:
        import numpy as np  # noqa: PLC0415 - PyTorch runs without numpy

        name, keys, position, has_gauss, cached = states["numpy"]
        np.random.set_state((name, keys.numpy().astype("uint32"), position, has_gauss, cached))
