"""Worker 0's side of a search: who does which unit, asked over HTTP, so that no disk need be shared.

Units are handed out one by one to whoever is free: a slow worker does fewer. What a worker that is gone had in hand goes to
another.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.exits import say

SILENT_SECONDS = 30.0
"""After so long without a word a worker counts as gone; it gives a sign of life every 2 s."""
MAX_BODY = 65536


class Board:
    """The units of one search by their state. Thread-safe."""

    def __init__(self, units: range, done: Mapping[int, Any]) -> None:
        self._lock = threading.Condition()
        self._total = len(units)
        self._done = {unit: result for unit, result in done.items() if unit in units}
        self._open = [unit for unit in reversed(units) if unit not in self._done]
        self._in_hand: dict[tuple[int, str], int] = {}
        self._heard: dict[int, float] = {}
        self._told: set[int] = set()

    @property
    def is_over(self) -> bool:
        with self._lock:
            return len(self._done) == self._total

    def done(self) -> dict[int, Any]:
        """The results so far, by unit."""
        with self._lock:
            return dict(self._done)

    def take(self, worker: int, slot: str) -> int | None:
        """A unit for this worker to do; None when none is open now. A slot of it does one at a time: who asks again, because the
        answer was lost, gets the same.
        """
        with self._lock:
            if (unit := self._in_hand.get((worker, slot))) is None and self._open:
                unit = self._in_hand[worker, slot] = self._open.pop()
            return unit

    def take_or_wait(self, worker: int, slot: str) -> int | None:
        """A unit, as soon as there is one: another worker may be lost. None when all are done."""
        while True:
            if (unit := self.take(worker, slot)) is not None:
                return unit
            with self._lock:
                if len(self._done) == self._total:
                    return None
                self._lock.wait(1.0)

    def finish(self, unit: int, result: Any) -> None:
        """A unit is done; the first result counts, a second is the same."""
        with self._lock:
            self._done.setdefault(unit, result)
            self._in_hand = {slot: held for slot, held in self._in_hand.items() if held != unit}
            if unit in self._open:
                self._open.remove(unit)
            self._lock.notify_all()

    def heard(self, worker: int, *, told_the_end: bool = False) -> None:
        """This worker is alive; or it knows that all is done, and may be gone from now on."""
        with self._lock:
            self._heard[worker] = time.monotonic()
            if told_the_end:
                self._told.add(worker)
                self._lock.notify_all()

    def give_up_silent(self) -> None:
        """Take back what workers have in hand that have not been heard of for long."""
        with self._lock:
            now = time.monotonic()
            for worker, heard in list(self._heard.items()):
                if now - heard < SILENT_SECONDS or worker in self._told:
                    continue
                held = {slot: unit for slot, unit in self._in_hand.items() if slot[0] == worker}
                say(f"worker {worker} has not been heard of for {SILENT_SECONDS:g} s: others do its {len(held)} units")
                for slot, unit in held.items():
                    del self._in_hand[slot]
                    self._open.append(unit)
                del self._heard[worker]
                self._told.add(worker)
                self._lock.notify_all()

    def wait_for_change(self, seconds: float) -> None:
        """Until a unit is done, but not longer than that."""
        with self._lock:
            self._lock.wait(seconds)

    def wait_until_told(self, workers: int, seconds: float) -> list[int]:
        """Until all other workers know the end, or are gone; the workers that never came."""
        deadline = time.monotonic() + seconds
        with self._lock:
            while len(self._told) < workers - 1 and time.monotonic() < deadline:
                self._lock.wait(1.0)
                self.give_up_silent()
            return sorted(set(range(1, workers)) - self._told)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A worker that is killed hangs up: the board sees to what it had in hand.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def serve(board: Board, environment: RankEnvironment, search: str) -> ThreadingHTTPServer:
    """Answer the other workers in daemon threads until the process ends; raises OSError when the port can't be had.

    Every request is `POST /take`, `/finish` or `/alive` with a JSON object that names `gang`, `search` and `worker`; beside them
    `/take` names its `slot`, and `/finish` the `unit` and its `result`.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = SILENT_SECONDS

        def do_POST(self) -> None:
            try:
                asked = json.loads(self.rfile.read(min(int(self.headers.get("Content-Length", 0)), MAX_BODY)))
                code, answer = self._answer_to(asked)
            except (ValueError, KeyError, TypeError) as error:
                code, answer = 400, {"error": f"not understood: {error!r}"}
            body = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _answer_to(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            if asked["gang"] != gang_name(environment):
                return 410, {"error": f"this is {gang_name(environment)}: {asked['gang']} is over"}
            if asked["search"] != search:
                return 409, {"error": f"this worker's search is {asked['search']}, worker 0's is {search}: their data differ"}
            worker = int(asked["worker"])
            if not 0 < worker < environment.workers:
                raise ValueError(f"worker {worker}")
            if self.path == "/finish":
                board.finish(int(asked["unit"]), dict(asked["result"]))
            unit = board.take(worker, str(asked["slot"])) if self.path == "/take" else None
            over = board.is_over
            board.heard(worker, told_the_end=over)
            return 200, {"unit": unit, "over": over, "done": len(board.done())}

        def log_message(self, format: str, *args: Any) -> None:
            """A line a unit would bury the log of the training."""

    server = _Server((environment.pod_ip, environment.master_port), Handler)
    threading.Thread(target=server.serve_forever, name="trainwright-board", daemon=True).start()
    return server


def gang_name(environment: RankEnvironment) -> str:
    """Names one attempt: a worker of an earlier one must not be answered."""
    return f"{environment.uid}-{environment.attempt}"
