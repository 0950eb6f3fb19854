"""The watcher's process, and what is said to it: it looks into bodies so that the process that serves clients needn't.

Parsing a large body takes many milliseconds in which no other request would move; here that costs none. Frames (`frames.py`)
come in by standard input; answers go out as lines of JSON. It ends with its input.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import IO, Any

from trainwright_gateway import frames
from trainwright_gateway.labels import Refused
from trainwright_gateway.sync import parse
from trainwright_gateway.watching import Watching

NICE = 10

log = logging.getLogger(__name__)


def main() -> None:
    """`python -m trainwright_gateway.watcher SERVER MODELS`."""
    # Who stops the gateway stops this by closing its input.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(NICE)
    watching = Watching(sys.argv[1], Path(sys.argv[2]))
    with contextlib.suppress(BrokenPipeError):
        _serve(watching, sys.stdin.buffer, sys.stdout.buffer)


def _serve(watching: Watching, source: IO[bytes], sink: IO[bytes]) -> None:
    while (found := frames.read(source)) is not None:
        answer = _do(watching, *found)
        if answer is not None:
            sink.write(json.dumps(answer).encode() + b"\n")
            sink.flush()


def _do(watching: Watching, head: dict[str, Any], first: bytes, second: bytes) -> dict[str, Any] | None:
    match head["do"]:
        case "sync":
            watching.follow(parse(first))
        case "sample":
            asked = first if head["inputs"] else None
            try:
                watching.sample(head["version"], head["window"], head["id"], head["time"], asked, second)
            except Exception:
                # What a client can send is without end, and one body mustn't end the watching of all others.
                log.exception("request %s can't be looked into", head["id"])
        case "label":
            try:
                return {"to": head["to"], "status": 200, "rows": watching.label(head["id"], json.loads(first))}
            except Refused as refused:
                return {"to": head["to"], "status": refused.status, "result": refused.result, "error": str(refused)}
        case "report":
            return {"to": head["to"], **watching.report()}
    return None


if __name__ == "__main__":
    main()
