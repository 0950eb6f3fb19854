"""The record of a published version: which artifact it came from, and the sha256 of everything that a server loads of it.

A model may run code as it is loaded (a MAR, a pickle). So the servers that do that load only what the publisher wrote: the
operator tells them the sha256 of the record, and the record has those of the files.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

RECORD = "record.json"
MAX_RECORD_BYTES = 16 << 20

Server = Literal["tfserving", "torchserve", "sklearn"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class NotWhatWasPublished(Exception):
    """What lies there is not what the publisher wrote, or not what was asked for; the message says what differs."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class File(_Strict):
    """One file under `versions/<N>`."""

    sha256: Sha256
    bytes: int


class Record(_Strict):
    """`records/<N>/record.json`. `digest`: of the artifact's manifest; `files`: by their names under `versions/<N>`."""

    format: Literal[1] = 1
    version: int
    digest: Digest
    server: Server
    time: float
    files: Mapping[str, File]

    def encode(self) -> bytes:
        """The bytes of the file."""
        return self.model_dump_json(indent=1).encode()


class Layout:
    """Where things lie in the storage of one served model."""

    def __init__(self, models: Path) -> None:
        self.root = models
        self.versions = models / "versions"
        self.records = models / "records"
        self.aside = models / "aside"

    def version(self, number: int) -> Path:
        """What a server loads."""
        return self.versions / str(number)

    def record(self, number: int) -> Path:
        """What is known of it."""
        return self.records / str(number)


def digest_of(content: bytes) -> str:
    """As records and the operator write it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def parse_record(content: bytes) -> Record:
    """Raises NotWhatWasPublished, with what is wrong in it."""
    try:
        return Record.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise NotWhatWasPublished(f"{RECORD}: {field}: {first['msg']}") from None


def read_record(folder: Path) -> tuple[Record, str]:
    """The record in `records/<N>` and its own sha256, as `sha256:…`. Raises NotWhatWasPublished, and OSError."""
    path = folder / RECORD
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_RECORD_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise NotWhatWasPublished(f"{path} is not there") from None
    if len(content) > MAX_RECORD_BYTES:
        raise NotWhatWasPublished(f"{path} is larger than {MAX_RECORD_BYTES} bytes")
    return parse_record(content), digest_of(content)


def verify_files(folder: Path, record: Record) -> None:
    """Read every file under `versions/<N>` and compare it with the record; raises NotWhatWasPublished, and OSError."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}
    if missing := sorted(set(record.files) - found):
        raise NotWhatWasPublished(f"{folder} lacks {missing[0]}, which {RECORD} names")
    if foreign := sorted(found - set(record.files)):
        raise NotWhatWasPublished(f"{folder} has {foreign[0]}, which {RECORD} doesn't name")
    for name, facts in record.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise NotWhatWasPublished(f"{path} is no plain file")
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != facts.sha256:
            raise NotWhatWasPublished(
                f"the sha256 of {path} is {digest[:12]}…, and {RECORD} says {facts.sha256[:12]}…: the publisher didn't write it"
            )


def require_content(name: str, content: bytes, record: Record) -> None:
    """Raise NotWhatWasPublished unless that is the content of this file of the record."""
    if hashlib.sha256(content).hexdigest() != record.files[name].sha256:
        raise NotWhatWasPublished(f"{name} is not what {RECORD} says: the publisher didn't write it")


def require(layout: Layout, *, version: int, server: Server, expected: str) -> Record:
    """The record of a version, once it and all its files are known to be what the publisher wrote.

    `expected`: the sha256 of the record, as `sha256:…`. Raises NotWhatWasPublished, and OSError.
    """
    if re.fullmatch(r"sha256:[0-9a-f]{64}", expected) is None:
        raise NotWhatWasPublished(f"TRAINWRIGHT_RECORD is {expected!r}; accepted: sha256: and 64 hexadecimal digits")
    record, digest = read_record(layout.record(version))
    if digest != expected:
        raise NotWhatWasPublished(
            f"the sha256 of {layout.record(version) / RECORD} is {digest}, and TRAINWRIGHT_RECORD {expected}"
        )
    if record.version != version:
        raise NotWhatWasPublished(f"{RECORD} in records/{version} is of version {record.version}")
    if record.server != server:
        raise NotWhatWasPublished(f"version {version} was published for {record.server}; this server is {server}")
    verify_files(layout.version(version), record)
    return record
