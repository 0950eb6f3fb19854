"""A job's folder in object storage, for workspaces that have no disk of their own: `TRAINWRIGHT_WORKSPACE_URI`.

An object store has no rename and no folders, and many may write at once. So a sealed directory (`sealed.py`) is complete there
when its manifest is, which goes up last and comes down first; and one attempt at a time owns the folder: the last that wrote
`attempt.json`, which also tells the attempt's workers what they all start from.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from trainwright_runtime.checkpoint import Superseded
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.sealed import MANIFEST, Damaged, Incomplete, parse_seal, receive

CHECKPOINTS = "checkpoints"
ATTEMPT = "attempt.json"

_FOLDERS_ARE_MADE = frozenset({"file", "local", "sftp", "ssh", "smb", "hdfs", "webhdfs", "ftp"})
_STEP = re.compile(r"step-(\d+)")


class StorageError(Exception):
    """The store did not do what it was asked; the message names the place and says what it answered.

    `permanent`: asking again will not help.
    """

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class RemoteWorkspace:
    """The folder of one job, as one attempt of it sees it. Names are relative to the folder, with '/' between parts."""

    def __init__(self, uri: str, *, uid: str, attempt: int) -> None:
        self.uri = uri.rstrip("/")
        self._owner = {"uid": uid, "attempt": attempt}
        try:
            self._files: fsspec.AbstractFileSystem
            self._files, root = url_to_fs(self.uri)
        except (ValueError, ImportError) as error:
            raise StorageError(f"workspace {uri}: {error}", permanent=True) from None
        self._root = str(root).rstrip("/")
        protocols = self._files.protocol
        self._makes_folders = not _FOLDERS_ARE_MADE.isdisjoint([protocols] if isinstance(protocols, str) else protocols)

    @classmethod
    def of(cls, environment: RankEnvironment) -> RemoteWorkspace | None:
        """The one that the environment names, if it does. Raises StorageError where the URI means nothing here."""
        if environment.workspace_uri is None:
            return None
        return cls(environment.workspace_uri, uid=environment.uid, attempt=environment.attempt)

    def announce(self, checkpoint: str | None) -> None:
        """Take the folder for this attempt, and tell its workers which checkpoint they start from."""
        self._write(ATTEMPT, json.dumps({**self._owner, "checkpoint": checkpoint, "time": time.time()}).encode())

    def announced(self) -> Mapping[str, Any] | None:
        """What worker 0 announced for this attempt: `{"checkpoint": name or None, …}`; None as long as it hasn't."""
        there = self._owner_now()
        return there if there is not None and self._owner.items() <= there.items() else None

    def require_ours(self) -> None:
        """Raise `Superseded` when another attempt, or another job of this name, has taken the folder since."""
        there = self._owner_now()
        if there is not None and not self._owner.items() <= there.items():
            raise Superseded(f"attempt {there.get('attempt')} of this job writes to {self.uri} since; this one is over")

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, complete or not, newest first."""
        return sorted((int(match[1]) for name in self._names(CHECKPOINTS) if (match := _STEP.fullmatch(name))), reverse=True)

    def seal(self, name: str) -> Mapping[str, Any]:
        """The manifest of a sealed directory; raises Incomplete or Damaged."""
        content = self._read(f"{name}/{MANIFEST}")
        if content is None:
            raise Incomplete
        return parse_seal(content)

    def get_sealed(self, name: str, path: Path) -> Mapping[str, Any]:
        """Bring a sealed directory to `path`; raises Incomplete, Damaged or StorageError, and leaves nothing then."""
        manifest = self.seal(name)

        def get(file: str, target: Path) -> None:
            with self._asking(f"{name}/{file}"):
                try:
                    self._files.get_file(self._place(f"{name}/{file}"), str(target))
                except FileNotFoundError:
                    raise Damaged(f"{file} is not there") from None

        receive(path, manifest, get)
        return manifest

    def put_sealed(self, path: Path, name: str) -> int:
        """Put a sealed directory up in place of what is there under its name; returns bytes sent.

        Raises FileNotFoundError when it is removed here meanwhile, `Superseded`, StorageError.
        """
        seal = (path / MANIFEST).read_bytes()
        files = parse_seal(seal)["files"]
        self.require_ours()
        self._remove_file(f"{name}/{MANIFEST}")
        sent = sum(self.put_file(path / file, f"{name}/{file}") for file in files)
        for stale in set(self._below(name)) - set(files):
            self._remove_file(f"{name}/{stale}")
        self.require_ours()
        self._write(f"{name}/{MANIFEST}", seal)
        return sent + len(seal)

    def put_file(self, path: Path, name: str) -> int:
        """Put one file up; returns its bytes. Raises FileNotFoundError when it is not there (any more)."""
        size = path.stat().st_size
        with self._asking(name):
            self._make_folder(name)
            self._files.put_file(str(path), self._place(name))
        return size

    def get_file(self, name: str, path: Path) -> None:
        """Bring one file, whole or not at all."""
        beside = path.with_name(f".{path.name}.tmp")
        with self._asking(name):
            self._files.get_file(self._place(name), str(beside))
        beside.rename(path)

    def files(self, name: str) -> list[str]:
        """Names of the files at any depth below a folder; none when there is no such folder."""
        return [f"{name}/{below}" for below in self._below(name)]

    def remove(self, name: str) -> None:
        """Delete a sealed directory, if it is there. It stops being one first: half-deleted, it would pass for damaged."""
        self._remove_file(f"{name}/{MANIFEST}")
        for file in self._below(name):
            self._remove_file(f"{name}/{file}")
        if self._makes_folders:
            with self._asking(name), contextlib.suppress(FileNotFoundError):
                self._files.rm(self._place(name), recursive=True)

    def _remove_file(self, name: str) -> None:
        with self._asking(name), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._place(name))

    def _owner_now(self) -> Mapping[str, Any] | None:
        content = self._read(ATTEMPT)
        try:
            found = json.loads(content) if content is not None else None
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def _names(self, folder: str) -> list[str]:
        with self._asking(folder):
            self._files.invalidate_cache()
            try:
                found = self._files.ls(self._place(folder), detail=False)
            except FileNotFoundError:
                return []
        return [str(place).rstrip("/").rsplit("/", 1)[-1] for place in found]

    def _below(self, folder: str) -> list[str]:
        with self._asking(folder):
            self._files.invalidate_cache()
            base = self._place(folder)
            return [str(place).removeprefix(base).lstrip("/") for place in self._files.find(base)]

    def _read(self, name: str) -> bytes | None:
        with self._asking(name):
            self._files.invalidate_cache()
            try:
                return bytes(self._files.cat_file(self._place(name)))
            except FileNotFoundError:
                return None

    def _write(self, name: str, content: bytes) -> None:
        with self._asking(name):
            self._make_folder(name)
            self._files.pipe_file(self._place(name), content)

    def _make_folder(self, name: str) -> None:
        # Elsewhere there are no folders to make, and asking for one may make a bucket out of a misspelt name.
        if self._makes_folders:
            self._files.makedirs(self._place(name).rsplit("/", 1)[0], exist_ok=True)

    def _place(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def _asking(self, name: str) -> Iterator[None]:
        try:
            yield
        except (StorageError, Damaged):
            raise
        except FileNotFoundError as error:
            if error.filename is not None and not str(error.filename).startswith(self._root):
                raise  # a file of ours, not of the store's
            raise StorageError(f"{self.uri}/{name} is not there, or its bucket isn't: {said(error)}") from None
        except Exception as error:  # each file system has exceptions of its own
            raise StorageError(f"{self.uri}/{name}: {said(error)}") from None


def said(error: BaseException) -> str:
    """One line of an exception: its kind and its words."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
