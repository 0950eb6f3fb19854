"""Whatever happens while a checkpoint is written, the newest complete one loads."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from trainwright_runtime.checkpoint import CheckpointStore, NoUsableCheckpoint, Superseded
from trainwright_runtime.sealed import read_seal, verify

CONTENT = {"model.pt": b"weights " * 5000, "rank-0.pt": b"random"}


def write(store: CheckpointStore, step: int, uid: str = "u") -> None:
    store.write(
        step, {name: lambda stream, data=data: stream.write(data) for name, data in CONTENT.items()}, {"uid": uid, "epoch": 1}
    )


def steps(directory: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in directory.glob("step-*"))


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_checkpoint_is_a_directory_with_its_files_and_a_manifest(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=3)
    write(store, 7)
    newest = store.newest()
    assert newest is not None
    assert (newest.step, newest.path) == (7, tmp_path / "step-7")
    assert newest.size == sum(map(len, CONTENT.values()))
    manifest = json.loads((tmp_path / "step-7/manifest.json").read_text())
    assert manifest["epoch"] == 1
    assert set(manifest["files"]) == set(CONTENT)
    assert {path.name: path.read_bytes() for path in newest.path.iterdir() if path.name != "manifest.json"} == CONTENT


def test_without_a_checkpoint_there_is_none(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "not there", keep=3).newest() is None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for step in (5, 10, 100, 20):
        write(store, step)
        if step == 100:
            shutil.rmtree(tmp_path / "step-100")
    assert steps(tmp_path) == [10, 20]
    assert not list(tmp_path.glob(".*"))


def test_an_incomplete_directory_is_neither_used_nor_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = CheckpointStore(tmp_path, keep=1)
    write(store, 10)
    (tmp_path / "step-20").mkdir()
    newest = store.newest()
    assert newest is not None
    assert newest.step == 10
    assert "step-20 has no manifest.json" in capfd.readouterr().err
    write(store, 11)
    assert steps(tmp_path) == [11, 20]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: damage(path / "model.pt"),
        lambda path: (path / "model.pt").write_bytes(CONTENT["model.pt"][:100]),
        lambda path: (path / "rank-0.pt").unlink(),
        lambda path: (path / "manifest.json").write_text("{"),
        lambda path: (path / "manifest.json").write_text('{"format": 99, "step": 20, "files": {}}'),
        lambda path: (path / "manifest.json").write_text('{"format": 1, "files": {}}'),
    ],
    ids=["a bit flipped", "cut short", "a file missing", "manifest cut short", "another format", "manifest without a step"],
)
def test_a_damaged_newest_gives_way_to_the_one_before(tmp_path: Path, spoil: object, capfd: pytest.CaptureFixture[str]) -> None:
    store = CheckpointStore(tmp_path, keep=3)
    write(store, 10)
    write(store, 20)
    spoil(tmp_path / "step-20")  # type: ignore[operator]
    newest = store.newest()
    assert newest is not None
    assert newest.step == 10
    said = capfd.readouterr().err
    assert "checkpoint step-20 is damaged" in said
    assert "using checkpoint step-10 instead" in said


def test_when_all_are_damaged_nothing_is_guessed(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=3)
    for step in (10, 20):
        write(store, step)
        damage(tmp_path / f"step-{step}/model.pt")
    with pytest.raises(NoUsableCheckpoint, match=r"step-20.*step-10"):
        store.newest()


def test_damaged_ones_do_not_push_a_good_one_out(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=1)
    write(store, 10)
    (tmp_path / "step-20").mkdir()
    (tmp_path / "step-20/manifest.json").write_text("{")
    write(store, 15)
    newest = store.newest()
    assert newest is not None
    assert newest.step == 15


def test_the_same_step_can_be_written_again(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=3)
    write(store, 10)
    damage(tmp_path / "step-10/model.pt")
    write(store, 10)
    assert store.newest() is not None
    assert steps(tmp_path) == [10]


def test_with_a_uid_other_jobs_checkpoints_are_not_seen(tmp_path: Path) -> None:
    write(CheckpointStore(tmp_path, keep=3), 900, uid="theirs")
    store = CheckpointStore(tmp_path, keep=1, only_uid="ours")
    assert store.newest() is None
    for step in (10, 20):
        write(store, step, uid="ours")
    newest = store.newest()
    assert newest is not None
    assert newest.step == 20
    assert steps(tmp_path) == [20, 900]


WRITER = """
import os, signal, sys
from pathlib import Path
from trainwright_runtime import sealed
from trainwright_runtime.checkpoint import CheckpointStore

