"""Makes what a server loads out of an artifact, and puts it in place with its record."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from trainwright_publisher import mar
from trainwright_publisher.artifact import Artifact
from trainwright_publisher.refusal import Failed, Reason, Refused
from trainwright_publisher.source import Source
from trainwright_publisher.storage import Storage
from trainwright_runtime.artifact import SAMPLES
from trainwright_runtime.sealed import MANIFEST
from trainwright_runtime.serving.record import RECORD, File, Record, Server

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,252}")


def publish(*, source: str, server: Server, digest: str, model: str, version: int, models: Path) -> dict[str, object]:
    """Returns what the last words say. Raises Refused, Failed and OSError; nothing half-done is to be seen then."""
    began = time.monotonic()
    if MODEL_NAME.fullmatch(model) is None:
        raise Failed(f"--model is {model!r}; accepted: letters, digits, '_', '.' and '-', beginning with a letter or a digit")
    storage = Storage(models)
    storage.clean()
    record = storage.published(version, server, digest)
    if record is None:
        artifact = Artifact(Source(source))
        if artifact.digest != digest:
            raise Refused(Reason.DIGEST_CHANGED, f"{source} is {artifact.digest} now; verified was {digest}")
        with storage.aside() as aside:
            made = _make(artifact, server=server, model=model, version=version, aside=aside)
            record = storage.put(aside, made)
    folder = storage.layout.version(version)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {
        "ok": True,
        "version": version,
        "digest": digest,
        "bytes": size,
        "record": record,
        "seconds": round(time.monotonic() - began, 3),
    }


def _make(artifact: Artifact, *, server: Server, model: str, version: int, aside: Path) -> Record:
    names = artifact.loaded_by(server)
    (aside / "version").mkdir()
    (aside / "record").mkdir()
    files: dict[str, File] = {}
    if server == "torchserve":
        files["model.mar"] = _write(
            aside / "version/model.mar", lambda stream: mar.write(stream, artifact, model=model, version=version)
        )
    else:
        for name in names:
            inside = name.removeprefix("saved_model/") if server == "tfserving" else name
            # A copy is compared with the manifest as it is made, so its sha256 is known.
            files[inside] = _write(aside / "version" / inside, _copy_of(artifact, name), sha256=artifact.facts_of(name)["sha256"])
    record = Record(version=version, digest=artifact.digest, server=server, time=time.time(), files=files)
    _write(aside / "record" / MANIFEST, lambda stream: stream.write(artifact.content))
    if SAMPLES in artifact.manifest.files:
        _write(aside / "record" / SAMPLES, _copy_of(artifact, SAMPLES))
    _write(aside / "record" / RECORD, lambda stream: stream.write(record.encode()))
    _make_readable(aside)
    return record


def _copy_of(artifact: Artifact, name: str) -> Callable[[IO[bytes]], None]:
    return lambda stream: artifact.source.copy(name, artifact.facts_of(name), stream)


def _write(path: Path, write: Callable[[IO[bytes]], object], *, sha256: str = "") -> File:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x+b") as stream:
        write(stream)
        stream.flush()
        os.fsync(stream.fileno())
        if not sha256:
            stream.seek(0)
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return File(sha256=sha256, bytes=path.stat().st_size)


def _make_readable(folder: Path) -> None:
    """For servers that run as another user."""
    for path, _, names in os.walk(folder):
        os.chmod(path, 0o755)  # noqa: S103 - a directory; nothing in it is a secret
        for name in names:
            os.chmod(os.path.join(path, name), 0o644)
