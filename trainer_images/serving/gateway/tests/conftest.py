"""Real sockets, a real gateway process; see world.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from world import Backend, Gateway


@pytest_asyncio.fixture
async def backend() -> AsyncIterator[Callable[..., Awaitable[Backend]]]:
    """Starts servers, which end with the test."""
    made: list[Backend] = []

    async def start(*arguments: Any, **more: Any) -> Backend:
        made.append(Backend(*arguments, **more))
        return await made[-1].start()

    yield start
    for one in made:
        await one.stop()


@pytest_asyncio.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Gateway]]]:
    """Starts gateways over `tmp_path` as the volume of models; each must end by itself when told to."""
    made: list[Gateway] = []

    async def start(server: str, **environment: str) -> Gateway:
        made.append(Gateway(server, tmp_path, **environment))
        return await made[-1].start()

    yield start
    for one in made:
        await one.stop()


@pytest.fixture(params=["tfserving", "torchserve", "sklearn"])
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)
