"""Shared by the tests of the horovod image: gangs of real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from launching import Gang


@pytest.fixture
def gang(tmp_path: Path) -> Iterator[Gang]:
    """Real workers; none may be left at the end."""
    gang = Gang(tmp_path)
    yield gang
    gang.end()
