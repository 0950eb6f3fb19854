"""Who am I: the one place that reads the contract's environment variables.

Every value has a default that makes sense for a program started by hand, so that a recipe also runs as a single process on a
laptop. A value that is there but wrong is refused: a rank with a guessed identity trains on the wrong data without a word.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

T = TypeVar("T")


class InvalidEnvironment(ValueError):
    """A variable of the contract has a value that it can't have."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSource:
    """One entry of `spec.data`: a directory, or a data set that ships with a library."""

    name: str
    path: Path | None = None
    builtin: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointPolicy:
    """When a checkpoint is due, how many are kept, and what a start may resume from."""

    directory: Path | None = None
    every_steps: int | None = None
    every_seconds: float | None = None
    keep: int = 3
    resume: Literal["Auto", "Never"] = "Auto"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankEnvironment:
    """One rank's place in the gang, and where it reads and writes."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1
    master_addr: str = "127.0.0.1"
    master_port: int = 29500
    job: str = "local"
    namespace: str = "default"
    uid: str = ""
    attempt: int = 1
    workers: int = 1
    worker_index: int = 0
    nproc: int = 1
    pod_ip: str = "127.0.0.1"
    metrics_port: int | None = None
    progress_deadline: int = 0
    workspace: Path | None = None
    workspace_uri: str | None = None
    artifact_dir: Path | None = None
    checkpoint: CheckpointPolicy = CheckpointPolicy()
    config: Path | None = None
    data: tuple[DataSource, ...] = ()
    status_dir: Path | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that writes what the gang makes together."""
        return self.rank == 0

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> RankEnvironment:
        """Read the contract; raises InvalidEnvironment with the variable's name and value."""
        read = _Reader(environ)
        found = cls(
            rank=read.integer("RANK", 0, least=0),
            local_rank=read.integer("LOCAL_RANK", 0, least=0),
            world_size=read.integer("WORLD_SIZE", 1),
            local_world_size=read.integer("LOCAL_WORLD_SIZE", 1),
            master_addr=environ.get("MASTER_ADDR") or "127.0.0.1",
            master_port=read.integer("MASTER_PORT", 29500),
            job=environ.get("TRAINWRIGHT_JOB") or "local",
            namespace=environ.get("TRAINWRIGHT_NAMESPACE") or "default",
            uid=environ.get("TRAINWRIGHT_UID", ""),
            attempt=read.integer("TRAINWRIGHT_ATTEMPT", 1),
            workers=read.integer("TRAINWRIGHT_WORKERS", 1),
            worker_index=read.integer("TRAINWRIGHT_WORKER_INDEX", 0, least=0),
            nproc=read.integer("TRAINWRIGHT_NPROC", 1),
            pod_ip=read.optional("TRAINWRIGHT_POD_IP", _address) or "127.0.0.1",
            metrics_port=read.optional("TRAINWRIGHT_METRICS_PORT", int),
            progress_deadline=read.integer("TRAINWRIGHT_PROGRESS_DEADLINE", 0, least=0),
            workspace=read.optional("TRAINWRIGHT_WORKSPACE", Path),
            workspace_uri=read.optional("TRAINWRIGHT_WORKSPACE_URI", str),
            artifact_dir=read.optional("TRAINWRIGHT_ARTIFACT_DIR", Path),
            checkpoint=CheckpointPolicy(
                directory=read.optional("TRAINWRIGHT_CHECKPOINT_DIR", Path),
                every_steps=read.optional("TRAINWRIGHT_CHECKPOINT_EVERY_STEPS", _positive_int),
                every_seconds=read.optional("TRAINWRIGHT_CHECKPOINT_EVERY_SECONDS", _positive_float),
                keep=read.integer("TRAINWRIGHT_CHECKPOINT_KEEP", 3),
                resume=cast(Literal["Auto", "Never"], read.one_of("TRAINWRIGHT_RESUME", "Auto", "Never")),
            ),
            config=read.optional("TRAINWRIGHT_CONFIG", Path),
            data=read.data("TRAINWRIGHT_DATA"),
            status_dir=read.optional("TRAINWRIGHT_STATUS_DIR", Path),
        )
        for name, value, limit_name, limit in (
            ("RANK", found.rank, "WORLD_SIZE", found.world_size),
            ("LOCAL_RANK", found.local_rank, "LOCAL_WORLD_SIZE", found.local_world_size),
            ("TRAINWRIGHT_WORKER_INDEX", found.worker_index, "TRAINWRIGHT_WORKERS", found.workers),
        ):
            if value >= limit:
                raise InvalidEnvironment(f"{name}={value} must be less than {limit_name}={limit}")
        return found


class _Reader:
    """Turns variables into values, and a bad one into a message that names it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def optional(self, name: str, parse: Callable[[str], T]) -> T | None:
        text = self._environ.get(name)
        if not text:
            return None
        try:
            return parse(text)
        except ValueError as error:
            raise InvalidEnvironment(f"{name}={text!r}: {error}") from None

    def integer(self, name: str, default: int, *, least: int = 1) -> int:
        value = self.optional(name, int)
        if value is None:
            return default
        if value < least:
            raise InvalidEnvironment(f"{name}={value} must be at least {least}")
        return value

    def one_of(self, name: str, *words: str) -> str:
        text = self._environ.get(name) or words[0]
        if text not in words:
            raise InvalidEnvironment(f"{name}={text!r} must be one of {', '.join(words)}")
        return text

    def data(self, name: str) -> tuple[DataSource, ...]:
        return self.optional(name, _data_sources) or ()


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text))


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError("must be at least 1")
    return value


def _positive_float(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise ValueError("must be more than 0")
    return value


def _data_sources(text: str) -> tuple[DataSource, ...]:
    entries: Any = json.loads(text)
    if not isinstance(entries, dict):
        raise ValueError("must be a JSON object, one key for each data entry")
    sources = []
    for name, entry in entries.items():
        match entry:
            case {"path": str(path)} if len(entry) == 1:
                sources.append(DataSource(name=name, path=Path(path)))
            case {"builtin": str(builtin)} if len(entry) == 1:
                sources.append(DataSource(name=name, builtin=builtin))
            case _:
                raise ValueError(f'entry {name!r} must be {{"path": …}} or {{"builtin": …}}')
    return tuple(sources)
