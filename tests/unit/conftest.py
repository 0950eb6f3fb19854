"""Fixtures of the unit tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cli import CommandLine
from trainwright.cluster.admission import ADMISSION
from trainwright.cluster.memory import MemoryCluster


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> CommandLine:
    """The command line in this process. The cluster is one in memory, empty, and refuses bad jobs as a real one does."""
    return CommandLine(MemoryCluster(admission=ADMISSION), monkeypatch, capsys, tmp_path)
