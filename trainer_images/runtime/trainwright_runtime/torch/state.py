"""What a checkpoint of a PyTorch training consists of: copies of tensors, and the state of the random number generators.

Everything is kept to plain containers, numbers and tensors, so that loading needs no unpickling of code (`weights_only`).
"""

from __future__ import annotations

import random
import sys
from typing import Any

import torch


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
