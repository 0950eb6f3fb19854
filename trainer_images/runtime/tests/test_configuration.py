"""A configuration is a typed object, or a message that says key, value and what would be accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from trainwright_runtime.config import Config, InvalidConfig, read_config


class Optimizer(Config):
    rate: float = Field(0.1, gt=0)
    momentum: float = 0.9


class Example(Config):
    epochs: int = Field(3, ge=1)
    kind: Literal["adam", "sgd"] = "adam"
    optimizer: Optimizer | None = None


def read(tmp_path: Path, text: str) -> Example:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return read_config(path, Example)


def test_a_mapping_becomes_the_typed_object(tmp_path: Path) -> None:
    assert read(tmp_path, "epochs: 5\noptimizer: {rate: 1e-3}") == Example(epochs=5, optimizer=Optimizer(rate=0.001))


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}"], ids=["empty", "only a comment", "an empty mapping"])
def test_what_is_left_out_has_its_default(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == Example()


def test_without_a_file_there_are_the_defaults() -> None:
    assert read_config(None, Example) == Example()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 5", "unknown key 'epoch' (value 5); did you mean 'epochs'? accepted: epochs, kind, optimizer"),
        ("zebra: 1", "unknown key 'zebra' (value 1); accepted: epochs, kind, optimizer"),
        ("optimizer: {rat: 1}", "unknown key 'optimizer.rat' (value 1); did you mean 'rate'? accepted: momentum, rate"),
        ("epochs: 0", "key 'epochs' has the value 0: Input should be greater than or equal to 1"),
        ("kind: lion", "key 'kind' has the value 'lion': Input should be 'adam' or 'sgd'"),
        ("epochs: 1\nepochs: 2", "key 'epochs' is given twice (line 2)"),
        ("- epochs", "the configuration must be a mapping of keys to values, not list"),
        ("optimizer: {rate: .nan}", "key 'optimizer.rate' has the value nan: Input should be a finite number"),
    ],
    ids=["near miss", "unknown", "unknown inside", "out of range", "not one of the words", "twice", "a list", "not a number"],
)
def test_what_is_refused_and_how_it_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        read(tmp_path, text)
    assert message in str(refused.value)


@pytest.mark.parametrize(("text", "message"), [("a: [", "is not YAML"), (None, "can't be read")], ids=["broken YAML", "no file"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidConfig, match=message) as refused:
        read_config(path, Example)
    assert str(path) in str(refused.value)
