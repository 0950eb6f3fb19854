"""How a worker ended, in the words of the contract: which rank failed first, why, and its last lines."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainwright_runtime.exits import CAUSE_OF_EXIT, MARK, Cause, Exit, say

MESSAGE_BYTES = 4000
LINES_SHOWN = 30
LINE_CHARACTERS = 400

_RANK_PREFIX = re.compile(r"^\[rank\d+\]:\s?")
_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r'  File "(.+)", line (\d+), in ')
_NOT_THE_USERS = re.compile(r"/(site|dist)-packages/|/lib/python3|/trainwright_|^<")
_TORCHRUN = "torch.distributed.elastic."
"""Its error says that a rank failed; why is in that rank's own, further up."""
_TORCHRUN_STOPPED = f"{_TORCHRUN}multiprocessing.api.SignalException"
_PEER_LOST = re.compile(
    r"gloo.*(closed by peer|reset by peer|Broken pipe|Timed out|Connection refused|Connect timeout)"
    r"|torch\.distributed\.Dist(Backend|Network|Store)Error"
    r"|\btrainwright_runtime\.exits\.PeerLost\b"
    r"|Horovod has been shut down|JAX distributed service detected fatal errors"
    r"|tensorflow\..*UnavailableError|Collective ops is aborted by"
    r"|ncclRemoteError|NCCL communicator was aborted|remote process exited",
    re.IGNORECASE,
)
_NOT_PEER_LOST = re.compile(r"address already in use|EADDRINUSE|out of memory", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """How the worker ended."""

    rank: int
    exit_code: int
    message: str
    cause: Cause | None = None
    signal: int | None = None
    time: float = dataclasses.field(default_factory=time.time)
    lines: tuple[str, ...] = ()
    progress: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """One rank that has ended."""

    rank: int
    exit_code: int
    signal: int | None
    time: float
    lines: tuple[str, ...]
    killed_by_us: bool = False


def judge(ended: Sequence[Ended], *, stop_asked: bool) -> Verdict:
    """The verdict on a worker, all of whose ranks have ended.

    The first failure is the cause of the others; but a rank that only lost its peer may be gone before that peer is.
    """
    failed = sorted((rank for rank in ended if rank.exit_code != Exit.DONE), key=lambda rank: rank.time)
    if not failed:
        return Verdict(rank=min(rank.rank for rank in ended), exit_code=Exit.DONE, message="done")
    verdicts = [(rank, _verdict(rank, stop_asked=stop_asked)) for rank in failed]
    order = {Cause.TERMINATED: 2, Cause.PEER_LOST: 1}
    return min(verdicts, key=lambda pair: (pair[0].killed_by_us, order.get(pair[1].cause or Cause.ERROR, 0), pair[0].time))[1]


def is_peer_lost(rank: Ended) -> bool:
    """Whether this rank failed only because another one vanished."""
    return _verdict(rank, stop_asked=False).cause is Cause.PEER_LOST


def _verdict(rank: Ended, *, stop_asked: bool) -> Verdict:
    reserved = None if rank.signal is not None else CAUSE_OF_EXIT.get(rank.exit_code)
    error = _own_last_word(rank.lines) if reserved is not None else _last_error(rank.lines)
    text = "\n".join(error)
    cause, exit_code = reserved or Cause.ERROR, rank.exit_code
    message = error[0] if error else f"exit code {rank.exit_code}, nothing written"
    if rank.signal is not None:
        message = f"killed by {signal.Signals(rank.signal).name}"
        if stop_asked and rank.signal == signal.SIGTERM:
            cause = Cause.TERMINATED
        elif rank.signal == signal.SIGABRT and _PEER_LOST.search("\n".join(rank.lines)):
            cause = Cause.PEER_LOST
    elif stop_asked and _TORCHRUN_STOPPED in text:
        # torchrun tells its ranks to stop, waits for them, and then makes an error of it.
        cause, exit_code = Cause.TERMINATED, Exit.TERMINATED
    elif cause is Cause.ERROR and _PEER_LOST.search(text) and not _NOT_PEER_LOST.search(text):
        cause = Cause.PEER_LOST
    return Verdict(
        rank=rank.rank, exit_code=exit_code, message=message, cause=cause, signal=rank.signal, time=rank.time, lines=rank.lines
    )


def _own_last_word(lines: Sequence[str]) -> list[str]:
    """The last line that the runtime itself wrote."""
    return [line.removeprefix(MARK) for line in lines if line.startswith(MARK)][-1:]


def _last_error(lines: Sequence[str]) -> list[str]:
    """The exception that ended the program and what follows it; without one, the last line."""
    plain = [_RANK_PREFIX.sub("", line) for line in lines if line.strip()]
    of_torchrun: list[str] = []
    for start in range(len(plain) - 1, -1, -1):
        if plain[start] == _TRACEBACK and (raised := [line for line in plain[start + 1 :] if not line.startswith(" ")]):
            if not raised[0].startswith(_TORCHRUN):
                return [raised[0] + _called_in(plain[start + 1 :]), *raised[1:]]
            of_torchrun = of_torchrun or raised
    return of_torchrun or plain[-1:]


def _called_in(traceback: Sequence[str]) -> str:
    """The line of the user's that led there, when the error comes from within a library, whose frames hide it."""
    frames = [(frame[1], frame[2]) for line in traceback if (frame := _FRAME.match(line))]
    own = [frame for frame in frames if not _NOT_THE_USERS.search(frame[0])]
    return f", called in {Path(own[-1][0]).name}, line {own[-1][1]}" if own and own[-1] != frames[-1] else ""


def write_termination_message(verdict: Verdict, path: str | None) -> None:
    """Leave the verdict where the kubelet picks it up, cut to what it takes."""
    if not path:
        return
    try:
        Path(path).write_bytes(encode(verdict))
    except OSError as error:
        say(f"termination message could not be written to {path}: {error.strerror}")


def encode(verdict: Verdict) -> bytes:
    """The termination message, at most MESSAGE_BYTES long: the oldest lines go first.

    A success leaves its last progress, and any other end its newest checkpoint, which may have been written on the way out:
    whoever asks /progress now and then has missed it.
    """
    if verdict.exit_code == Exit.DONE:
        encoded = json.dumps({"progress": verdict.progress}).encode()
        return encoded if len(encoded) <= MESSAGE_BYTES else b"{}"
    lines = [line[:LINE_CHARACTERS] for line in verdict.lines[-LINES_SHOWN:]]
    while True:
        content = {
            "rank": verdict.rank,
            "exitCode": verdict.exit_code,
            "signal": verdict.signal,
            "time": round(verdict.time, 3),
            "cause": verdict.cause,
            "message": verdict.message[:LINE_CHARACTERS],
            "checkpoint": verdict.progress.get("checkpoint"),
            "lines": lines,
        }
        encoded = json.dumps(content, ensure_ascii=False).encode(errors="replace")
        if len(encoded) <= MESSAGE_BYTES or not lines:
            return encoded
        lines = lines[1:]
