"""The storage of one served model: versions put in place whole or not at all, and taken away the same.

Everything is made under `aside/`, flushed to disk, and renamed. A publisher holds a lock on its folder there, so that whoever
comes later can tell the leftovers of one that was killed; and one lock for the renames, so that two publishers of a version
don't mix theirs. Where a file system has no locks, only the latter chance is left, and `put` looks at what it put once more.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from trainwright_publisher.refusal import Failed, Reason, Refused
from trainwright_runtime.serving.record import RECORD, Layout, NotWhatWasPublished, Record, Server, read_record, verify_files

COMMIT = "commit.lock"
MAX_AGE_SECONDS = 86400.0
"""Of leftovers, where a file system can't tell by a lock whether somebody is at work in them."""
NO_LOCKS = (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL)


class Storage:
    """What is at /models."""

    def __init__(self, models: Path) -> None:
        self.layout = Layout(models)
        if not models.is_dir():
            raise Failed(f"{models} is not there: is the volume mounted?")
        for folder in (self.layout.versions, self.layout.records, self.layout.aside):
            if not folder.is_dir():
                folder.mkdir(exist_ok=True)
                flush(models)

    def published(self, version: int, server: Server, digest: str) -> str | None:
        """The sha256 of the record, when the version is in place already; None when there is nothing of it, or its record only.

        Refused when something else has the version.
        """
        number, place = self.layout.version(version), self.layout.record(version)
        if not place.is_dir():
            if os.path.lexists(number):
                highest = self.highest()
                raise Refused(Reason.NOT_OURS, f"{number} is there without a record: no publisher has made it", highest=highest)
            return None
        record, own = self._record_of(version)
        if (record.digest, record.server) != (digest, server):
            raise Refused(
                Reason.VERSION_TAKEN,
                f"version {version} is {record.digest[:19]}… for {record.server}, not {digest[:19]}… for {server}",
                highest=self.highest(),
            )
        if not os.path.lexists(number):
            return None
        try:
            verify_files(number, record)
        except NotWhatWasPublished as fault:
            raise Refused(Reason.DAMAGED, f"version {version} was published, and is no longer what it was: {fault}") from None
        flush(self.layout.records)
        flush(self.layout.versions)
        return own

    def highest(self) -> int:
        """The highest version number that something has here."""
        places = (*self.layout.versions.iterdir(), *self.layout.records.iterdir())
        return max((int(place.name) for place in places if place.name.isdigit()), default=0)

    def put(self, aside: Path, record: Record) -> str:
        """Put `aside/record` and `aside/version` in place; returns the sha256 of the record that is there then."""
        version = record.version
        flush_tree(aside)
        with self._committing():
            if (own := self.published(version, record.server, record.digest)) is not None:
                return own
            place = self.layout.record(version)
            if place.is_dir():
                # Of a publisher that was killed between its two renames. Ours goes there: its files may be others, of another
                # release of the publisher.
                os.rename(place, aside / "replaced")
            os.rename(aside / "record", place)
            flush(self.layout.records)
            try:
                os.rename(aside / "version", self.layout.version(version))
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
            flush(self.layout.versions)
            own = self.published(version, record.server, record.digest)
        if own is None:
            raise Failed(f"version {version} was removed while it was being put in place")
        return own

    def remove(self, versions: Sequence[int]) -> None:
        """Take versions away; those that aren't there are no fault. Refused before anything is done when one isn't ours."""
        with self._committing(), self.aside() as aside:
            for version in versions:
                if os.path.lexists(self.layout.record(version)):
                    self._record_of(version)
                elif os.path.lexists(self.layout.version(version)):
                    raise Refused(
                        Reason.NOT_OURS, f"{self.layout.version(version)} is there without a record: no publisher has made it"
                    )
            for version in versions:
                # The record last: a version without one would be taken for somebody else's.
                for kind, path in (("version", self.layout.version(version)), ("record", self.layout.record(version))):
                    if os.path.lexists(path):
                        os.rename(path, aside / f"{kind}-{version}")
                        flush(path.parent)

    @contextlib.contextmanager
    def aside(self) -> Iterator[Path]:
        """A folder to make things in, gone afterwards."""
        folder, descriptor = self._own_folder()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)

    def clean(self) -> None:
        """Remove what killed publishers have left."""
        for entry in sorted(self.layout.aside.iterdir()):
            if entry.name == COMMIT:
                continue
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                self._remove_leftover(entry)

    def _remove_leftover(self, entry: Path) -> None:
        descriptor = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            if time.time() - entry.stat().st_mtime < MAX_AGE_SECONDS:
                return
        else:
            shutil.rmtree(entry, ignore_errors=True)
            return
        finally:
            os.close(descriptor)
        shutil.rmtree(entry, ignore_errors=True)

    def _own_folder(self) -> tuple[Path, int]:
        while True:
            folder = self.layout.aside / uuid.uuid4().hex
            folder.mkdir()
            try:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue
            _lock(descriptor)
            # Another publisher may have taken it for a leftover before it was locked.
            if folder.exists():
                return folder, descriptor
            os.close(descriptor)

    @contextlib.contextmanager
    def _committing(self) -> Iterator[None]:
        with (self.layout.aside / COMMIT).open("w") as lock:
            _lock(lock.fileno())
            yield

    def _record_of(self, version: int) -> tuple[Record, str]:
        place = self.layout.record(version)
        try:
            record, own = read_record(place)
        except NotWhatWasPublished as fault:
            raise Refused(Reason.NOT_OURS, f"{place}: {fault}") from None
        if record.version != version:
            raise Refused(Reason.NOT_OURS, f"{place / RECORD} is of version {record.version}")
        return record, own


def flush(folder: Path) -> None:
    """Bring a directory's entries to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(folder: Path) -> None:
    """All directories below too, the innermost first."""
    for path, _, _ in os.walk(folder, topdown=False):
        flush(Path(path))


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
