"""Shared by the tests of the publisher: artifacts as trainers write them, and the command as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainwright_runtime.sealed import write_sealed
from trainwright_runtime.serving.record import digest_of

PUBLISHER = Path(sys.executable).with_name("trainwright-publisher")
MODELS = {
    "torch": {"model.pt": b"weights", "model.pt2": b"an exported program" * 1000},
    "tensorflow": {
        "saved_model/saved_model.pb": b"graph" * 100,
        "saved_model/variables/variables.index": b"i",
        "model.keras": b"k",
    },
    "sklearn": {"model.skops": b"a pipeline" * 100, "model.onnx": b"another"},
    "jax": {"model.msgpack": b"parameters", "model.stablehlo": b"a program"},
}
"""Files that the publisher copies and never opens: what is in them doesn't matter to it."""

Answer = tuple[int, dict[str, Any]]


def make_artifact(folder: Path, framework: str = "torch", **more: Any) -> Path:
    """An artifact with two samples; `more`: facts of the manifest, in place of those that it has otherwise."""
    samples = {"inputs": {"numbers": [[1.0], [None]]}, "outputs": {"logits": [[0.1, 0.9], [0.2, 0.8]]}}
    files = {**MODELS[framework], "samples.json": json.dumps(samples).encode(), "report.html": b"<html>"}
    facts = {
        "framework": framework,
        "recipe": "tabular",
        "job": "tumours",
        "uid": "uid-1",
        "step": 450,
        "time": 1700000000.0,
        "signature": {
            "inputs": [{"name": "numbers", "dtype": "float32", "shape": [-1, 1]}],
            "outputs": [{"name": "logits", "dtype": "float32", "shape": [-1, 2]}],
            "classes": ["benign", "malignant"],
        },
        "metrics": {"accuracy": 0.97},
        "data": {"sha256": "d" * 64, "test": "e" * 64},
        **more,
    }
    write_sealed(folder, {name: _writer(content) for name, content in files.items()}, facts)
    return folder


def _writer(content: bytes) -> Callable[[Any], Any]:
    return lambda stream: stream.write(content)


def digest(artifact: Path) -> str:
    return digest_of((artifact / "manifest.json").read_bytes())


def run(*words: object, **variables: str) -> Answer:
    """The command's exit code and its last words, from the termination log; the same stand on stdout."""
    log = Path(variables.setdefault("TRAINWRIGHT_TERMINATION_LOG", os.devnull))
    done = subprocess.run(
        [PUBLISHER, *map(str, words)], capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **variables}
    )
    assert done.stdout, done.stderr
    if log.is_file():
        assert log.read_text() == done.stdout.strip()
    return done.returncode, json.loads(done.stdout)


def publish(artifact: Path | str, models: Path, *, server: str = "torchserve", version: int = 1, wanted: str = "") -> Answer:
    return run(
        *("publish", "--source", artifact, "--server", server, "--digest", wanted or digest(Path(artifact))),
        *("--model", "tumours", "--version", version, "--models", models),
    )


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """One of torch's."""
    return make_artifact(tmp_path / "artifact")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """An empty volume."""
    (tmp_path / "models").mkdir()
    return tmp_path / "models"
