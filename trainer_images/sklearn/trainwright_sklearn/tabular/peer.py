"""The side of the other workers in a search: ask worker 0 for a unit, do it, tell the result, until all are done."""

from __future__ import annotations

import http.client
import json
import threading
import time
from typing import Any

from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.exits import PeerLost
from trainwright_sklearn.tabular.board import SILENT_SECONDS, gang_name

FIRST_SECONDS = 300.0
"""How long worker 0 may take to answer for the first time: it may still be fetching its image."""
ALIVE_SECONDS = 2.0
RETRY_SECONDS = 0.5
REQUEST_SECONDS = 10.0


class WorkerZero:
    """Worker 0 as the others see it. Thread-safe. Raises `PeerLost` when it is gone, InvalidConfig when it refuses us.

    `done`: units that the gang has done so far.
    """

    def __init__(self, environment: RankEnvironment, search: str) -> None:
        self._address = (environment.master_addr, environment.master_port)
        self._who = {"gang": gang_name(environment), "search": search, "worker": environment.worker_index}
        self._patience = FIRST_SECONDS
        self._over = threading.Event()
        self.done = 0

    def take(self) -> int | None:
        """A unit, as soon as there is one; None when all are done."""
        while not self._over.is_set():
            if (unit := self._ask("/take", slot=threading.current_thread().name).get("unit")) is not None:
                return int(unit)
            self._over.wait(RETRY_SECONDS)
        return None

    def finish(self, unit: int, result: Any) -> None:
        """Tell the result of a unit."""
        self._ask("/finish", unit=unit, result=result)

    def stay_alive(self) -> None:
        """Give a sign of life, and find out whether worker 0 gives one."""
        if not self._over.wait(ALIVE_SECONDS):
            self._ask("/alive")

    def _ask(self, path: str, **more: Any) -> dict[str, Any]:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return self._ask_once(path, {**self._who, **more})
            except (OSError, http.client.HTTPException) as error:
                if self._over.is_set():
                    return {}  # told the end by another thread's answer: worker 0 may be gone
                if time.monotonic() > deadline:
                    raise PeerLost(f"worker 0 ({self._address[0]}) has not answered for {self._patience:g} s: {error}") from None
                self._over.wait(RETRY_SECONDS)

    def _ask_once(self, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        connection = http.client.HTTPConnection(*self._address, timeout=REQUEST_SECONDS)
        try:
            connection.request("POST", path, json.dumps(asked), {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        finally:
            connection.close()
        if response.status == http.client.CONFLICT:
            raise InvalidConfig(answer["error"])
        if response.status != http.client.OK:
            raise PeerLost(f"worker 0 ({self._address[0]}) refuses: {answer.get('error')}")
        self._patience = SILENT_SECONDS
        self.done = max(self.done, answer["done"])
        if answer["over"]:
            self._over.set()
        return answer
