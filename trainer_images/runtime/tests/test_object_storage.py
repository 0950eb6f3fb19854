"""A workspace in object storage, over a folder that plays the store: what goes up, what comes down, who writes, how it ends.

The store itself, with its own ideas of folders and lists, is real in tests/local/test_object_storage.py.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from launching import Gang, wait_for

from trainwright_runtime import mirror as mirroring
from trainwright_runtime.checkpoint import CheckpointStore, NoUsableCheckpoint, Superseded
from trainwright_runtime.environment import CheckpointPolicy, RankEnvironment
from trainwright_runtime.mirror import Mirror
from trainwright_runtime.remote import RemoteWorkspace, StorageError
from trainwright_runtime.restore import restore
from trainwright_runtime.sealed import Damaged, Incomplete, write_sealed


def _write(content: bytes, stream: IO[bytes]) -> None:
    stream.write(content)


@dataclasses.dataclass
class Attempt:
    """One attempt's worker 0: its disk, and the job's folder in the store."""

    workspace: Path
    store: Path
    number: int = 1
    keep: int = 3
    resume: str = "Auto"
    index: int = 0
    workers: int = 1
    uid: str = "uid-1"

    @property
    def environment(self) -> RankEnvironment:
        policy = CheckpointPolicy(directory=self.workspace / "checkpoints", keep=self.keep, resume=self.resume)  # type: ignore[arg-type]
        return RankEnvironment(
            uid=self.uid,
            attempt=self.number,
            workers=self.workers,
            worker_index=self.index,
            workspace=self.workspace,
            workspace_uri=f"file://{self.store}",
            checkpoint=policy,
        )

    def remote(self) -> RemoteWorkspace:
        found = RemoteWorkspace.of(self.environment)
        assert found is not None
        return found

    def restore(self) -> list[str]:
        restore(self.remote(), self.environment)
        return [path.name for path in sorted((self.workspace / "checkpoints").glob("*"))]

    def mirror(self) -> Mirror:
        return Mirror(self.remote(), self.environment, self.workspace)

    def save(self, step: int, content: bytes = b"weights", **files: bytes) -> None:
        checkpoints = CheckpointStore(self.workspace / "checkpoints", keep=self.keep)
        contents = {"model.pt": content, **files}
        writers = {name: functools.partial(_write, data) for name, data in contents.items()}
        checkpoints.write(step, writers, {"uid": self.uid})

    def train(self, *steps: int) -> None:
        """Save these, sending each."""
        mirror = self.mirror()
        for step in steps:
            self.save(step, f"weights of {step}".encode())
            mirror.one_pass(last=False)
        mirror.one_pass(last=True)


@pytest.fixture
def attempt(tmp_path: Path) -> Callable[..., Attempt]:
    """The next attempt, on a disk of its own."""
    made = 0

    def make(**given: Any) -> Attempt:
        nonlocal made
        made += 1
        workspace = tmp_path / f"disk-{made}"
        workspace.mkdir()
        return Attempt(workspace, tmp_path / "store", number=given.pop("number", made), **given)

    return make


def complete(store: Path) -> list[str]:
    return sorted((path.parent.name for path in store.glob("checkpoints/*/manifest.json")), key=lambda name: int(name[5:]))


def test_what_one_attempt_saved_the_next_one_starts_from(attempt: Callable[..., Attempt], tmp_path: Path) -> None:
    first = attempt()
    assert first.restore() == []
    first.train(10, 20, 30, 40)
    assert complete(tmp_path / "store") == ["step-20", "step-30", "step-40"], "three are kept, there as here"
    second = attempt()
    assert second.restore() == ["step-40"]
    found = CheckpointStore(second.workspace / "checkpoints", keep=3).newest()
    assert found is not None
    assert (found.path / "model.pt").read_bytes() == b"weights of 40"


def test_only_the_newest_of_several_that_wait_goes_up(attempt: Callable[..., Attempt], tmp_path: Path) -> None:
    one = attempt()
    one.restore()
    for step in (10, 20, 30):
        one.save(step)
    one.mirror().one_pass(last=True)
    assert complete(tmp_path / "store") == ["step-30"]


def test_what_came_from_the_store_is_not_sent_back(attempt: Callable[..., Attempt], tmp_path: Path) -> None:
    first = attempt()
    first.restore()
    first.train(10)
    there = (tmp_path / "store/checkpoints/step-10/model.pt").stat().st_mtime_ns
    second = attempt()
    second.restore()
    mirror = second.mirror()
    mirror.one_pass(last=True)
    assert (tmp_path / "store/checkpoints/step-10/model.pt").stat().st_mtime_ns == there
    assert mirror.checkpoint is not None
    assert mirror.checkpoint["step"] == 10


def test_a_step_taken_again_replaces_the_old_one_whole(attempt: Callable[..., Attempt], tmp_path: Path) -> None:
    first = attempt()
    first.restore()
    mirror = first.mirror()
    first.save(10, b"old", **{"extra.pt": b"only in the old one"})
    mirror.one_pass(last=False)
    first.save(10, b"new")
    mirror.one_pass(last=False)
    assert sorted(path.name for path in (tmp_path / "store/checkpoints/step-10").iterdir()) == ["manifest.json", "model.pt"]
    second = attempt()
    second.restore()
    assert (second.workspace / "checkpoints/step-10/model.pt").read_bytes() == b"new"


class Broken(Exception):
    """Stands for the end of the process at this moment."""


@pytest.mark.parametrize("survives", range(4))
def test_a_kill_at_any_moment_of_an_upload_leaves_the_one_before(
    attempt: Callable[..., Attempt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survives: int
) -> None:
    first = attempt()
    first.restore()
    first.train(10)
    mirror = first.mirror()
    first.save(20, b"newer", **{"training.pt": b"state"})
    calls = 0

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            if calls == survives:
                raise Broken
            calls += 1
            return method(*arguments, **named)

        return call

    for name in ("put_file", "pipe_file", "rm_file"):
        monkeypatch.setattr(mirror._remote._files, name, counted(getattr(mirror._remote._files, name)))
    with pytest.raises((Broken, StorageError)):
        mirror.one_pass(last=False)
    monkeypatch.undo()
    assert attempt().restore() == ["step-10"]
    third = attempt()
    third.restore()
    third.train(15)
    assert complete(tmp_path / "store") == ["step-10", "step-15"]


def test_a_damaged_checkpoint_is_passed_over(attempt: Callable[..., Attempt], tmp_path: Path) -> None:
    first = attempt()
    first.restore()
    first.train(10, 20)
    (tmp_path / "store/checkpoints/step-20/model.pt").write_bytes(b"weights of 21")
    second = attempt()
    assert second.restore() == ["step-10"]
    (tmp_path / "store/checkpoints/step-10/model.pt").unlink()
    with pytest.raises(NoUsableCheckpoint, match=r"step-20: the sha256 of model\.pt differs.*step-10: model\.pt is not there"):
        attempt().restore()


def test_a_manifest_can_not_name_files_elsewhere(attempt: Callable[..., Attempt], tmp_path: Path) -> None:
    folder = tmp_path / "store/checkpoints/step-10"
    folder.mkdir(parents=True)
    for name in ("../../../escaped", "/tmp/escaped", "a//b"):
        (folder / "manifest.json").write_text(json.dumps({"format": 1, "step": 10, "files": {name: {"sha256": "", "bytes": 0}}}))
        with pytest.raises(Damaged, match="not inside"):
            attempt().remote().seal("checkpoints/step-10")


def test_never_starts_afresh_and_its_later_attempts_go_on_from_their_own(attempt: Callable[..., Attempt], tmp_path: Path) -> None:
    before = attempt(uid="another job of this name")
    before.restore()
    before.train(500)
    first = attempt(number=1, resume="Never", keep=1)
    assert first.restore() == []
    first.train(10, 20)
    assert complete(tmp_path / "store") == ["step-20", "step-500"]
    assert attempt(number=2, resume="Never").restore() == ["step-20"]


def test_all_workers_start_from_what_worker_0_chose(attempt: Callable[..., Attempt]) -> None:
    first = attempt(workers=2)
    first.restore()
    first.train(10)
    main, other = attempt(workers=2, number=2), attempt(workers=2, number=2, index=1)
    done: list[list[str]] = []
    waiting = threading.Thread(target=lambda: done.append(other.restore()), daemon=True)
    waiting.start()
    assert main.restore() == ["step-10"]
    # A late upload of the attempt before does not matter any more.
    folder = first.store / "checkpoints" / "step-99"
    write_sealed(folder, {"model.pt": lambda stream: stream.write(b"late")}, {"step": 99, "uid": "uid-1"})
    waiting.join(10)
    assert done == [["step-10"]]


def test_an_attempt_that_is_over_writes_no_more(attempt: Callable[..., Attempt], tmp_path: Path) -> None:
    old = attempt()
    old.restore()
    old.train(10)
    mirror = old.mirror()
    assert attempt().restore() == ["step-10"]
    old.save(20)
    with pytest.raises(Superseded, match="attempt 2"):
        mirror.one_pass(last=False)
    assert complete(tmp_path / "store") == ["step-10"]


def test_files_of_the_users_own_go_up_and_those_beside_checkpoints_come_back(
    attempt: Callable[..., Attempt], tmp_path: Path
) -> None:
    first = attempt()
    first.restore()
    for name in ("checkpoints/backup/state.h5", "logs/attempt-1/rank-0.log", "notes.txt", "data/train/big.bin", ".hidden"):
        path = first.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    write_sealed(first.workspace / "artifacts", {"model.pt": lambda stream: stream.write(b"m")}, {})
    first.mirror().one_pass(last=True)
    sent = sorted(str(path.relative_to(tmp_path / "store")) for path in (tmp_path / "store").rglob("*") if path.is_file())
    assert sent == [
        "artifacts/manifest.json",
        "artifacts/model.pt",
        "attempt.json",
        "checkpoints/backup/state.h5",
        "logs/attempt-1/rank-0.log",
        "notes.txt",
    ]
    second = attempt()
    assert second.restore() == ["backup"]
    assert (second.workspace / "checkpoints/backup/state.h5").read_text() == "checkpoints/backup/state.h5"


def test_other_workers_keep_only_their_logs(attempt: Callable[..., Attempt], tmp_path: Path) -> None:
    one = attempt(workers=2, index=1)
    (one.workspace / "logs/attempt-1").mkdir(parents=True)
    (one.workspace / "logs/attempt-1/rank-1.log").write_text("said")
    (one.workspace / "mine.txt").write_text("lost with the pod")
    one.save(10)
    one.mirror().one_pass(last=True)
    assert [path.name for path in (tmp_path / "store").rglob("*") if path.is_file()] == ["rank-1.log"]


def test_a_checkpoint_that_is_pruned_while_it_goes_up_arrives(
    attempt: Callable[..., Attempt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = attempt(keep=1)
    one.restore()
    mirror = one.mirror()
    one.save(10)
    put = mirror._remote._files.put_file

    def slow(*arguments: Any, **named: Any) -> Any:
        one.save(20)
        monkeypatch.undo()
        return put(*arguments, **named)

    monkeypatch.setattr(mirror._remote._files, "put_file", slow)
    mirror.one_pass(last=False)
    assert complete(tmp_path / "store") == ["step-10"]
    assert not (one.workspace / "checkpoints/step-10").exists()
    mirror.one_pass(last=False)
    assert complete(tmp_path / "store") == ["step-20"]


@pytest.mark.parametrize(
    ("uri", "words"), [("s4://bucket/x", "Protocol not known: s4"), ("gs://bucket/x", "gcsfs")], ids=["unknown", "not installed"]
)
def test_a_store_that_can_not_be_had_is_said_for_good(uri: str, words: str) -> None:
    with pytest.raises(StorageError, match=words) as fault:
        RemoteWorkspace(uri, uid="u", attempt=1)
    assert fault.value.permanent


def test_an_unfinished_upload_is_no_checkpoint(attempt: Callable[..., Attempt]) -> None:
    one = attempt()
    with pytest.raises(Incomplete):
        one.remote().seal("checkpoints/step-10")


# --- with the launcher ------------------------------------------------------------------------------------------------

TRAIN = """
import os, pathlib, time
from trainwright_runtime.checkpoint import CheckpointStore
from trainwright_runtime.progress import report
store = CheckpointStore(pathlib.Path(os.environ["TRAINWRIGHT_CHECKPOINT_DIR"]), keep=2)
for step in (10, 20):
    store.write(step, {"model.pt": lambda stream: stream.write(b"weights")}, {"uid": "uid-1"})
    report(step=step)
