"""An artifact that comes piece by piece, from somebody's machine onto a volume: kept apart until all of it is what was announced.

    <digest>            the artifact, whole: put in place by a rename
    .<digest>/files     its files that are here and have the sha256 that was announced
    .<digest>/pieces    those that have come in part, by their number

A receiver can be killed anywhere; the next one of the same digest goes on with what lies there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from trainwright_publisher.artifact import File
from trainwright_publisher.refusal import Failed, Reason, Refused
from trainwright_publisher.storage import flush, flush_tree
from trainwright_runtime.sealed import MANIFEST, Damaged, is_inside, parse_seal
from trainwright_runtime.serving.record import digest_of

CHUNK_BYTES = 8 << 20
SPARE_BYTES = 16 << 20
"""What a file system may need beside the files themselves."""


class OutOfPlace(Exception):
    """A piece that doesn't begin where the last one ended. `have`: how much of the file there is."""

    def __init__(self, have: int) -> None:
        super().__init__(f"{have} bytes of it are here")
        self.have = have


class Incoming:
    """What goes to `into`, a folder called as the sha256 of its manifest."""

    def __init__(self, into: Path, manifest: bytes, others: Mapping[str, File]) -> None:
        """`others`: files that the manifest doesn't name, such as its signature."""
        if digest_of(manifest) != f"sha256:{into.name}":
            raise Refused(Reason.DIGEST_CHANGED, f"this is {digest_of(manifest)}, and sha256:{into.name} is waited for")
        try:
            named = {name: File.model_validate(facts) for name, facts in parse_seal(manifest)["files"].items()}
        except Damaged as fault:
            raise Refused(Reason.DAMAGED, str(fault)) from None
        except ValidationError as error:
            raise Refused(Reason.DAMAGED, f"{MANIFEST}: files: {error.errors(include_url=False)[0]['msg']}") from None
        for name in others:
            if not is_inside(name) or name in (MANIFEST, *named):
                raise Refused(Reason.DAMAGED, f"{name!r} can't be a file beside those that the manifest names")
        self.into = into
        self.manifest = manifest
        self.wanted = named | dict(others)
        self._names = sorted(self.wanted)
        self._aside = into.with_name(f".{into.name}")
        self._files, self._pieces = self._aside / "files", self._aside / "pieces"
        self._whole: set[int] = set()
        self._begun: dict[int, hashlib._Hash] = {}
        self.complete = False

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.wanted.values())

    def missing(self) -> dict[int, int]:
        """Files that aren't whole, by their place in the order of names, and how much of each is here."""
        return {} if self.complete else {n: self._have(n) for n in range(len(self._names)) if n not in self._whole}

    def check(self, keep: Sequence[str] = ()) -> None:
        """Find what is here already, and remove what nobody waits for: all but `keep`. Raises `Failed` without enough space."""
        for entry in sorted(self.into.parent.iterdir()):
            if entry.name not in (self.into.name, self._aside.name, *keep, "lost+found"):
                _remove(entry)
        if self.into.is_dir():
            if self._is_sound(self.into):
                self.complete = True
                return
            _remove(self._aside)
            self._aside.mkdir()
            os.rename(self.into, self._files)
        for folder in (self._files, self._pieces):
            folder.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(self._names):
            if _sha256(self._files / name) == self.wanted[name].sha256:
                self._whole.add(number)
            else:
                _remove(self._files / name)
        self._require_space()

    def add(self, number: int, offset: int, piece: bytes) -> bool:
        """Add a piece to a file; whether it is whole now. Raises `OutOfPlace`, or `Failed` for a file that came otherwise."""
        file = self.wanted[self._names[number]]
        have = file.bytes if self.complete or number in self._whole else self._have(number)
        if self.complete or number in self._whole or offset != have:
            raise OutOfPlace(have)
        path = self._pieces / str(number)
        digest = self._begun.pop(number, None) or _hashed(path)
        with path.open("ab") as stream:
            stream.write(piece)
            stream.flush()
            digest.update(piece)
            if have + len(piece) < file.bytes:
                self._begun[number] = digest
                return False
            os.fsync(stream.fileno())
        if have + len(piece) > file.bytes or digest.hexdigest() != file.sha256:
            path.unlink()
            raise Failed(f"{self._names[number]} did not arrive as it was announced: its sha256 differs")
        place = self._files / self._names[number]
        place.parent.mkdir(parents=True, exist_ok=True)
        os.rename(path, place)
        self._whole.add(number)
        return True

    def finish(self) -> None:
        """Put it in place. All of it must be here."""
        if self.complete:
            return
        if missing := self.missing():
            raise Failed(f"{len(missing)} of {len(self.wanted)} files are not here yet")
        self._remove_strangers()
        with (self._files / MANIFEST).open("wb") as stream:
            stream.write(self.manifest)
            stream.flush()
            os.fsync(stream.fileno())
        flush_tree(self._files)
        os.rename(self._files, self.into)
        flush(self.into.parent)
        _remove(self._aside)
        self.complete = True

    def _have(self, number: int) -> int:
        try:
            return (self._pieces / str(number)).stat().st_size
        except FileNotFoundError:
            return 0

    def _is_sound(self, folder: Path) -> bool:
        if not (folder / MANIFEST).is_file() or (folder / MANIFEST).read_bytes() != self.manifest:
            return False
        return all(_sha256(folder / name) == file.sha256 for name, file in self.wanted.items())

    def _require_space(self) -> None:
        missing = sum(self.wanted[self._names[number]].bytes - have for number, have in self.missing().items())
        free = shutil.disk_usage(self.into.parent).free
        if missing + SPARE_BYTES > free:
            raise Failed(f"{missing} bytes are still to come, and the volume has {free} left")

    def _remove_strangers(self) -> None:
        for path in sorted(self._files.rglob("*"), reverse=True):
            if not path.is_dir() and str(path.relative_to(self._files)) not in self.wanted:
                path.unlink()


def _hashed(path: Path) -> hashlib._Hash:
    digest = hashlib.sha256()
    if path.exists():
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest


def _sha256(path: Path) -> str | None:
    return _hashed(path).hexdigest() if path.is_file() and not path.is_symlink() else None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
