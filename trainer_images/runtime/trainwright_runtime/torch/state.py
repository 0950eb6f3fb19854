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


def cpu_copy(value: Any) -> Any:
    """The same nesting with every tensor copied to the CPU: training may go on while the copy is being written."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: cpu_copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(cpu_copy(item) for item in value)
    return value


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
