"""`trainwright-fetch NAME=URI…`: what a worker's workspace must hold before it starts.

Data sets: once for the whole gang and for all of its attempts. Where the workspace is in object storage, and each worker has a
disk of its own for as long as it lives: once a worker, and before that the newest checkpoint (`restore.py`).

Worker 0 fetches into `data/.NAME.partial`, file by file, and puts the folder in place when it is whole; the others wait for that.
A fetch that was interrupted goes on with the files that are missing. A later job that names the same URI takes what is there,
unless the listing of the source has changed since.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from trainwright_runtime.checkpoint import NoUsableCheckpoint
from trainwright_runtime.environment import InvalidEnvironment, RankEnvironment
from trainwright_runtime.exits import CAUSE_OF_EXIT, Cause, Exit, say
from trainwright_runtime.launch.verdict import Verdict, write_termination_message
from trainwright_runtime.remote import RemoteWorkspace, StorageError, said
from trainwright_runtime.restore import restore
from trainwright_runtime.sealed import Damaged

POLL_SECONDS = 0.5
TOLD_EVERY_SECONDS = 5.0
CHUNK_BYTES = 8 << 20


class Unfetchable(Exception):
    """The source can't be read; the message names it, and says what would do."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


@dataclass(frozen=True)
class Entry:
    """One file of a source: its place there, its name below the data set's folder, its size in bytes when the source tells."""

    source: str
    name: str
    size: int | None


@dataclass(frozen=True)
class Source:
    """A URI, opened: what it holds, and a mark for each file that changes when the file does."""

    uri: str
    files: fsspec.AbstractFileSystem
    entries: tuple[Entry, ...]
    marks: dict[str, str]


def main() -> None:
    """Entry point of `trainwright-fetch`."""
    code, message = _fetch_all(sys.argv[1:])
    if code:
        say(message)
        verdict = Verdict(rank=0, exit_code=code, cause=CAUSE_OF_EXIT.get(code, Cause.ERROR), message=message, lines=(message,))
        write_termination_message(verdict, os.environ.get("TRAINWRIGHT_TERMINATION_LOG"))
    sys.exit(code)


def _fetch_all(words: Sequence[str]) -> tuple[int, str]:
    try:
        environment = RankEnvironment.read()
        if environment.workspace is None:
            raise InvalidEnvironment("TRAINWRIGHT_WORKSPACE is not set: there is no place to fetch into")
        remote = RemoteWorkspace.of(environment)
        if remote is not None:
            restore(remote, environment)
        for word in words:
            name, _, uri = word.partition("=")
            folder = environment.workspace / "data" / name
            if environment.worker_index == 0 or remote is not None:
                fetch(uri, folder, job=environment.uid)
            else:
                wait_for(uri, folder, job=environment.uid)
    except InvalidEnvironment as error:
        return int(Exit.INVALID_CONFIG), str(error)
    except (Unfetchable, StorageError) as error:
        return int(Exit.INVALID_CONFIG) if error.permanent else 1, str(error)
    except NoUsableCheckpoint as error:
        return int(Exit.NO_CHECKPOINT), str(error)
    except Damaged as fault:
        return 1, f"the checkpoint that worker 0 chose came damaged: {fault}"
    return 0, ""


def fetch(uri: str, folder: Path, *, job: str) -> None:
    """Make `folder` hold what `uri` does. `job`: uid of the job on whose behalf; its restarts look at the source no more."""
    seal = _seal(folder)
    there = _read(seal)
    if there.get("uri") == uri and there.get("job") == job and folder.is_dir():
        return
    source = open_source(uri)
    if there.get("uri") == uri and there.get("marks") == source.marks and folder.is_dir():
        say(f"data {folder.name}: {uri} is as it was fetched before ({_amount(source)})")
        _write(seal, {**there, "job": job})
        return
    partial = folder.with_name(f".{folder.name}.partial")
    if _read(partial / ".source") != {"uri": uri, "marks": source.marks}:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write(partial / ".source", {"uri": uri, "marks": source.marks})
    say(f"data {folder.name}: fetching {uri} ({_amount(source)})")
    _copy(source, partial)
    (partial / ".source").unlink()
    # Without a seal there is no data set; so nobody takes the old folder for the new one, nor half of it.
    seal.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    _write(seal, {"uri": uri, "job": job, "marks": source.marks})
    say(f"data {folder.name}: complete")