print("waiting", flush=True)
while os.environ.get("HOLD") and not os.path.exists(os.environ["HOLD"]): time.sleep(0.02)
"""


def test_a_worker_ends_when_all_it_made_has_arrived(gang: Gang, tmp_path: Path) -> None:
    (gang.folder / "train.py").write_text(TRAIN)
    store = tmp_path / "store"
    (worker,) = gang.start("module", "train", TRAINWRIGHT_WORKSPACE_URI=f"file://{store}")
    assert worker.wait() == 0, worker.output
    # A mirror that is quick has sent the first one, too.
    assert complete(store)[-1] == "step-20"
    assert (store / "logs/attempt-1/rank-0.log").read_text().endswith("waiting\n")
    assert worker.message["progress"]["checkpoint"]["path"] == f"file://{store}/checkpoints/step-20"


def test_progress_tells_of_the_checkpoint_that_has_arrived(gang: Gang, tmp_path: Path) -> None:
    (gang.folder / "train.py").write_text(TRAIN)
    store, hold = tmp_path / "store", tmp_path / "go"
    store.write_text("in the way")
    (worker,) = gang.start("module", "train", TRAINWRIGHT_WORKSPACE_URI=f"file://{store}", HOLD=str(hold))
    wait_for(lambda: "not in object storage yet" in worker.output, "the fault to be said")
    assert "checkpoint" not in wait_for(worker.progress, "an answer"), "a checkpoint that goes with its pod is none"
    store.unlink()
    there = wait_for(lambda: worker.progress().get("checkpoint"), "the checkpoint to arrive")
    assert there["step"] == 20
    hold.touch()
    assert worker.wait() == 0, worker.output
    assert "object storage has everything again" in worker.output


def test_results_that_can_not_be_kept_are_a_failure(
    attempt: Callable[..., Attempt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = attempt()
    mirror = one.mirror()
    one.save(10)
    one.store.write_text("in the way")
    monkeypatch.setattr(mirroring, "GIVE_UP_SECONDS", 0.0)
    monkeypatch.setattr(mirroring, "LOOK_SECONDS", 0.01)
    stop = threading.Event()
    stop.set()
    assert mirroring._mirror(mirror, tmp_path, stop) == 1
    assert "NotADirectoryError" in json.loads((tmp_path / "mirror.json").read_text())["fault"]


def test_a_worker_whose_upload_ends_is_not_trained_on(gang: Gang, tmp_path: Path) -> None:
    (gang.folder / "train.py").write_text(TRAIN)
    store = tmp_path / "store"
    (worker,) = gang.start("module", "train", TRAINWRIGHT_WORKSPACE_URI=f"file://{store}", HOLD=str(tmp_path / "never"))
    wait_for(lambda: "step-20" in complete(store), "the checkpoint to arrive")
    (store / "attempt.json").write_text(json.dumps({"uid": "uid-1", "attempt": 2}))
    shutil.copytree(gang.workspace / "checkpoints/step-20", gang.workspace / "checkpoints/.step-30")
    manifest = gang.workspace / "checkpoints/.step-30/manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"step": 30}))
    (gang.workspace / "checkpoints/.step-30").rename(gang.workspace / "checkpoints/step-30")
    assert worker.wait() == 1
    assert worker.message["message"].startswith("the results could not be kept: attempt 2 of this job writes to")
    # As above: the first one may have been sent, too. What attempt 1 made after attempt 2 began may not.
    assert complete(store)[-1] == "step-20"
