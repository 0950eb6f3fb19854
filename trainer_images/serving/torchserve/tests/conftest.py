"""Shared by the tests of the TorchServe image: real models, published by the publisher, in a real TorchServe."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from serving import Server, publish, write_artifact

COMMAND = "trainwright-torchserve"
FACTS = {
    "framework": "torch",
    "signature": {
        "inputs": [
            {"name": "numbers", "dtype": "float32", "shape": [-1, 3]},
            {"name": "words", "dtype": "int64", "shape": [-1, 1]},
            {"name": "none", "dtype": "int64", "shape": [-1, 0]},
        ],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": [-1, 2]}],
        "classes": ["benign", "malignant"],
    },
}


class Network(torch.nn.Module):
    """Fills what is missing; looks words up, and fails where there is no such word."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(5, 2)
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, numbers: torch.Tensor, words: torch.Tensor, none: torch.Tensor) -> torch.Tensor:
        filled = torch.where(torch.isnan(numbers), 0.5, numbers)
        looked_up: torch.Tensor = self.embedding(words).sum(1)
        return self.linear(filled) + looked_up + none.sum()


def exported(network: torch.nn.Module) -> bytes:
    batch = torch.export.Dim("batch")
    example = (torch.zeros(2, 3), torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.int64))
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(network.eval(), example, dynamic_shapes=({0: batch},) * 3), buffer)
    return buffer.getvalue()


def rows(count: int, start: int = 0) -> dict[str, list[Any]]:
    """Inputs, each row another."""
    numbers = [[float(row), row / 7, None if row % 3 == 0 else 1.5] for row in range(start, start + count)]
    return {"numbers": numbers, "words": [[row % 5] for row in range(start, start + count)], "none": [[] for _ in range(count)]}


def answers(inputs: dict[str, list[Any]]) -> list[list[float]]:
    """What the network answers in this process."""
    numbers = [[float("nan") if value is None else value for value in row] for row in inputs["numbers"]]
    with torch.no_grad():
        empty = torch.zeros(len(numbers), 0, dtype=torch.int64)
        found = Network().eval()(torch.tensor(numbers), torch.tensor(inputs["words"]), empty)
    return found.tolist()


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    inputs = rows(20)
    samples = {"inputs": inputs, "outputs": {"logits": answers(inputs)}}
    return write_artifact(tmp_path_factory.mktemp("made") / "artifact", {"model.pt2": exported(Network())}, FACTS, samples)


@pytest.fixture
def published(artifact: Path, tmp_path: Path) -> tuple[Path, str]:
    """The volume, and the sha256 of the record of version 1 on it."""
    return tmp_path / "models", publish(artifact, tmp_path / "models", server="torchserve")


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Starts servers; ends them."""
    servers: list[Server] = []

    def started(*arguments: Any, **keywords: Any) -> Server:
        servers.append(Server(COMMAND, *arguments, **keywords))
        return servers[-1]

    yield started
    for server in servers:
        server.end()


def load_handler() -> dict[str, Any]:
    """The handler as it lies in archives, as a module of this process: it needs nothing of TorchServe's."""
    from serving import IMAGES

    path = IMAGES / "serving/publisher/trainwright_publisher/torchserve_handler.py"
    module: dict[str, Any] = {"__name__": "trainwright_handler"}
    exec(compile(path.read_text(), str(path), "exec"), module)
    return module


def samples_of(models: Path) -> dict[str, Any]:
    return json.loads((models / "records/1/samples.json").read_text())
