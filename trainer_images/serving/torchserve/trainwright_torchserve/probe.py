"""Whether the model answers: real requests to TorchServe's socket, before any client's is let through."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from trainwright_runtime.artifact import SAMPLES
from trainwright_runtime.sealed import MANIFEST

LOOK_SECONDS = 0.2
WATCH_SECONDS = 2.0
LOADS = 4
"""Workers begun, for each that there is to be, after which no more are waited for."""
TIMEOUT = aiohttp.ClientTimeout(total=120.0)
OK, BAD_REQUEST, SERVER_ERROR = 200, 400, 500


class NeverAnswers(Exception):
    """The model is loaded, and can't answer; the message says why."""


async def until_it_answers(socket: Path, model: str, record: Path) -> None:
    """Return when the model has answered one sample. Raises NeverAnswers.

    An artifact without samples is asked for one row of zeros.
    """
    body = json.dumps({"inputs": _one_row(record)})
    while True:
        status, said = await _ask(socket, f"predictions/{model}", body)
        if status == OK:
            return
        if status == BAD_REQUEST or "the model failed" in said:
            raise NeverAnswers(f"the model doesn't answer its own sample: {said}")
        await asyncio.sleep(LOOK_SECONDS)


async def until_unhealthy(socket: Path) -> None:
    """Return when TorchServe has given its workers up."""
    while not await _is_unhealthy(socket):  # noqa: ASYNC110 - another process's state
        await asyncio.sleep(WATCH_SECONDS)


async def until_loading_fails(java: int, workers: int) -> None:
    """Return when workers have been started so often that the model can't be loaded: TorchServe itself tries for minutes."""
    seen: set[int] = set()
    while len(seen) < workers * LOADS:
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(java).children():
                with contextlib.suppress(psutil.Error):
                    if any("model_service_worker" in word for word in child.cmdline()):
                        seen.add(child.pid)
        await asyncio.sleep(LOOK_SECONDS)


async def _is_unhealthy(socket: Path) -> bool:
    status, said = await _ask(socket, "ping", None)
    return status >= SERVER_ERROR or '"Unhealthy"' in said


async def _ask(socket: Path, path: str, body: str | None) -> tuple[int, str]:
    """Status and body of the answer; 0 where there is none."""
    # A connection that was refused leaves nothing to use again.
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket)), timeout=TIMEOUT) as session:
        headers = {"Content-Type": "application/json"}
        try:
            async with session.request(
                "POST" if body else "GET", f"http://torchserve/{path}", data=body, headers=headers
            ) as answer:
                return answer.status, " ".join((await answer.text()).split())[:400]
        except (aiohttp.ClientError, OSError, TimeoutError):
            return 0, ""


def _one_row(record: Path) -> dict[str, Any]:
    try:
        samples = json.loads((record / SAMPLES).read_bytes())
    except FileNotFoundError:
        inputs = json.loads((record / MANIFEST).read_bytes())["signature"]["inputs"]
        return {tensor["name"]: [_zeros([abs(size) for size in tensor["shape"][1:]])] for tensor in inputs}
    return {name: rows[:1] for name, rows in samples["inputs"].items()}


def _zeros(shape: list[int]) -> Any:
    return [_zeros(shape[1:]) for _ in range(shape[0])] if shape else 0
