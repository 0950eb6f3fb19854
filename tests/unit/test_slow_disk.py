"""What `chaos slow-disk` writes: bounded, without a name, gone at the end. The disk is a real one, the files are small."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.waiting import eventually
from trainwright.local.slowdisk import MIB, Load, NoRoom, busy, slow_down

SMALL = Load(writers=2, file_bytes=2 * MIB, block_bytes=MIB // 4, spare_bytes=0)


def room_held(folder: Path) -> list[int]:
    """Sizes of the files without a name that this process holds in a folder."""
    held = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(link.readlink()).startswith(f"{folder}/"):
                held.append(link.stat().st_size)
    return held


async def test_the_writers_go_round_in_files_of_a_bounded_size_that_nobody_else_sees(tmp_path: Path) -> None:
    async with busy(tmp_path, SMALL) as failed:
        await eventually(lambda: room_held(tmp_path) == [2 * MIB] * 2)
        written = lambda: _written_by_this_process() > before + 4 * sum(room_held(tmp_path))  # noqa: E731 - read on one line
        before = _written_by_this_process()
        await eventually(written, what="each file is written over several times")
        assert room_held(tmp_path) == [2 * MIB] * 2
        assert not list(tmp_path.iterdir())
        failed()
    assert not room_held(tmp_path)


def _written_by_this_process() -> int:
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["wchar"])


async def test_it_says_what_a_flushed_write_takes_before_and_meanwhile(tmp_path: Path) -> None:
    said: list[str] = []
    slowed = await slow_down(tmp_path, seconds=0.1, say=said.append, load=SMALL)
    assert slowed.before > 0
    assert slowed.during > 0
    assert f"{slowed.before * 1000:.2f} ms" in said[0]
    assert f"{slowed.during * 1000:.2f} ms instead of {slowed.before * 1000:.2f} ms" in str(slowed)
    assert not room_held(tmp_path)


async def test_it_refuses_where_the_disk_would_be_nearly_full(tmp_path: Path) -> None:
    with pytest.raises(NoRoom, match=r"MiB are free .* the scratch files take 4 MiB and \d+ MiB must stay free"):
        await slow_down(tmp_path, seconds=60, say=print, load=Load(writers=2, file_bytes=2 * MIB, spare_bytes=2**60))
    assert not room_held(tmp_path)


async def test_a_disk_that_refuses_ends_it_and_nothing_is_left(tmp_path: Path, small_files_only: None) -> None:
    with pytest.raises(OSError, match="File too large"):
        await slow_down(tmp_path, seconds=60, say=print, load=SMALL)
    assert not room_held(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """For a moment this process may write no file larger than 1 MiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
