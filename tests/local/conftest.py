"""A cluster in memory for process nodes, once for each way to hold a container to its memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support.node import Unreliable, cgroups_left, running_node
from trainwright.local.cgroups import Groups, NoGroups, find


@pytest.fixture(params=["watch", "cgroup"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Unreliable]:
    """Its nodes watch memory, or make cgroups; these only where this user may make some (docs/local-twin.md says how to)."""
    made = Unreliable()
    if request.param == "cgroup":
        made.groups = _groups()
    yield made
    assert made.groups is None or not cgroups_left(made.groups)


def _groups() -> Groups:
    try:
        return find()
    except NoGroups as reason:
        pytest.skip(f"no cgroups here: {reason}")


@pytest.fixture
async def node(cluster: Unreliable, tmp_path: Path) -> AsyncIterator[asyncio.Task[None]]:
    async with running_node(cluster, tmp_path) as task:
        yield task
