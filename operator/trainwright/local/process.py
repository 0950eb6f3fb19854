"""One container as a process: started in a session of its own, ended with everything it started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

# Marks every process of a pod, so that one which left its session is still found.
MARK = "TRAINWRIGHT_PROCESS_NODE_POD"


class ContainerProcess:
    """`mark` is the pod's uid. Exit codes are a kubelet's: 128 + n for signal n."""

    def __init__(self, process: asyncio.subprocess.Process, mark: str) -> None:
        self._process = process
        self._mark = mark
        self.pid = process.pid

    @classmethod
    async def start(cls, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path, mark: str) -> ContainerProcess:
        """Start it, output to the end of `log`. Raises OSError when it can't be started."""
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                env={**env, MARK: mark},
                cwd=cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return cls(process, mark)

    async def wait(self) -> int:
        """The exit code; by then nothing of the pod is left, as in a container whose first process has ended."""
        code = await self._process.wait()
        await asyncio.to_thread(kill_marked, self._mark, self.pid)
        return code if code >= 0 else 128 - code

    def terminate(self) -> None:
        """SIGTERM to the first process alone: it is the one that knows what to do."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


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