# Counts what reaches the file system, and dies just before (or, for a write, halfway through) number `fatal`.
fatal, directory = int(sys.argv[1]), Path(sys.argv[2])
count = 0

def counted(function, halfway=None):
    def call(*args, **kwargs):
        global count
        count += 1
        if count == fatal:
            if halfway is not None:
                halfway(*args)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call

def half(stream, data):
    stream._stream.write(data[: len(data) // 2])
    stream._stream.flush()

store = CheckpointStore(directory, keep=2)
for name in ("fsync", "rename", "rmdir", "unlink"):
    setattr(os, name, counted(getattr(os, name)))
Path.mkdir = counted(Path.mkdir)
sealed._HashingStream.write = counted(sealed._HashingStream.write, half)
store.prepare()
for step in (30, 30, 40):
    store.write(step, {n: (lambda stream: stream.write(b"new weights" * 999)) for n in ("model.pt", "rank-0.pt")}, {"uid": "u"})
print(count)
"""


def test_a_writer_killed_at_any_moment_leaves_the_newest_complete_one(tmp_path: Path) -> None:
    """Kills a real process at each of its steps on the file system in turn, replacing and pruning included."""
    script = tmp_path / "writer.py"
    script.write_text(WRITER)
    fatal, deaths = 0, 0
    while True:
        fatal += 1
        directory = tmp_path / f"checkpoints-{fatal}"
        store = CheckpointStore(directory, keep=2)
        for step in (10, 20):
            write(store, step)
        done = subprocess.run(
            [sys.executable, str(script), str(fatal), str(directory)], capture_output=True, text=True, timeout=30, check=False
        )
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        deaths += 1
        store.prepare()
        newest = store.newest()
        assert newest is not None
        assert newest.step in (20, 30, 40)
        complete = steps(directory)
        assert all((directory / f"step-{step}/manifest.json").exists() for step in complete)
        assert not list(directory.glob(".*")), "prepare() clears what the dead writer left"
        write(store, 50)
        assert steps(directory)[-1] == 50
        assert len(steps(directory)) <= 2
        shutil.rmtree(directory)
    assert deaths > 25


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=3)
    write(store, 10)

    def fill_up(stream: object) -> None:
        stream.write(b"some")  # type: ignore[attr-defined]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        store.write(20, {"model.pt": fill_up}, {})
    assert steps(tmp_path) == [10]
    assert not list(tmp_path.glob(".*"))
    assert store.newest() is not None


def test_a_writer_that_an_older_attempt_left_behind_can_only_lose(tmp_path: Path) -> None:
    """Two writers of the same steps: one of them may be told that it can't, and every checkpoint that is there is whole."""
    refused: list[OSError] = []

    def write_all() -> None:
        store = CheckpointStore(tmp_path, keep=100)
        for step in range(60):
            try:
                write(store, step)
            except OSError as error:
                refused.append(error)

    writers = [threading.Thread(target=write_all) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(refused) <= 60
    for step in steps(tmp_path):
        path = tmp_path / f"step-{step}"
        verify(path, read_seal(path))
    newest = CheckpointStore(tmp_path, keep=100).newest()
    assert newest is not None
    assert newest.step == 59


def test_a_writer_whose_attempt_is_over_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    old, new = CheckpointStore(tmp_path, keep=1), CheckpointStore(tmp_path, keep=1)
    old.prepare()
    old.write(10, {"a": lambda stream: stream.write(b"old")}, {})
    new.prepare()
    new.write(20, {"a": lambda stream: stream.write(b"new")}, {})
    with pytest.raises(Superseded, match="another attempt"):
        old.write(30, {"a": lambda stream: stream.write(b"late")}, {})
    newest = new.newest()
    assert newest is not None
    assert (newest.step, (newest.path / "a").read_bytes()) == (20, b"new")


FULL = """
import resource, sys
from pathlib import Path
from trainwright_runtime.checkpoint import CheckpointStore

def write(stream):
    try:
        stream.write(bytes(1 << 20))
        stream.flush()
    except OSError:
        raise RuntimeError("unexpected pos 155072 vs 154964")  # what torch makes of it

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
store = CheckpointStore(Path(sys.argv[1]), keep=1)
store.prepare()
try:
    store.write(20, {"model.pt": write}, {})
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


def test_what_the_disk_said_is_told_whatever_the_writer_makes_of_it(tmp_path: Path) -> None:
    CheckpointStore(tmp_path, keep=1).write(10, {"model.pt": lambda stream: stream.write(b"whole")}, {})
    said = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True).stdout
    assert said == "OSError: [Errno 27] File too large: 'model.pt'\n"
    newest = CheckpointStore(tmp_path, keep=1).newest()
    assert newest is not None
    assert newest.step == 10
