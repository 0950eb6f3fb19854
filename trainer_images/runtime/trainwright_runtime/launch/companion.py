"""A process of ours beside the ranks, as the supervisor sees it: what keeps the workspace in object storage (`mirror.py`), or
where the gang meets (`horovod/rendezvous.py`).

Each is a module that works until its standard input ends. A signal would not do: it could come before there is a handler for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import IO, cast

from trainwright_runtime.launch.ranks import die_with_launcher


class Companion:
    """Started with the ranks, before the launcher has threads; reaped by whoever reaps those.

    `ended_first`: it was over while ranks still ran, and they can't go on without it.
    """

    def __init__(self, module: str, environ: Mapping[str, str]) -> None:
        self.module = module
        self.exit_code: int | None = None
        self.ended_first = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            env=environ,
            stdin=subprocess.PIPE,
            process_group=0,
            preexec_fn=die_with_launcher,  # noqa: PLW1509 - no threads yet
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self, status: int) -> None:
        """It has been reaped with this wait status."""
        self.exit_code = self._process.returncode = os.waitstatus_to_exitcode(status)

    def finish(self) -> None:
        """Ask it to end."""
        cast(IO[bytes], self._process.stdin).close()

    def kill(self) -> None:
        """End it where it is, if it still runs."""
        if self.exit_code is None:
            self._process.kill()
