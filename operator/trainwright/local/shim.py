"""Stands between the agent and a container's process: `python shim.py RESULT COMMAND…`.

The agent may die while its pods run. Somebody has to learn the exit code of a process, and only its parent can; so this small
parent stays, passes SIGTERM on, and leaves `RESULT` as {"code": 128 + n for signal n} or, where nothing could be started,
{"code": 128, "error": "…"}. Uses the standard library alone, so that it starts in some milliseconds.
"""

import json
import os
import signal
import subprocess
import sys
from types import FrameType

START_ERROR = 128


def main() -> None:
    """Run the command to its end and write down how it ended."""
    result, *command = sys.argv[1:]
    child: subprocess.Popen[bytes] | None = None
    asked = False

    def forward(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        if child is not None:
            child.terminate()

    signal.signal(signal.SIGTERM, forward)
    try:
        child = subprocess.Popen(command)
    except OSError as error:
        _write(result, {"code": START_ERROR, "error": f"{command[0]}: {error.strerror or error}"})
        return
    if asked:
        child.terminate()
    code = child.wait()
    _write(result, {"code": code if code >= 0 else 128 - code})


def _write(path: str, facts: dict[str, object]) -> None:
    # A program may have removed what it found around it.
    os.makedirs(os.path.dirname(path), exist_ok=True)
    beside = f"{path}.tmp"
    with open(beside, "w") as stream:
        json.dump(facts, stream)
    os.replace(beside, path)


if __name__ == "__main__":
    main()
