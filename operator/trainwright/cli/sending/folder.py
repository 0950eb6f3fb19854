"""An artifact in a folder of this machine, read before anything is made in the cluster: what is damaged here isn't sent."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainwright.cli.app import UserError

MANIFEST = "manifest.json"
SIGNATURE = "model.sig"
CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True)
class File:
    """A file as the manifest names it; `sha256` is what it must have."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """`digest`: sha256 of the manifest. `others`: files that no manifest names, and a signature covers."""

    folder: Path
    manifest: bytes
    digest: str
    named: tuple[File, ...]
    others: tuple[File, ...]

    @property
    def files(self) -> list[File]:
        """All, in the order that the receiver numbers them in."""
        return sorted((*self.named, *self.others), key=lambda one: one.name)

    @property
    def bytes(self) -> int:
        return sum(one.bytes for one in self.files)


def read(folder: Path, progress: Callable[[int], None] = lambda _: None) -> Artifact:
    """Read every file and compare it with the manifest; `progress` is told how many bytes more have been read.

    Raises `UserError`.
    """
    content, named = sealed(folder)
    for one in named:
        if _sha256(folder / one.name, progress) != one.sha256:
            raise UserError(f"{folder}: {one.name} is damaged: its sha256 is not the one that {MANIFEST} has")
    others = tuple(_unnamed(folder, named, progress)) if (folder / SIGNATURE).is_file() else ()
    return Artifact(folder=folder, manifest=content, digest=hashlib.sha256(content).hexdigest(), named=named, others=others)


def sealed(folder: Path) -> tuple[bytes, tuple[File, ...]]:
    """The manifest and the files that it names, which have their sizes. Raises `UserError`."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    try:
        content = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        below = folder / "artifacts"
        there = f"; {below} is one" if (below / MANIFEST).is_file() else ""
        raise UserError(f"{folder} is no artifact: there is no {MANIFEST} in it{there}") from None
    except OSError as error:
        raise UserError(f"{folder / MANIFEST}: {error.strerror}") from None
    try:
        files: Any = json.loads(content)["files"]
        named = tuple(
            File(name=str(name), bytes=int(facts["bytes"]), sha256=str(facts["sha256"])) for name, facts in files.items()
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UserError(f"{folder / MANIFEST} is no artifact's manifest: it names no files with their bytes and sha256") from None
    for one in named:
        if not {".", "..", ""}.isdisjoint(one.name.split("/")):
            raise UserError(f"{folder / MANIFEST} names {one.name!r}, which is not inside of the folder")
        try:
            size = (folder / one.name).stat().st_size
        except OSError as error:
            raise UserError(f"{folder}: {one.name} can't be read, and {MANIFEST} names it: {error.strerror}") from None
        if size != one.bytes:
            raise UserError(f"{folder}: {one.name} is damaged: it has {size} bytes, and {MANIFEST} says {one.bytes}")
    return content, named


def _unnamed(folder: Path, named: tuple[File, ...], progress: Callable[[int], None]) -> list[File]:
    known = {MANIFEST, *(one.name for one in named)}
    found = []
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root) / name
            relative = str(path.relative_to(folder))
            if relative not in known:
                found.append(File(name=relative, bytes=path.stat().st_size, sha256=_sha256(path, progress)))
    return found


def _sha256(path: Path, progress: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
                progress(len(chunk))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    return digest.hexdigest()