def wait_for(uri: str, folder: Path, *, job: str) -> None:
    """Return when worker 0 has put the data set in place."""
    told = False
    while (there := _read(_seal(folder))).get("uri") != uri or there.get("job") != job:
        if not told:
            say(f"data {folder.name}: waiting for worker 0 to fetch {uri}")
            told = True
        time.sleep(POLL_SECONDS)


def open_source(uri: str) -> Source:
    """List what a URI holds. Raises `Unfetchable`."""
    try:
        files, path = url_to_fs(uri)
    except (ValueError, ImportError) as error:
        raise Unfetchable(f"{uri}: {error}; known here: {', '.join(_usable())}", permanent=True) from None
    try:
        info = files.info(path)
        found = {path: info} if info["type"] == "file" else files.find(path, detail=True)
    except FileNotFoundError as error:
        raise Unfetchable(f"{uri} is not there" + (f": {said(error.__cause__)}" if error.__cause__ else "")) from None
    except Exception as error:  # each file system has exceptions of its own
        raise Unfetchable(f"{uri} can't be read: {said(error)}") from None
    if not found:
        raise Unfetchable(f"{uri} holds no files")
    base = path.rstrip("/")
    entries, marks = [], {}
    for place, info in sorted(found.items()):
        name = place.removeprefix(base).lstrip("/") or base.rsplit("/", 1)[-1]
        entries.append(Entry(source=place, name=name, size=info.get("size")))
        marks[name] = _mark(info)
    return Source(uri, files, tuple(entries), marks)


def _copy(source: Source, folder: Path) -> None:
    """Every file that is not there whole, each beside its place first."""
    done, total, told = 0, sum(entry.size or 0 for entry in source.entries), time.monotonic()
    for entry in source.entries:
        target = folder / entry.name
        if not target.resolve().is_relative_to(folder.resolve()):
            raise Unfetchable(f"{source.uri}: {entry.name!r} would lie outside of the data set's folder", permanent=True)
        if target.is_file():
            done += target.stat().st_size
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.tmp")
        written = 0
        try:
            with source.files.open(entry.source, "rb") as reader, beside.open("wb") as writer:
                while chunk := reader.read(CHUNK_BYTES):
                    writer.write(chunk)
                    written += len(chunk)
                    if time.monotonic() - told > TOLD_EVERY_SECONDS:
                        told = time.monotonic()
                        say(f"data: {_bytes(done + written)} of {_bytes(total)}")
                writer.flush()
                os.fsync(writer.fileno())
        except OSError as error:
            raise Unfetchable(f"{source.uri}: {entry.name}: {said(error)}") from None
        except Exception as error:  # each file system has exceptions of its own
            raise Unfetchable(f"{source.uri}: {entry.name} can't be read: {said(error)}") from None
        if entry.size is not None and written != entry.size:
            raise Unfetchable(f"{source.uri}: {entry.name} ended after {written} of {entry.size} bytes")
        beside.rename(target)
        done += written


def _seal(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.json")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, facts: dict[str, Any]) -> None:
    beside = path.with_name(f"{path.name}.tmp")
    with beside.open("w") as stream:
        json.dump(facts, stream)
        stream.flush()
        os.fsync(stream.fileno())
    beside.rename(path)


def _mark(info: dict[str, Any]) -> str:
    """What tells one version of a file from the next: whichever of these its file system knows."""
    known = {key: str(info[key]) for key in ("size", "ETag", "etag", "mtime", "LastModified", "md5Hash") if info.get(key)}
    return json.dumps(known, sort_keys=True)


def _usable() -> list[str]:
    """Schemes whose file systems are installed here."""
    return [name for name in ("file", "https", "s3", "gs", "abfs", "hf", "sftp", "webhdfs") if _is_installed(name)]


def _is_installed(scheme: str) -> bool:
    try:
        fsspec.get_filesystem_class(scheme)
    except (ImportError, ValueError):
        return False
    return True


def _amount(source: Source) -> str:
    files = f"{len(source.entries)} file{'s' if len(source.entries) > 1 else ''}"
    known = sum(entry.size or 0 for entry in source.entries)
    return f"{files}, {_bytes(known)}" if known else files


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


if __name__ == "__main__":
    main()
