"""A directory that is either complete or not there: how checkpoints and model artifacts are written.

The files go into a hidden directory beside the final place, each flushed to disk; `manifest.json`, with the sha256 of every
one, seals them as the last; then the directory is renamed. A reader that finds a manifest finds everything.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

MANIFEST = "manifest.json"
FORMAT = 1

Writer = Callable[[IO[bytes]], object]
"""Writes one file's content to the stream it is given, from start to end."""

_HIDDEN = re.compile(r"\.(?P<name>.+)\.(?P<why>tmp|removed|replaced)-[0-9a-f]{8}")


class Incomplete(Exception):
    """There is no manifest."""


class Damaged(Exception):
    """What is there is not what was written."""


def write_sealed(path: Path, files: Mapping[str, Writer], facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Write the directory `path`, in place of one that may be there; returns its manifest. Names may have folders: `a/b`.

    Raises what the writers and the file system raise, mostly OSError; what was there before is then as it was.
    """
    for name in files:
        if not is_inside(name) or name == MANIFEST:
            raise ValueError(f"{name!r} can't be a file of a sealed directory")
    manifest: dict[str, Any] = {"format": FORMAT, **facts, "files": {}}
    with _aside(path, manifest) as aside:
        aside.mkdir()
        for name, write in files.items():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            manifest["files"][name] = _write_file(aside / name, write)
    return manifest


def read_seal(path: Path) -> Mapping[str, Any]:
    """The manifest of a directory; raises Incomplete or Damaged."""
    try:
        content = (path / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise Incomplete from None
    except OSError as error:
        raise Damaged(f"{MANIFEST} can't be read ({error})") from None
    return parse_seal(content)


def parse_seal(content: bytes) -> Mapping[str, Any]:
    """The manifest in the bytes of its file; raises Damaged."""
    try:
        manifest: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{MANIFEST} can't be read ({error})") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise Damaged(f"{MANIFEST} lacks the list of files")
    if manifest.get("format") != FORMAT:
        raise Damaged(f"{MANIFEST} has format {manifest.get('format')}; this runtime reads {FORMAT}")
    for name in manifest["files"]:
        if not is_inside(name):
            raise Damaged(f"{MANIFEST} names {name!r}, which is not inside of the directory")
    return manifest


def receive(path: Path, manifest: Mapping[str, Any], get: Callable[[str, Path], None]) -> None:
    """Make the sealed directory `path` out of one that is elsewhere: `get` brings one of its files to a place here.

    Raises Damaged when what came isn't what the manifest says; nothing is left then.
    """
    with _aside(path, manifest) as aside:
        aside.mkdir(parents=True)
        for name in manifest["files"]:
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            get(name, aside / name)
        verify(aside, manifest)


def verify(path: Path, manifest: Mapping[str, Any]) -> None:
    """Read every file and compare it with the manifest; raises Damaged."""
    for name, facts in manifest["files"].items():
        try:
            with (path / name).open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise Damaged(f"{name} can't be read ({error.strerror})") from None
        if digest != facts["sha256"]:
            raise Damaged(f"the sha256 of {name} differs from the manifest's")


def remove(path: Path) -> None:
    """Delete a sealed directory. Renamed first: half-deleted, it would pass for damaged."""
    removed = _hidden(path, "removed")
    os.rename(path, removed)
    shutil.rmtree(removed, ignore_errors=True)


def recover(parent: Path, pattern: str) -> None:
    """Put back or remove what killed writers of the directories named like `pattern` left in `parent`."""
    for entry in sorted(parent.glob(f".{pattern}")):
        if (hidden := _HIDDEN.fullmatch(entry.name)) is None:
            continue
        path = parent / hidden["name"]
        if hidden["why"] == "replaced" and not path.exists():
            os.rename(entry, path)
        else:
            shutil.rmtree(entry, ignore_errors=True)


def _hidden(path: Path, why: str) -> Path:
    return path.with_name(f".{path.name}.{why}-{uuid.uuid4().hex[:8]}")


@contextlib.contextmanager
def _aside(path: Path, manifest: Mapping[str, Any]) -> Iterator[Path]:
    """A place to make the directory in; afterwards it is sealed with the manifest and put in place, or gone after a failure."""
    aside = _hidden(path, "tmp")
    try:
        yield aside
        _flush_folders(aside)
        seal = json.dumps(manifest, indent=1).encode()
        _write_file(aside / MANIFEST, lambda stream: stream.write(seal))
        _flush_directory(aside)
        _put_in_place(aside, path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _put_in_place(aside: Path, path: Path) -> None:
    # A directory can't be renamed over another one that has files. A kill between the two renames leaves the old one under
    # a name that recover() puts back.
    replaced = _hidden(path, "replaced")
    if path.exists():
        os.rename(path, replaced)
    os.rename(aside, path)
    _flush_directory(path.parent)
    shutil.rmtree(replaced, ignore_errors=True)


class _HashingStream:
    """A binary file that is hashed on its way to disk, so that it needn't be read again.

    `fault` is what the disk said when it refused: a writer may make something unreadable of that.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.size = 0
        self.fault: OSError | None = None

    def write(self, data: Any) -> int:
        self.digest.update(data)
        try:
            written = self._stream.write(data)
        except OSError as fault:
            self.fault = fault
            raise
        self.size += written
        return written

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as fault:
            self.fault = fault
            raise


def _write_file(path: Path, write: Writer) -> dict[str, Any]:
    with path.open("xb") as stream:
        hashing = _HashingStream(stream)
        try:
            write(hashing)  # type: ignore[arg-type]
        except Exception:
            if hashing.fault is None:
                raise
            raise OSError(hashing.fault.errno, hashing.fault.strerror, path.name) from None
        stream.flush()
        os.fsync(stream.fileno())
    return {"sha256": hashing.digest.hexdigest(), "bytes": hashing.size}


def is_inside(name: str) -> bool:
    """Whether a name of a manifest can be a file's, and stays in the manifest's folder."""
    return {".", "..", ""}.isdisjoint(name.split("/")) and "\0" not in name


def _flush_folders(path: Path) -> None:
    for folder in path.rglob("*/"):
        _flush_directory(folder)


def _flush_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
