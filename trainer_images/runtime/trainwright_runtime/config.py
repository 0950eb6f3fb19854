"""A recipe's configuration: a YAML mapping turned into a typed, frozen model, or refused in words a user can act on.

A key that is accepted and then ignored is the worst answer to a spelling mistake, so unknown and repeated keys are refused.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Hashable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from trainwright_runtime.environment import InvalidEnvironment, RankEnvironment
from trainwright_runtime.exits import Exit, leave
from trainwright_runtime.startup import IMPORT, STARTUP


class Config(BaseModel):
    """What a recipe's configuration derives from."""

    BUILTINS: ClassVar[tuple[str, ...]] = ()
    """Builtin data sets that the recipe trains on."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


C = TypeVar("C", bound=Config)


class InvalidConfig(ValueError):
    """The configuration can't be used as it stands; the message says key, value and what would be accepted."""


class _NoRepeats(yaml.SafeLoader):
    """YAML lets a later key replace an earlier one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise InvalidConfig(f"key {key!r} is given twice (line {key_node.start_mark.line + 1})")
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_config(path: Path | None, model: type[C]) -> C:
    """The configuration in the file at `path`, or the model's defaults when there is no file."""
    if path is None:
        return _validate({}, model)
    try:
        content = yaml.load(path.read_text(), Loader=_NoRepeats)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise InvalidConfig(f"configuration file {path} can't be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise InvalidConfig(f"configuration file {path} is not YAML: {error}") from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise InvalidConfig(f"the configuration must be a mapping of keys to values, not {type(content).__name__}")
    return _validate(content, model)


def start(model: type[C]) -> tuple[RankEnvironment, C]:
    """The environment and the configuration of this rank; ends the process with code 64 where either is refused.

    A recipe loads its framework after this.
    """
    STARTUP.begins(IMPORT)
    try:
        environment = RankEnvironment.read()
        return environment, read_config(environment.config, model)
    except (InvalidConfig, InvalidEnvironment) as error:
        leave(Exit.INVALID_CONFIG, str(error))


def _validate(content: dict[Any, Any], model: type[C]) -> C:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise InvalidConfig("; ".join(_sentence(details, model) for details in error.errors())) from None


def _sentence(details: Any, model: type[Config]) -> str:
    location = tuple(details["loc"])
    key = ".".join(str(part) for part in location)
    value = details["input"]
    if details["type"] == "extra_forbidden":
        accepted = sorted(_keys_at(model, location[:-1]))
        near = difflib.get_close_matches(str(location[-1]), accepted, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"unknown key {key!r} (value {value!r}); {hint}accepted: {', '.join(accepted)}"
    if details["type"] == "missing":
        return f"key {key!r} is missing"
    if not location:
        return str(details["msg"]).removeprefix("Value error, ")
    return f"key {key!r} has the value {value!r}: {details['msg'].removeprefix('Value error, ')}"


def _keys_at(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    for part in location:
        inner = _model_in(model.model_fields[part].annotation) if part in model.model_fields else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for choice in typing.get_args(annotation):
            if (found := _model_in(choice)) is not None:
                return found
    return None
