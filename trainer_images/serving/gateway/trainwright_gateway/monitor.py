"""The gateway's side of the watcher: hands over what was seen, without ever waiting, and keeps what was reported last."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import random
import sys
from pathlib import Path
from typing import Any

from trainwright_gateway.frames import frame
from trainwright_gateway.proxy import Seen
from trainwright_gateway.sync import Role, Sync

MOST_WAITING = 32 * 2**20
"""Bytes that wait for the watcher; what comes when it is that far behind is dropped, and counted."""
REPORT_EVERY = 1.0
ANSWER_WITHIN = 10.0
START_AGAIN = 1.0
FLUSH_AFTER = 0.01

log = logging.getLogger(__name__)


class NotWatching(Exception):
    """The watcher gives no answer now."""


class Monitor:
    """One watcher, started anew when it ends. `report` is its last one; `dropped` counts samples that it never got."""

    def __init__(self, server: str, models: Path) -> None:
        self._command = [sys.executable, "-m", "trainwright_gateway.watcher", server, str(models)]
        self._sync: Sync | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._flush_at: asyncio.TimerHandle | None = None
        self.report: dict[str, Any] = {"windows": {}, "monitoring": None, "labels": {}, "seen": {}}
        self.dropped = 0

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._keep_running()), asyncio.create_task(self._keep_reporting())]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def follow(self, sync: Sync) -> None:
        self._sync = sync
        self._put(_sync_frame(sync))

    def seen(self, seen: Seen) -> None:
        """Hand over a prediction, with its inputs if the live version made it and chance takes it."""
        if self._sync is None or self._behind:
            self.dropped += 1
            return
        version = seen.version
        inputs = version.role is Role.LIVE and random.random() < self._sync.monitoring.sample_ratio  # noqa: S311
        of = {"id": seen.id, "version": version.version, "window": version.window, "time": seen.time}
        head = {"do": "sample", **of, "inputs": inputs}
        self._put(frame(head, seen.asked if inputs else b"", seen.answered))

    async def label(self, name: str, label: Any) -> dict[str, Any]:
        """The watcher's answer to a label; raises NotWatching."""
        return await self._ask({"do": "label", "id": name}, json.dumps(label).encode())

    @property
    def _behind(self) -> bool:
        writer = self._process.stdin if self._process else None
        return writer is None or self._bytes + writer.transport.get_write_buffer_size() > MOST_WAITING

    def _put(self, content: bytes) -> None:
        """Written a little later with what comes until then: one call of the system for many requests."""
        self._waiting.append(content)
        self._bytes += len(content)
        if self._flush_at is None:
            self._flush_at = asyncio.get_running_loop().call_later(FLUSH_AFTER, self._flush)

    def _flush(self) -> None:
        self._flush_at = None
        content, self._waiting, self._bytes = b"".join(self._waiting), [], 0
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(content)

    async def _ask(self, head: dict[str, Any], content: bytes = b"") -> dict[str, Any]:
        if self._process is None:
            raise NotWatching("the watcher is being started")
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self._put(frame({**head, "to": number}, content))
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                found: dict[str, Any] = await answer
                return found
        except TimeoutError:
            raise NotWatching("the watcher is behind with its work") from None
        finally:
            del self._asked[number]

    async def _keep_reporting(self) -> None:
        while True:
            with contextlib.suppress(NotWatching):
                self.report = await self._ask({"do": "report"})
            await asyncio.sleep(REPORT_EVERY)

    async def _keep_running(self) -> None:
        while True:
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**24
            )
            self._process = process
            if self._sync is not None:
                self._put(_sync_frame(self._sync))
            if process.stdout is None:
                raise RuntimeError("a process without its pipes")
            with contextlib.suppress(ValueError):
                async for line in process.stdout:
                    found = json.loads(line)
                    if (asked := self._asked.get(found.pop("to"))) is not None and not asked.done():
                        asked.set_result(found)
            self._process = None
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            code = await process.wait()
            for asked in self._asked.values():
                if not asked.done():
                    asked.set_exception(NotWatching("the watcher has ended"))
            log.error("the watcher ended with code %s; what it had seen is lost, and it is started again", code)
            await asyncio.sleep(START_AGAIN)


def _sync_frame(sync: Sync) -> bytes:
    return frame({"do": "sync"}, sync.model_dump_json(by_alias=True).encode())
