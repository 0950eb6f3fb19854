"""A trained model as files: its parameters, and a StableHLO program that needs neither our code nor Flax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import serialization
from jax import export

from trainwright_runtime.sealed import Writer

PLATFORMS = ("cpu", "cuda")


def model_files(predict: Callable[[jax.Array], jax.Array], parameters: Any, shape: tuple[int, int, int]) -> Mapping[str, Writer]:
    """The files of a model whose `predict` takes images of this shape (height, width, channels), any number at a time."""
    (batch,) = export.symbolic_shape("batch")
    example = jax.ShapeDtypeStruct((batch, *shape), jnp.float32)
    program = export.export(jax.jit(predict), platforms=PLATFORMS)(example).serialize()
    weights = serialization.to_bytes(parameters)
    return {
        "model.msgpack": lambda stream: stream.write(weights),
        "model.stablehlo": lambda stream: stream.write(program),
    }
