"""Starts the ranks of one pod and sees them to their end.

One loop, woken by output, by signals and by deadlines. What it guarantees: every child is reaped, whoever its parent was; no
rank outlives the one that failed by more than a few seconds; and the launcher ends only when all ranks have.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.exits import Cause, Exit, say
from trainwright_runtime.launch.companion import Companion
from trainwright_runtime.launch.hang import hanging
from trainwright_runtime.launch.identity import rank_variables
from trainwright_runtime.launch.preflight import PeerWatch, interface_of
from trainwright_runtime.launch.program import InvalidProgram, Program
from trainwright_runtime.launch.ranks import RankProcess
from trainwright_runtime.launch.status import progress, read_mirror, read_statuses
from trainwright_runtime.launch.verdict import Ended, Verdict, is_peer_lost, judge
from trainwright_runtime.progress import DUMP_SIGNAL

SETTLE_SECONDS = 1.0
"""After a rank has lost its peer: how long that peer gets to end by itself, so that its own error is seen."""

HANG_LOOK_SECONDS = 1.0
DUMP_SECONDS = 2.0
"""For ranks that hang to write where they are."""

KILL_SECONDS = 5.0
"""From SIGTERM to SIGKILL for ranks that a failed one leaves behind."""

PR_SET_CHILD_SUBREAPER = 36
MIRROR = "trainwright_runtime.mirror"


class Supervisor:
    """The ranks of one worker, from start to verdict."""

    def __init__(
        self, program: Program, environment: RankEnvironment, *, peer_timeout: float, beside: Sequence[str] = ()
    ) -> None:
        self._program = program
        self._beside = beside
        self._environment = environment
        self._peer_timeout = peer_timeout
        self._ranks: list[RankProcess] = []
        self._stop_asked = False
        self._silence: str | None = None
        self._hang: tuple[int, str] | None = None
        self._look_at = 0.0
        self._status_dir = Path()
        self._companions: list[Companion] = []
        self._terminate_at: float | None = None
        self._kill_at: float | None = None
        self._selector = selectors.DefaultSelector()
        self._wake_up, self._wake_up_write = socket.socketpair()
        for end in (self._wake_up, self._wake_up_write):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake_up_write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda _signal, _frame: None)
        self._selector.register(self._wake_up, selectors.EVENT_READ)
        if os.getpid() != 1:
            # What a rank leaves orphaned then comes to us, as it does to the first process of a container.
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)

    def run(self) -> Verdict:
        """Start, watch, judge."""
        status_dir = self._status_dir = Path(tempfile.mkdtemp(prefix="trainwright-"))
        try:
            self._start(status_dir)
            self._serve(status_dir)
            self._watch_peer()
            while any(rank.is_running for rank in self._ranks):
                self._turn()
            verdict = self._after_companions(self._verdict(), status_dir)
            return dataclasses.replace(verdict, progress=progress(read_statuses(status_dir)))
        finally:
            for rank in self._ranks:
                rank.kill_group()
                rank.close()
            for companion in self._companions:
                companion.kill()
            self._reap()
            shutil.rmtree(status_dir, ignore_errors=True)

    def _start(self, status_dir: Path) -> None:
        environment = self._environment
        count = environment.nproc if self._program.once_a_rank else 1
        shared = dict(os.environ) | {"PYTHONUNBUFFERED": "1", "TRAINWRIGHT_STATUS_DIR": str(status_dir)}
        if "GLOO_SOCKET_IFNAME" not in shared and (interface := interface_of(environment.pod_ip)) is not None:
            shared["GLOO_SOCKET_IFNAME"] = interface
        if count > 1 and "OMP_NUM_THREADS" not in shared:
            shared["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // count))
        logs = self._log_directory()
        for local_rank in range(count):
            own = rank_variables(environment, shared, local_rank=local_rank, count=count)
            rank = int(own["RANK"])
            log = logs / f"rank-{rank}.log" if logs is not None else None
            try:
                process = RankProcess(rank=rank, argv=self._program.argv, environ=shared | own, log=log, echo=local_rank == 0)
            except OSError as error:
                raise InvalidProgram(f"{self._program.argv[0]} can't be started: {error.strerror}") from None
            self._ranks.append(process)
            self._selector.register(process.output, selectors.EVENT_READ, process)
        modules = list(self._beside) if environment.worker_index == 0 else []
        if environment.workspace_uri is not None:
            modules.append(MIRROR)
        self._companions = [Companion(module, shared) for module in modules]

    def _after_companions(self, verdict: Verdict, status_dir: Path) -> Verdict:
        """The verdict once those beside the ranks are done; with an object store, when everything has arrived there, or won't."""
        for companion in self._companions:
            companion.finish()
        while any(companion.exit_code is None for companion in self._companions):
            self._turn()
        for companion in self._companions:
            if companion.exit_code == Exit.DONE and not companion.ended_first:
                continue
            fault = f"{companion.module} ended with {companion.exit_code}"
            if companion.module == MIRROR:
                fault = f"the results could not be kept: {(read_mirror(status_dir) or {}).get('fault') or fault}"
            say(fault)
            if verdict.exit_code == Exit.DONE or companion.ended_first:
                return Verdict(rank=verdict.rank, exit_code=1, cause=Cause.ERROR, message=fault, lines=verdict.lines)
        return verdict

    def _log_directory(self) -> Path | None:
        if self._environment.workspace is None:
            return None
        directory = self._environment.workspace / "logs" / f"attempt-{self._environment.attempt}"
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def _serve(self, status_dir: Path) -> None:
        port = self._environment.metrics_port
        if port is None:
            return
        # Loading this takes longer than starting the ranks, which don't need it.
        from trainwright_runtime.launch.server import serve  # noqa: PLC0415

        try:
            serve(self._environment.pod_ip, port, status_dir)
        except OSError as error:
            address = f"{self._environment.pod_ip}:{port}"
            say(f"no /metrics and /progress: {address} can't be served ({error.strerror}); training goes on")

    def _watch_peer(self) -> None:
        if self._environment.worker_index == 0:
            return

        def on_silence(verdict: str) -> None:
            self._silence = verdict
            self._wake_up_write.send(b"\0")

        PeerWatch(self._environment, deadline_seconds=self._peer_timeout, on_silence=on_silence).start()

    def _turn(self) -> None:
        """Wait for the next thing to happen, and deal with it."""
        for key, _ in self._selector.select(self._seconds_to_deadline()):
            if key.data is not None:
                if not key.data.pump():
                    self._selector.unregister(key.fileobj)
                continue
            for number in self._wake_up.recv(4096):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._forward_stop()
        self._reap()
        self._face_silence()
        self._face_hang()
        self._enforce_deadlines()

    def _seconds_to_deadline(self) -> float | None:
        deadlines = [at for at in (self._terminate_at, self._kill_at) if at is not None]
        left = [max(0.0, min(deadlines) - time.monotonic())] if deadlines else []
        looks = [HANG_LOOK_SECONDS] if self._environment.progress_deadline and not deadlines else []
        return min([*left, *looks], default=None)

    def _forward_stop(self) -> None:
        # No deadline from here: how long a checkpoint may take is for the pod's termination grace to say.
        self._stop_asked = True
        for rank in self._ranks:
            rank.send(signal.SIGTERM)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for companion in self._companions:
                if companion.pid == pid:
                    self._companion_ended(companion, status)
            for rank in self._ranks:
                if rank.pid == pid:
                    rank.ended(status)
                    self._one_ended(rank)

    def _companion_ended(self, companion: Companion, status: int) -> None:
        companion.ended(status)
        if any(rank.is_running for rank in self._ranks) and self._terminate_at is None and self._kill_at is None:
            companion.ended_first = True
            self._terminate_at = time.monotonic()

    def _one_ended(self, rank: RankProcess) -> None:
        # A rank that left with 143 did so together with all others: they are writing the checkpoint, and need no push.
        left_in_order = rank.exit_code == Exit.TERMINATED and (rank.killed_by is None or self._stop_asked)
        if rank.exit_code == Exit.DONE or left_in_order:
            return
        if self._terminate_at is None and self._kill_at is None:
            self._terminate_at = time.monotonic() + (SETTLE_SECONDS if is_peer_lost(_ended(rank)) else 0.0)

    def _face_silence(self) -> None:
        if self._silence is None or self._kill_at is not None:
            return
        if self._program.meets_at_once:
            say(f"pre-flight failed: {self._silence}")
            self._terminate_at = time.monotonic()
        else:
            say(f"{self._silence}; the program may not need it yet, and is left running")
            self._silence = None

    def _face_hang(self) -> None:
        """Once a rank is silent for too long: where all ranks of this pod are goes into their logs, then they end."""
        deadline = self._environment.progress_deadline
        if (
            not deadline
            or self._hang is not None
            or self._terminate_at is not None
            or self._kill_at is not None
            or self._stop_asked
        ):
            return
        # Each line that a rank writes is a turn; the status files are read once a second all the same.
        if (now := time.monotonic()) < self._look_at:
            return
        self._look_at = now + HANG_LOOK_SECONDS
        self._hang = hanging(read_statuses(self._status_dir), now=time.time(), deadline=deadline)
        if self._hang is None:
            return
        say(f"{self._hang[1]}; where each rank is:")
        for rank in self._ranks:
            rank.send(DUMP_SIGNAL)
        self._terminate_at = time.monotonic() + DUMP_SECONDS

    def _enforce_deadlines(self) -> None:
        now = time.monotonic()
        if self._terminate_at is not None and now >= self._terminate_at:
            self._terminate_at, self._kill_at = None, now + KILL_SECONDS
            for rank in self._ranks:
                if rank.is_running:
                    rank.killed_by_us = True
                    rank.send(signal.SIGTERM)
        if self._kill_at is not None and now >= self._kill_at:
            for rank in self._ranks:
                if rank.is_running:
                    rank.kill_group()
            self._kill_at = now + KILL_SECONDS

    def _verdict(self) -> Verdict:
        if self._silence is not None:
            first = self._ranks[0]
            message = f"pre-flight failed: {self._silence}"
            return Verdict(
                rank=first.rank, exit_code=Exit.PREFLIGHT, cause=Cause.PREFLIGHT, message=message, lines=tuple(first.lines)
            )
        if self._hang is not None:
            rank, message = self._hang
            lines = next((tuple(one.lines) for one in self._ranks if one.rank == rank), ())
            return Verdict(rank=rank, exit_code=Exit.HUNG, cause=Cause.HUNG, message=message, lines=lines)
        verdict = judge([_ended(rank) for rank in self._ranks], stop_asked=self._stop_asked)
        if verdict.exit_code != Exit.DONE and verdict.rank != self._ranks[0].rank:
            for line in verdict.lines:
                sys.stderr.write(f"[rank {verdict.rank}] {line}\n")
            sys.stderr.flush()
        return verdict


def _ended(rank: RankProcess) -> Ended:
    return Ended(
        rank=rank.rank,
        exit_code=rank.exit_code,
        signal=rank.killed_by,
        time=rank.ended_at,
        lines=tuple(rank.lines),
        killed_by_us=rank.killed_by_us and (rank.killed_by is not None or rank.exit_code == Exit.TERMINATED),
    )
