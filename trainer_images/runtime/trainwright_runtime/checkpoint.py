"""The checkpoints of a training: which one to start from, and how many to keep.

Each is a sealed directory (`sealed.py`), so a process killed at any moment leaves those before it as they were. What the files
contain is the framework's business (`trainwright_runtime.torch`); this module never looks inside them.
"""

from __future__ import annotations

import dataclasses
import os
import re
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainwright_runtime.exits import say
from trainwright_runtime.sealed import MANIFEST, Damaged, Incomplete, Writer, read_seal, recover, remove, verify, write_sealed

_STEP = re.compile(r"step-(\d+)")


class NoUsableCheckpoint(Exception):
    """There are checkpoints, and none of them can be used."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A complete checkpoint."""

    path: Path
    step: int
    manifest: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Bytes of its files, the manifest left out."""
        return sum(int(file["bytes"]) for file in self.manifest["files"].values())


class Superseded(Exception):
    """Another process has begun to write here since; this one belongs to an attempt that is over."""


class CheckpointStore:
    """The checkpoints in one directory. Any number of processes may read; one at a time writes.

    Which one is settled by `prepare`: the last that called it writes, and every other is refused. On a node that has lost its
    network an old attempt may train on long after the next one has started elsewhere.

    With `only_uid`, checkpoints of other jobs are not seen: neither resumed from nor counted or deleted.
    """

    def __init__(self, directory: Path, *, keep: int, only_uid: str | None = None) -> None:
        self._directory = directory
        self._keep = keep
        self._only_uid = only_uid
        self._token: str | None = None
        self._writer = directory.with_name(f".{directory.name}.writer")

    def prepare(self) -> None:
        """Become the one that writes; put back or remove what a killed writer left."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._token = uuid.uuid4().hex
        beside = self._writer.with_name(f"{self._writer.name}-{self._token}")
        beside.write_text(self._token)
        beside.rename(self._writer)
        recover(self._directory, "step-*")

    def write(self, step: int, files: Mapping[str, Writer], facts: Mapping[str, Any]) -> Checkpoint:
        """Write one checkpoint, then delete what is more than `keep`.

        Raises OSError or `Superseded`; what was there before stays.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        self._require_ours()
        path = self._directory / f"step-{step}"
        manifest = write_sealed(path, files, {"step": step, "time": time.time(), **facts})
        self._require_ours()
        self._prune(written=step)
        return Checkpoint(path=path, step=step, manifest=manifest)

    def _require_ours(self) -> None:
        if self._token is None:
            return
        try:
            writer = self._writer.read_text()
        except FileNotFoundError:
            return
        if writer != self._token:
            raise Superseded("another attempt writes checkpoints here since; this one is over")

    def newest(self) -> Checkpoint | None:
        """The newest complete checkpoint whose files are what its manifest says; None when there is no complete one.

        Raises NoUsableCheckpoint when there are complete ones, all damaged.
        """
        damaged: list[str] = []
        for path in self._paths():
            try:
                manifest = _manifest(path)
                if self._is_foreign(manifest):
                    continue
                verify(path, manifest)
            except Incomplete:
                say(f"{path.name} has no {MANIFEST}: it was never completed, and is left out")
            except Damaged as fault:
                damaged.append(f"{path.name}: {fault}")
                say(f"checkpoint {path.name} is damaged: {fault}")
            else:
                if damaged:
                    say(f"using checkpoint {path.name} instead")
                return Checkpoint(path=path, step=manifest["step"], manifest=manifest)
        if damaged:
            raise NoUsableCheckpoint(f"every checkpoint in {self._directory} is damaged ({'; '.join(damaged)})")
        return None

    def _paths(self) -> list[Path]:
        """Directories that have the name of a checkpoint, newest step first."""
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return []
        steps = sorted((int(match[1]) for name in names if (match := _STEP.fullmatch(name))), reverse=True)
        return [self._directory / f"step-{step}" for step in steps]

    def _is_foreign(self, manifest: Mapping[str, Any]) -> bool:
        return self._only_uid is not None and manifest.get("uid") != self._only_uid

    def _prune(self, *, written: int) -> None:
        """Delete all but the newest `keep` of the complete checkpoints up to the one just written.

        A newer step than the one just written was damaged, or it would have been resumed from; it isn't ours to count.
        """
        complete = []
        for path in self._paths():
            try:
                manifest = _manifest(path)
            except (Incomplete, Damaged):
                continue
            if manifest["step"] <= written and not self._is_foreign(manifest):
                complete.append(path)
        for path in complete[self._keep :]:
            remove(path)


def _manifest(path: Path) -> Mapping[str, Any]:
    manifest = read_seal(path)
    if not isinstance(manifest.get("step"), int):
        raise Damaged(f"{MANIFEST} lacks the step")
    return manifest
