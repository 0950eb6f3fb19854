"""Stands between the agent and a container's process: `python shim.py RESULT GROUP COMMAND…`.

The agent may die while its pods run. Somebody has to learn the exit code of a process, and only its parent can; so this small
parent stays, passes SIGTERM on, and leaves `RESULT` as {"code": 128 + n for signal n} or, where nothing could be started,
{"code": 128, "error": "…"}. `GROUP` is the file by which the command enters its
cgroup, before it begins; empty where it has none. Uses the standard library alone, so that it starts in some milliseconds.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from types import FrameType

START_ERROR = 128


def main() -> None:
    """Run the command to its end and write down how it ended."""
    result, group, *command = sys.argv[1:]
    child: subprocess.Popen[bytes] | None = None
    asked = False

    def forward(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        if child is not None:
            child.terminate()

    signal.signal(signal.SIGTERM, forward)
    try:
        child = subprocess.Popen(command, preexec_fn=_entering(group) if group else None)  # noqa: PLW1509 - it has one thread
    except (OSError, subprocess.SubprocessError) as error:
        _write(result, {"code": START_ERROR, "error": f"{command[0]}: {getattr(error, 'strerror', None) or error}"})
        return
    if asked:
        child.terminate()
    code = child.wait()
    _write(result, {"code": code if code >= 0 else 128 - code})


def _entering(group: str) -> Callable[[], object]:
    # This process stays outside: it is no part of the container, and has to survive it.
    door = os.open(group, os.O_WRONLY)
    return lambda: os.write(door, b"0")


def _write(path: str, facts: dict[str, object]) -> None:
    # A program may have removed what it found around it.
    os.makedirs(os.path.dirname(path), exist_ok=True)
    beside = f"{path}.tmp"
    with open(beside, "w") as stream:
        json.dump(facts, stream)
    os.replace(beside, path)


if __name__ == "__main__":
    main()
