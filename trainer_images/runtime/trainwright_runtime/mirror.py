"""`python -m trainwright_runtime.mirror`: keeps a job's folder in object storage as its workspace is, while the ranks train.

A process of its own beside them, started by the launcher: a slow store must not slow a step, nor a fault of its client end a
rank. A sealed directory goes up as soon as it is sealed, its manifest last; other files once they have been still for a while.
The end of its standard input asks for the last pass: everything goes up, then it ends with 0; with 1 when the store would not
have it.
What is known to have arrived stands in the status file, which `/progress` shows in place of what lies on this pod's disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainwright_runtime.checkpoint import Superseded
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.exits import say
from trainwright_runtime.launch.status import MIRROR
from trainwright_runtime.remote import CHECKPOINTS, RemoteWorkspace, StorageError, said
from trainwright_runtime.sealed import MANIFEST, Damaged, Incomplete, parse_seal, read_seal

LOOK_SECONDS = 1.0
LOOSE_SECONDS = 15.0
"""How long a file that is no part of a sealed directory rests between two uploads."""
STILL_SECONDS = 2.0
GIVE_UP_SECONDS = 90.0
"""How long the last pass goes on without a single file arriving."""
MAX_PAUSE_SECONDS = 15.0

_STEP = re.compile(r"step-(\d+)")
_FETCHED = "data"
"""The folder of the workspace whose content came from elsewhere."""


class Mirror:
    """One worker's workspace and the job's folder. Worker 0 keeps everything there; the others their logs."""

    def __init__(self, remote: RemoteWorkspace, environment: RankEnvironment, workspace: Path) -> None:
        self._remote = remote
        self._environment = environment
        self._workspace = workspace
        self._sealed: dict[str, bytes] = {}
        self._loose: dict[str, tuple[int, int]] = {}
        self._sent_loose = 0.0
        self.arrived = time.monotonic()
        self.checkpoint: dict[str, Any] | None = None

    def one_pass(self, *, last: bool) -> None:
        """Send what has changed. Raises `Superseded` or StorageError; what was sent is remembered."""
        self._send_sealed()
        now = time.monotonic()
        if last or now - self._sent_loose >= LOOSE_SECONDS:
            self._send_loose(last=last)
            self._sent_loose = now

    def _send_sealed(self) -> None:
        if self._environment.worker_index:
            return
        for name in self._directories():
            try:
                if self._sealed.get(name) == (self._workspace / name / MANIFEST).read_bytes():
                    continue
                with self._held(name) as path:
                    seal = (path / MANIFEST).read_bytes()
                    if not self._is_there(name, seal):
                        self._remote.put_sealed(path, name)
            except (FileNotFoundError, Damaged):
                continue  # pruned, or replaced, while it was looked at: its successor comes with the next look
            self._sealed[name] = seal
            self.arrived = time.monotonic()
            self._note(name)
            if (step := _step(name)) is not None:
                self._prune(step)

    def _is_there(self, name: str, seal: bytes) -> bool:
        """Whether it came from the store, or was sent by a mirror before this one."""
        try:
            return self._remote.seal(name) == parse_seal(seal)
        except (Incomplete, Damaged):
            return False

    @contextlib.contextmanager
    def _held(self, name: str) -> Iterator[Path]:
        """The directory's files under other names: one that is pruned while it goes up would never arrive."""
        aside = self._workspace / f".sending-{os.getpid()}"
        shutil.rmtree(aside, ignore_errors=True)
        try:
            shutil.copytree(self._workspace / name, aside, copy_function=os.link)
            yield aside
        except shutil.Error as error:
            raise FileNotFoundError(name) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _send_loose(self, *, last: bool) -> None:
        for name, mark in list(self._files()):
            still = last or time.time_ns() - mark[1] >= STILL_SECONDS * 1e9 or name.startswith("logs/")
            if self._loose.get(name) == mark or not still:
                continue
            try:
                self._remote.put_file(self._workspace / name, name)
            except FileNotFoundError:
                continue
            self._loose[name] = mark
            self.arrived = time.monotonic()

    def _prune(self, written: int) -> None:
        """Keep as many checkpoints as the workspace does, by the same rule; what was never completed goes too."""
        kept = 0
        policy = self._environment.checkpoint
        for step in self._remote.steps():
            if step > written:
                continue
            name = f"{CHECKPOINTS}/step-{step}"
            try:
                seal = self._remote.seal(name)
            except Incomplete:
                self._remote.remove(name)
                continue
            except Damaged:
                continue
            if policy.resume == "Never" and seal.get("uid") != self._environment.uid:
                continue
            kept += 1
            if kept > policy.keep:
                self._remote.remove(name)

    def _directories(self) -> list[str]:
        """Sealed directories; of the checkpoints only the newest: what it has overtaken needn't go up any more."""
        found = [name for name, sealed in self._walk() if sealed]
        steps = sorted((step, name) for name in found if (step := _step(name)) is not None)
        return [name for name in found if _step(name) is None] + [name for _, name in steps[-1:]]

    def _files(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Other files, each with a mark that changes when it does: size in bytes and time of change in ns."""
        for folder, sealed in self._walk("logs" if self._environment.worker_index else ""):
            if sealed:
                continue
            for entry in os.scandir(self._workspace / folder):
                name = f"{folder}/{entry.name}".lstrip("/")
                if entry.is_file(follow_symlinks=False) and not entry.name.startswith("."):
                    facts = entry.stat(follow_symlinks=False)
                    yield name, (facts.st_size, facts.st_mtime_ns)

    def _walk(self, below: str = "") -> Iterator[tuple[str, bool]]:
        """Folders of the workspace by name, and whether each is sealed: nothing below such a one is visited."""
        for place, folders, files in os.walk(self._workspace / below):
            name = "" if place == str(self._workspace) else os.path.relpath(place, self._workspace)
            sealed = MANIFEST in files and _is_sealed(Path(place))
            folders[:] = [one for one in folders if not (sealed or one.startswith(".") or (not name and one == _FETCHED))]
            yield name, sealed

    def _note(self, name: str) -> None:
        if (step := _step(name)) is None:
            return
        manifest = json.loads(self._sealed[name])
        self.checkpoint = {"step": step, "time": manifest.get("time"), "path": f"{self._remote.uri}/{name}"}


def _step(name: str) -> int | None:
    folder, _, last = name.rpartition("/")
    match = _STEP.fullmatch(last) if folder == CHECKPOINTS else None
    return int(match[1]) if match else None


def _is_sealed(path: Path) -> bool:
    try:
        read_seal(path)
    except (Incomplete, Damaged):
        return False
    return True


def main() -> None:
    """Mirror until asked to stop, then until all has arrived."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    stop = threading.Event()
    threading.Thread(target=_await_end_of_input, args=(stop,), name="trainwright-asked", daemon=True).start()
    environment = RankEnvironment.read()
    remote = RemoteWorkspace.of(environment)
    if remote is None or environment.workspace is None:
        raise SystemExit("mirror: TRAINWRIGHT_WORKSPACE_URI and TRAINWRIGHT_WORKSPACE say what to keep where")
    sys.exit(_mirror(Mirror(remote, environment, environment.workspace), environment.status_dir, stop))


def _await_end_of_input(stop: threading.Event) -> None:
    sys.stdin.buffer.read()
    stop.set()


def _mirror(mirror: Mirror, status_dir: Path | None, stop: threading.Event) -> int:
    fault, pause = "", LOOK_SECONDS
    _tell(status_dir, mirror, fault)
    while True:
        last = stop.is_set()
        try:
            mirror.one_pass(last=last)
        except Superseded as over:
            _tell(status_dir, mirror, str(over))
            return 1
        except StorageError as error:
            if str(error) != fault:
                say(f"not in object storage yet: {error}; trying on")
            fault, pause = str(error), min(2 * pause, MAX_PAUSE_SECONDS)
        except OSError as error:
            fault, pause = said(error), min(2 * pause, MAX_PAUSE_SECONDS)
            say(f"the workspace can't be read: {fault}; trying on")
        else:
            if fault:
                say("object storage has everything again")
            fault, pause = "", LOOK_SECONDS
        _tell(status_dir, mirror, fault)
        if last and not fault:
            return 0
        if last and time.monotonic() - mirror.arrived > GIVE_UP_SECONDS:
            return 1
        if not last:
            if stop.wait(pause):
                # From here the patience of the last pass counts.
                mirror.arrived = time.monotonic()
        else:
            time.sleep(pause)


def _tell(status_dir: Path | None, mirror: Mirror, fault: str) -> None:
    if status_dir is None:
        return
    beside = status_dir / f".{MIRROR}.tmp"
    beside.write_text(json.dumps({"checkpoint": mirror.checkpoint, "fault": fault}))
    beside.rename(status_dir / MIRROR)


if __name__ == "__main__":
    main()
