"""An artifact where it lies: a directory, or any place that fsspec reads. Nothing in it is believed before it is verified."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import aiohttp
from fsspec.core import url_to_fs

from trainwright_publisher.refusal import Failed, Reason, Refused
from trainwright_runtime.remote import said
from trainwright_runtime.sealed import MANIFEST

CHUNK_BYTES = 8 << 20
MAX_MANIFEST_BYTES = 32 << 20
SIGNATURE = "model.sig"


class Source:
    """Where an artifact is read from. Names are those of its manifest, with '/' between parts."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/") or uri
        try:
            self._files, root = url_to_fs(uri)
        except (ValueError, ImportError) as error:
            raise Refused(Reason.NO_ARTIFACT, f"{uri}: {error}") from None
        self._root = str(root).rstrip("/")
        self.folder = Path(self._root) if "file" in _protocols(self._files) else None
        """The directory, where it is one of this machine's."""

    def manifest(self) -> bytes:
        """The bytes of the manifest."""
        if (content := self.read(MANIFEST, MAX_MANIFEST_BYTES)) is None:
            raise Refused(Reason.NO_ARTIFACT, f"{self.uri} holds no artifact: there is no {MANIFEST}")
        return content

    def read(self, name: str, most: int) -> bytes | None:
        """A small file; None where it isn't there."""
        with self._asking(name):
            try:
                with self._open(name) as stream:
                    content = stream.read(most + 1)
            except (FileNotFoundError, NotADirectoryError) as error:
                _require_an_answer(error)
                return None
        if len(content) > most:
            raise Refused(Reason.DAMAGED, f"{name} is larger than {most} bytes")
        return bytes(content)

    def copy(self, name: str, facts: dict[str, Any], target: IO[bytes] | None) -> None:
        """Read a file of the manifest, and write it to `target` on the way; refused when it isn't what the manifest says."""
        digest, size = hashlib.sha256(), 0
        for chunk in self._chunks(name):
            digest.update(chunk)
            size += len(chunk)
            if size > facts["bytes"]:
                break
            if target is not None:
                target.write(chunk)
        if size != facts["bytes"]:
            more = "more than" if size > facts["bytes"] else f"{size} of"
            raise Refused(Reason.DAMAGED, f"{name} has {more} the {facts['bytes']} bytes that the manifest says")
        if digest.hexdigest() != facts["sha256"]:
            raise Refused(Reason.DAMAGED, f"the sha256 of {name} differs from the manifest's")

    def bring(self, folder: Path) -> None:
        """Copy all that is there, also what no manifest names."""
        with self._asking(""):
            self._files.get(self._root, str(folder), recursive=True)

    def _chunks(self, name: str) -> Iterator[bytes]:
        with self._asking(name):
            try:
                with self._open(name) as stream:
                    while chunk := stream.read(CHUNK_BYTES):
                        yield chunk
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                _require_an_answer(error)
                raise Refused(Reason.DAMAGED, f"{name} is not there, and the manifest names it") from None

    def _open(self, name: str) -> Any:
        # A link may lead out of the artifact, to what its author may not read and the publisher may.
        if self.folder is not None:
            place = os.path.realpath(self.folder / name)
            if place != os.path.join(os.path.realpath(self.folder), name):
                raise Refused(Reason.DAMAGED, f"{name} is a link, or lies behind one")
            # A pipe would keep its reader waiting for ever.
            if os.path.exists(place) and not (os.path.isfile(place) or os.path.isdir(place)):
                raise Refused(Reason.DAMAGED, f"{name} is a pipe, a socket or a device; accepted are plain files")
        return self._files.open(f"{self._root}/{name}", "rb")

    @contextlib.contextmanager
    def _asking(self, name: str) -> Iterator[None]:
        try:
            yield
        except (Refused, Failed):
            raise
        except Exception as error:  # each file system has exceptions of its own
            raise Failed(f"{self.uri}/{name} can't be read: {said(error)}") from None


def _require_an_answer(error: OSError) -> None:
    """Fsspec takes a web server that doesn't answer for a file that isn't there."""
    if isinstance(error.__cause__, ConnectionError | TimeoutError | aiohttp.ClientConnectionError):
        raise Failed(said(error.__cause__)) from None


def _protocols(files: Any) -> list[str]:
    return [files.protocol] if isinstance(files.protocol, str) else list(files.protocol)
