"""Shared by the tests of the torch image: gangs of real processes, and single ranks in this process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from launching import Gang

from trainwright_runtime import progress


@pytest.fixture
def gang(tmp_path: Path) -> Iterator[Gang]:
    """Real workers; none may be left at the end."""
    gang = Gang(tmp_path)
    yield gang
    gang.end()


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """This process as the only rank of a job, with a workspace; leaves no handler, reporter or random state behind."""
    monkeypatch.setenv("TRAINWRIGHT_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("TRAINWRIGHT_CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    monkeypatch.setenv("TRAINWRIGHT_ARTIFACT_DIR", str(tmp_path / "artifacts"))
    monkeypatch.setenv("TRAINWRIGHT_UID", "uid-1")
    monkeypatch.setattr(progress, "_reporter", None)
    handler, threads = signal.getsignal(signal.SIGTERM), torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        yield tmp_path
    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, handler)
