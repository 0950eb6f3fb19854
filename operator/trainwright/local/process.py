"""One container as a process: started in a session of its own, ended with everything it started, found again by a new agent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from trainwright.local import shim
from trainwright.local.cgroups import Groups, clear, noted

# Marks every process of a pod, so that one which left its session is still found.
MARK = "TRAINWRIGHT_PROCESS_NODE_POD"
MEMORY_WATCH_SECONDS = 0.25
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Ended:
    """How a container ended. `code` is a kubelet's: 128 + n for signal n. `error`: why it could not even be started."""

    code: int
    error: str = ""
    out_of_memory: bool = False


class ContainerProcess:
    """`mark` is the pod's uid, `folder` where the container's result is left, `memory` its limit in bytes."""

    def __init__(self, pid: int, *, mark: str, folder: Path, memory: float | None, started: str) -> None:
        self.pid = pid
        self.started = started
        self._mark = mark
        self._folder = folder
        self._memory = memory
        # Also that of a container which an earlier agent started: it stays in force, whatever this agent would do.
        self._group = noted(folder)
        self._child: asyncio.subprocess.Process | None = None

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        mark: str,
        folder: Path,
        started: str,
        memory: float | None = None,
        groups: Groups | None = None,
    ) -> ContainerProcess:
        """Start it, output to the end of `log`; in a cgroup of its own where `groups` says where."""
        folder.mkdir(parents=True, exist_ok=True)
        _result(folder).unlink(missing_ok=True)
        group = groups.make(f"{mark}-{folder.name}", limit=memory, note=folder) if groups else None
        entrance = str(group.procs) if group else ""
        with log.open("ab") as output:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", shim.__file__, str(_result(folder)), entrance, *command),
                env={**env, MARK: mark},
                cwd=cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        process = cls(child.pid, mark=mark, folder=folder, memory=memory, started=started)
        process._child = child
        with contextlib.suppress(psutil.Error):
            facts = {"pid": child.pid, "created": psutil.Process(child.pid).create_time(), "started": started, "memory": memory}
            _started(folder).write_text(json.dumps(facts))
        return process

    @classmethod
    def left_behind(cls, folder: Path, mark: str) -> ContainerProcess | None:
        """The container that an earlier agent started here, whether it still runs or has left its result; None if neither."""
        try:
            facts = json.loads(_started(folder).read_text())
        except (OSError, ValueError):
            return None
        process = cls(facts["pid"], mark=mark, folder=folder, memory=facts["memory"], started=facts["started"])
        return process if process._is_alive(facts["created"]) or _result(folder).exists() else None

    async def wait(self) -> Ended:
        """Its end; by then nothing of it is left, as in a container whose first process has ended."""
        watch = asyncio.create_task(self._watch_memory())
        try:
            if self._child is not None:
                await self._child.wait()
            else:
                await self._left()
            too_much = watch.done() and not watch.cancelled() and watch.exception() is None
        finally:
            watch.cancel()
        await asyncio.to_thread(kill_marked, self._mark, self.pid)
        if self._group is not None:
            too_much = too_much or self._group.out_of_memory()
            await asyncio.to_thread(self._group.remove)
        if too_much:
            return Ended(128 + signal.SIGKILL, out_of_memory=True)
        try:
            said = json.loads(_result(self._folder).read_text())
        except (OSError, ValueError):
            # The parent was killed with the rest, so nobody learned the code; or asked to end before it had begun.
            early = self._child is not None and self._child.returncode == -signal.SIGTERM
            said = {"code": 128 + (signal.SIGTERM if early else signal.SIGKILL)}
        return Ended(said["code"], said.get("error", ""))

    def terminate(self) -> None:
        """SIGTERM to the first process alone: it is the one that knows what to do."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _is_alive(self, created: float) -> bool:
        try:
            return abs(psutil.Process(self.pid).create_time() - created) < 0.01 and self._is_running()
        except psutil.Error:
            return False

    async def _left(self) -> None:
        """Return when a container that is no child of this process has ended."""
        while True:
            if _result(self._folder).exists() or not self._is_running():
                return
            await asyncio.sleep(POLL_SECONDS)

    def _is_running(self) -> bool:
        try:
            return psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    async def _watch_memory(self) -> None:
        """Return when the container has had more than its limit, having killed all of it.

        In a group the kernel sees to the limit, and may have killed one process only.
        """
        while True:
            await asyncio.sleep(MEMORY_WATCH_SECONDS)
            if self._group is not None:
                too_much = self._group.out_of_memory()
            else:
                too_much = self._memory is not None and await asyncio.to_thread(self._used) > self._memory
            if too_much:
                self.kill()
                return

    def _used(self) -> int:
        """Bytes that are the container's alone: what its processes share with files counts for nobody."""
        used = 0
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    memory = process.memory_info()
                    used += memory.rss - memory.shared
        return used


def end_pod(folder: Path, session: int | None = None) -> None:
    """Kill what is left of the pod whose folder this is, and remove the cgroups of its containers."""
    kill_marked(folder.name, session)
    clear(folder.glob("containers/*"))


def kill_marked(mark: str, session: int | None = None) -> None:
    """Kill what is left of a pod: its session, where that is known, and whatever of it has moved out of it."""
    if session is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(session, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while (left := marked(mark)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.02)


def marked(mark: str) -> list[psutil.Process]:
    """Living processes that belong to a pod."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                found.append(process)
    return found


def _result(folder: Path) -> Path:
    return folder / "result.json"


def _started(folder: Path) -> Path:
    return folder / "started.json"
