"""Processes that outlive the command that started them, known by pid and start time in a file of the twin's state.

A pid alone is no proof: it may have been given to another process since.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

_LOG_TAIL_LINES = 15


@dataclass(frozen=True)
class Record:
    """`started`: the process's start time as the system counts it, in seconds since the epoch."""

    pid: int
    started: float


class Processes:
    """The processes of one twin; `state` is a folder for the table and the logs."""

    def __init__(self, state: Path) -> None:
        self._table = state / "processes.json"
        self._logs = state / "logs"

    def start(self, name: str, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> None:
        """Start a process of its own session, unless it runs; its output goes to a log file."""
        if self.alive(name):
            return
        self._logs.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(env) if env is not None else None,
                start_new_session=True,
            )
        self._record(name, Record(process.pid, psutil.Process(process.pid).create_time()))

    def alive(self, name: str) -> bool:
        return self.process(name) is not None

    def process(self, name: str) -> psutil.Process | None:
        """The running process of that name, if it is still the one that was started."""
        record = self._records().get(name)
        if record is None:
            return None
        try:
            process = psutil.Process(record.pid)
            same = abs(process.create_time() - record.started) < 0.05
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None

    def listens(self, name: str, port: int) -> bool:
        """Whether that process itself, not just anybody, has a TCP port open."""
        process = self.process(name)
        try:
            sockets = process.net_connections(kind="tcp") if process else []
        except psutil.Error:
            return False
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in sockets)

    def names(self) -> list[str]:
        return list(self._records())

    def stop(self, name: str, *, grace: float) -> None:
        """TERM to the whole session, after `grace` seconds KILL; returns when it is gone. Zero grace kills at once."""
        process = self.process(name)
        if process is not None:
            if grace:
                with contextlib.suppress(psutil.Error):
                    process.terminate()
                _gone(process, grace)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            _gone(process, 10.0)
        records = self._records()
        if records.pop(name, None) is not None:
            self._write(records)

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def tail(self, name: str) -> str:
        """The end of a process's log, for an error message."""
        try:
            lines = self.log(name).read_text(errors="replace").splitlines()
        except OSError:
            return "(no log)"
        return "\n".join(lines[-_LOG_TAIL_LINES:])

    def _record(self, name: str, record: Record) -> None:
        self._write({**self._records(), name: record})

    def _records(self) -> dict[str, Record]:
        try:
            return {name: Record(**fields) for name, fields in json.loads(self._table.read_text()).items()}
        except (OSError, ValueError, TypeError):
            return {}

    def _write(self, records: Mapping[str, Record]) -> None:
        aside = self._table.with_suffix(".part")
        aside.write_text(json.dumps({name: asdict(record) for name, record in records.items()}))
        aside.rename(self._table)


def _gone(process: psutil.Process, within: float) -> bool:
    """Wait for a process's end. A zombie has ended: whether its parent reaps it is not our business."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError, OSError):
            os.waitpid(process.pid, os.WNOHANG)
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.Error:
            return True
        time.sleep(0.02)
    return False
