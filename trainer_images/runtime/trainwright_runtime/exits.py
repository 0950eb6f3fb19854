"""How a worker ends: the exit codes and causes that `docs/contract.md` reserves."""

from __future__ import annotations

import enum
import sys
from typing import NoReturn


class Exit(enum.IntEnum):
    """Exit codes with a meaning of ours; every other code is the program's own."""

    DONE = 0
    INVALID_CONFIG = 64
    NO_CHECKPOINT = 65
    PREFLIGHT = 66
    HUNG = 67
    TERMINATED = 143


class Cause(enum.StrEnum):
    """The `cause` of a termination message."""

    ERROR = "Error"
    INVALID_CONFIG = "InvalidConfig"
    NO_CHECKPOINT = "NoCheckpoint"
    PREFLIGHT = "Preflight"
    HUNG = "Hung"
    TERMINATED = "Terminated"
    PEER_LOST = "PeerLost"


CAUSE_OF_EXIT: dict[int, Cause] = {
    Exit.INVALID_CONFIG: Cause.INVALID_CONFIG,
    Exit.NO_CHECKPOINT: Cause.NO_CHECKPOINT,
    Exit.PREFLIGHT: Cause.PREFLIGHT,
    Exit.HUNG: Cause.HUNG,
    Exit.TERMINATED: Cause.TERMINATED,
}


class PeerLost(Exception):
    """Another worker of the gang is gone; what it died of is told by itself, and the operator looks there."""


MARK = "trainwright: "
"""Starts each line that the runtime itself writes into a log, so that it is told from the program's own."""


def say(message: str) -> None:
    """Write one line of the runtime's own into this process's log."""
    sys.stderr.write(f"{MARK}{message}\n")
    sys.stderr.flush()


def leave(code: Exit, message: str) -> NoReturn:
    """Say why, then end this process with a reserved code.

    SystemExit rather than an exception of ours: it gives the right code in every program, ours or a user's, and
    `except Exception` in that program lets it pass.
    """
    say(message)
    raise SystemExit(int(code))
