"""One rank as a process: started, its output kept, its end understood."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, cast

from trainwright_runtime.exits import say

LINES_KEPT = 200
LINE_BYTES = 8192
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_launcher() -> None:
    """For a child, between fork and exec: end when the launcher does."""
    # A launcher that is killed outright can't stop its ranks, and they would go on writing into the workspace beside
    # those of the next attempt. In a container the kernel sees to it; without one, only this does.
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class RankProcess:
    """A rank (or, for `command`, the one program of a pod) and its log.

    It must be started before the launcher has any thread: between fork and exec of the child, Python code runs.
    """

    def __init__(self, *, rank: int, argv: tuple[str, ...], environ: Mapping[str, str], log: Path | None, echo: bool) -> None:
        self.rank = rank
        self._wait_status: int | None = None
        self.ended_at = 0.0
        self.killed_by_us = False
        self.lines: collections.deque[str] = collections.deque(maxlen=LINES_KEPT)
        self._rest = b""
        self._echo = echo
        self._log = log.open("ab", buffering=0) if log is not None else None
        self._process = subprocess.Popen(
            argv,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=die_with_launcher,  # noqa: PLW1509 - no threads yet
        )
        self.output = cast(IO[bytes], self._process.stdout)
        os.set_blocking(self.output.fileno(), False)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._wait_status is None

    @property
    def exit_code(self) -> int:
        """As a shell has it: the signal's number + 128 for a rank that was killed; 0 while it runs."""
        code = os.waitstatus_to_exitcode(self._wait_status or 0)
        return 128 - code if code < 0 else code

    @property
    def killed_by(self) -> int | None:
        """The signal that ended it, if one did."""
        status = self._wait_status or 0
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None

    def pump(self) -> bool:
        """Take what it has written so far; False at the end of its output."""
        while True:
            try:
                data = os.read(self.output.fileno(), 65536)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._keep(data)

    def ended(self, status: int) -> None:
        """It has been reaped with this wait status."""
        self._wait_status = status
        self.ended_at = time.time()
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self.pump()
        if self._rest:
            self.lines.append(self._rest.decode(errors="replace"))
            self._rest = b""

    def send(self, number: signal.Signals) -> None:
        """Signal the rank itself, as a kubelet would: what it started is its own to stop."""
        if self.is_running:
            os.kill(self.pid, number)

    def kill_group(self) -> None:
        """Kill the rank and whatever it started."""
        if self.is_running:
            self.killed_by_us = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let go of its output."""
        self.output.close()
        if self._log is not None:
            self._log.close()

    def _keep(self, data: bytes) -> None:
        if self._log is not None:
            try:
                self._log.write(data)
            except OSError as error:
                say(f"rank {self.rank}'s log is no longer kept: {error.strerror}")
                self._log.close()
                self._log = None
        if self._echo:
            try:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            except OSError:
                # Whoever read the launcher's output has gone; the training needn't.
                self._echo = False
        *complete, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-LINE_BYTES:]
        self.lines.extend(line[-LINE_BYTES:].decode(errors="replace") for line in complete)
