"""A trained model as every framework leaves it: a sealed directory whose manifest says what the model is, what it takes, what it
was trained on, and how good it was. Whoever serves or watches it later reads only this.
"""

from __future__ import annotations

import dataclasses
import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.sealed import Writer, recover, write_sealed

SAMPLES = "samples.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tensor:
    """One input or output. `shape` has -1 for the batch; `dtype` is numpy's name, or `string`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    range: tuple[float, float] | None = None

    def facts(self) -> dict[str, Any]:
        """As the manifest has it."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """What there is to say of a model. `features`: histograms by input, as `tabular.profile.histogram` makes them; `predictions`:
    one of what the model answered on the test part, of which `data["test"]` is the sha256.

    `framework` is the framework's name in the API, and `package` the distribution whose version is the framework's, where that
    has another name; `libraries` are the distributions whose versions a loader may ask for. `classes`: in the order of the
    outputs.
    """

    framework: str
    recipe: str
    step: int
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    metrics: Mapping[str, float]
    data: Mapping[str, Any]
    package: str | None = None
    classes: Sequence[str] = ()
    features: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    predictions: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    libraries: Sequence[str] = ()
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def write(environment: RankEnvironment, model: Model, files: Mapping[str, Writer]) -> Path:
    """Write the artifact of this job, in place of one that may be there; returns its directory. Names may have folders in them.

    Raises OSError, and what the writers raise; what was there before stays then.
    """
    path = environment.artifact_dir or Path("artifacts")
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path.parent, path.name)
    signature = {
        "inputs": [one.facts() for one in model.inputs],
        "outputs": [one.facts() for one in model.outputs],
        "classes": list(model.classes),
    }
    facts = {
        "framework": model.framework,
        "frameworkVersion": metadata.version(model.package or model.framework),
        "libraries": {"python": platform.python_version(), **{name: metadata.version(name) for name in model.libraries}},
        "recipe": model.recipe,
        "job": environment.job,
        "namespace": environment.namespace,
        "uid": environment.uid,
        "attempt": environment.attempt,
        "time": time.time(),
        "step": model.step,
        "signature": signature,
        # JSON has no NaN; and who asks for a metric that isn't there is told so.
        "metrics": {name: value for name, value in model.metrics.items() if math.isfinite(value)},
        "data": dict(model.data),
        "features": dict(model.features),
        "predictions": dict(model.predictions),
        **model.more,
    }
    write_sealed(path, files, facts)
    return path


def samples(inputs: Mapping[str, Sequence[Any]], outputs: Mapping[str, Sequence[Any]]) -> dict[str, Writer]:
    """`samples.json`: some inputs and what the trainer's model answered, by name of tensor, so that a loader can be checked."""
    text = json.dumps({"inputs": dict(inputs), "outputs": dict(outputs)}, ensure_ascii=False, separators=(",", ":")).encode()
    return {SAMPLES: lambda stream: stream.write(text)}
