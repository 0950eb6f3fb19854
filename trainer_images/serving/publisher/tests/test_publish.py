"""Publishing and removing versions: whole or not at all, once or many times, alone or not."""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import PUBLISHER, digest, make_artifact, publish, run
from trainwright_publisher import publishing
from trainwright_publisher.storage import Storage
from trainwright_runtime.serving.record import Layout, require

KILLED = 77
HOLDER = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
"""Holds the lock on a file until it is told to end."""


def publishing_of(artifact: Path, models: Path) -> list[Any]:
    """The command line."""
    what = ["--source", artifact, "--server", "torchserve", "--digest", digest(artifact), "--model", "m", "--version", "1"]
    return [PUBLISHER, "publish", *what, "--models", models]


def visible(models: Path) -> set[str]:
    """What a server may see, or an operator."""
    return {
        str(path.relative_to(models)) for kind in ("versions", "records") for path in (models / kind).rglob("*") if path.is_file()
    }


def leftovers(models: Path) -> list[str]:
    return sorted(path.name for path in (models / "aside").iterdir() if path.name != "commit.lock")


def in_a_process(work: Callable[[], Any], prepare: Callable[[], None] = lambda: None) -> int:
    """The exit code of a child that does it: 0, 1 after an exception, or what it was made to end with."""
    child = os.fork()
    if child == 0:
        try:
            prepare()
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at(count: int, *, after: bool) -> None:
    """End this process, as SIGKILL would, at its n-th call of those that change what is on disk: before it or after it."""
    left = count

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def ends_here(*arguments: Any, **keywords: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and not after:
                os._exit(KILLED)
            try:
                return call(*arguments, **keywords)
            finally:
                if left == 0:
                    os._exit(KILLED)

        return ends_here

    for name in ("fsync", "rename", "mkdir", "rmdir", "unlink", "chmod"):
        setattr(os, name, watched(getattr(os, name)))


def test_what_a_server_loads_and_what_is_known_of_it(artifact: Path, models: Path) -> None:
    code, words = publish(artifact, models, version=7)
    assert code == 0, words
    assert visible(models) == {
        "versions/7/model.mar",
        "records/7/manifest.json",
        "records/7/samples.json",
        "records/7/record.json",
    }
    record = require(Layout(models), version=7, server="torchserve", expected=words["record"])
    assert record.digest == digest(artifact) == words["digest"]
    assert words["bytes"] == record.files["model.mar"].bytes
    for name in ("manifest.json", "samples.json"):
        assert (models / "records/7" / name).read_bytes() == (artifact / name).read_bytes()
    with zipfile.ZipFile(models / "versions/7/model.mar") as archive:
        assert archive.read("model.pt2") == (artifact / "model.pt2").read_bytes()
        about = json.loads(archive.read("MAR-INF/MANIFEST.json"))
    assert about["model"] == {
        "modelName": "tumours",
        "serializedFile": "model.pt2",
        "handler": "trainwright_handler.py",
        "modelVersion": "7",
    }
    assert leftovers(models) == []
    assert (models / "versions/7").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("framework", "server", "files"),
    [
        ("tensorflow", "tfserving", {"saved_model.pb", "variables/variables.index"}),
        ("sklearn", "sklearn", {"model.skops"}),
    ],
)
def test_other_servers_get_the_files_as_they_are(
    tmp_path: Path, models: Path, framework: str, server: str, files: set[str]
) -> None:
    artifact = make_artifact(tmp_path / "artifact", framework)
    code, words = publish(artifact, models, server=server)
    assert code == 0, words
    assert set(require(Layout(models), version=1, server=server, expected=words["record"]).files) == files


def test_an_archive_is_the_same_whenever_it_is_made(artifact: Path, models: Path) -> None:
    publish(artifact, models, version=1)
    first = (models / "versions/1/model.mar").read_bytes()
    run("remove", "--models", models, "--version", 1)
    time.sleep(0.01)
    publish(artifact, models, version=1)
    assert (models / "versions/1/model.mar").read_bytes() == first


def test_publishing_again_changes_nothing_even_when_the_source_is_gone(artifact: Path, models: Path) -> None:
    _, first = publish(artifact, models)
    wanted, before = digest(artifact), (models / "versions/1/model.mar").stat()
    artifact.rename(artifact.with_name("gone"))
    code, again = publish(artifact, models, wanted=wanted)
    assert (code, again["record"]) == (0, first["record"])
    assert (models / "versions/1/model.mar").stat() == before


def test_a_version_is_given_once(artifact: Path, models: Path, tmp_path: Path) -> None:
    publish(artifact, models)
    before = (models / "versions/1/model.mar").read_bytes()
    code, words = publish(make_artifact(tmp_path / "other", job="another"), models)
    assert (code, words["reason"]) == (3, "VersionTaken")
    assert words["highest"] == max(int(place.name) for place in (models / "versions").iterdir())
    assert (models / "versions/1/model.mar").read_bytes() == before


def test_an_artifact_that_has_changed_since_it_was_verified_is_not_published(artifact: Path, models: Path) -> None:
    code, words = publish(artifact, models, wanted=f"sha256:{'0' * 64}")
    assert (code, words["reason"]) == (3, "DigestChanged")
    assert visible(models) == set()


def test_a_published_version_that_was_changed_is_said(artifact: Path, models: Path) -> None:
    publish(artifact, models)
    (models / "versions/1/model.mar").write_bytes(b"something else")
    code, words = publish(artifact, models)
    assert (code, words["reason"]) == (3, "Damaged")
    assert "the sha256 of" in words["message"]


def test_removing_takes_both_and_may_be_done_again(artifact: Path, models: Path) -> None:
    for version in (1, 2, 3):
        publish(artifact, models, version=version)
    for _ in range(2):
        assert run("remove", "--models", models, "--version", 1, "--version", 3) == (0, {"ok": True, "removed": [1, 3]})
        assert {path.split("/")[1] for path in visible(models)} == {"2"}
    assert leftovers(models) == []


def make_by_hand(models: Path) -> None:
    (models / "versions/5").mkdir(parents=True)


def record_by_hand(models: Path) -> None:
    make_by_hand(models)
    (models / "records/5").mkdir(parents=True)
    (models / "records/5/record.json").write_text('{"version": 5}')


@pytest.mark.parametrize("make", [make_by_hand, record_by_hand])
def test_what_is_not_ours_is_neither_replaced_nor_removed(artifact: Path, models: Path, make: Callable[[Path], None]) -> None:
    publish(artifact, models, version=1)
    make(models)
    code, words = publish(artifact, models, version=5)
    assert (code, words["reason"]) == (3, "NotOurs")
    code, words = run("remove", "--models", models, "--version", 1, "--version", 5)
    assert (code, words["reason"]) == (3, "NotOurs")
    assert "versions/1/model.mar" in visible(models)
    assert (models / "versions/5").is_dir()


def test_no_volume_is_tried_again(artifact: Path, tmp_path: Path) -> None:
    code, words = publish(artifact, tmp_path / "nowhere")
    assert (code, words["reason"]) == (1, "Failed")
    assert "nowhere is not there" in words["message"]


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after it"])
@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_a_publisher_may_be_killed_anywhere(tmp_path: Path, framework: str, after: bool) -> None:
    artifact = make_artifact(tmp_path / "artifact", framework)
    server = {"torch": "torchserve", "tensorflow": "tfserving"}[framework]
    points = 0
    while True:
        points += 1
        models = tmp_path / f"models-{points}"
        models.mkdir()

        def work(models: Path = models) -> dict[str, Any]:
            return publishing.publish(
                source=str(artifact), server=server, digest=digest(artifact), model="m", version=1, models=models
            )

        code = in_a_process(work, functools.partial(kill_at, points, after=after))
        if (models / "versions/1").exists():
            # What a server can see is whole, whenever it looks.
            record = json.loads((models / "records/1/record.json").read_bytes())
            assert set(record["files"]) == {
                str(path.relative_to(models / "versions/1")) for path in (models / "versions/1").rglob("*") if path.is_file()
            }
        words = work()
        require(Layout(models), version=1, server=server, expected=words["record"])
        assert leftovers(models) == []
        if code == 0:
            break
        assert code == KILLED
    assert points > 15


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after it"])
def test_a_removal_may_be_killed_anywhere(tmp_path: Path, artifact: Path, after: bool) -> None:
    points = 0
    while True:
        points += 1
        models = tmp_path / f"models-{points}"
        models.mkdir()
        publishing.publish(
            source=str(artifact), server="torchserve", digest=digest(artifact), model="m", version=1, models=models
        )
        code = in_a_process(lambda models=models: Storage(models).remove([1]), functools.partial(kill_at, points, after=after))
        storage = Storage(models)
        storage.clean()
        storage.remove([1])
        assert visible(models) == set()
        assert leftovers(models) == []
        if code == 0:
            break
        assert code == KILLED
    assert points > 8


@pytest.mark.parametrize("room", [0, 500, 10_000, 19_500])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, artifact: Path, models: Path, room: int) -> None:
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    log = tmp_path / "log"
    log.touch()
    done = subprocess.run(
        publishing_of(artifact, models),
        preexec_fn=little_room,
        capture_output=True,
        text=True,
        check=False,
    )
    words = json.loads(done.stdout)
    assert (done.returncode, words["reason"]) == (1, "Failed")
    assert "File too large" in words["message"]
    assert visible(models) == set()
    assert leftovers(models) == []
    assert publish(artifact, models)[0] == 0


def at_once(artifacts: list[Path], models: Path) -> list[tuple[int, dict[str, Any]]]:
    processes = [
        subprocess.Popen(
            publishing_of(artifact, models),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for artifact in artifacts
    ]
    return [(process.wait(60), json.loads(process.stdout.read())) for process in processes if process.stdout is not None]


def test_several_at_once_publish_one(artifact: Path, models: Path) -> None:
    ended = at_once([artifact] * 5, models)
    assert [code for code, _ in ended] == [0] * 5
    (record,) = {words["record"] for _, words in ended}
    require(Layout(models), version=1, server="torchserve", expected=record)
    assert leftovers(models) == []


def test_of_two_artifacts_at_once_one_gets_the_version(artifact: Path, models: Path, tmp_path: Path) -> None:
    other = make_artifact(tmp_path / "other", job="another")
    ended = at_once([artifact, other] * 3, models)
    won = {words["digest"] for code, words in ended if code == 0}
    assert len(won) == 1
    assert {words.get("reason") for code, words in ended if code != 0} == {"VersionTaken"}
    record = next(words["record"] for code, words in ended if code == 0)
    assert require(Layout(models), version=1, server="torchserve", expected=record).digest in won


def test_a_publisher_at_work_is_not_taken_for_a_leftover(models: Path) -> None:
    storage = Storage(models)
    with storage.aside() as aside:
        (aside / "half").write_text("done")
        assert in_a_process(Storage(models).clean) == 0
        assert (aside / "half").exists()
    (models / "aside" / "left").mkdir()
    Storage(models).clean()
    assert leftovers(models) == []


@pytest.fixture
def stuck(tmp_path: Path, models: Path) -> Iterator[subprocess.Popen[str]]:
    """A publisher that waits in the midst of its work for somebody else's lock."""
    artifact = make_artifact(tmp_path / "stuck")
    Storage(models)
    lock = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(models / "aside/commit.lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert lock.stdout is not None
    lock.stdout.readline()
    process = subprocess.Popen(
        publishing_of(artifact, models),
        text=True,
    )
    yield process
    process.kill()
    process.wait()
    lock.communicate(b"\n")


def test_one_that_is_asked_to_stop_cleans_up(stuck: subprocess.Popen[str], models: Path) -> None:
    deadline = time.monotonic() + 30
    while not list((models / "aside").glob("*/record/record.json")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    stuck.send_signal(signal.SIGTERM)
    assert stuck.wait(30) == 128 + signal.SIGTERM
    assert visible(models) == set()
    assert leftovers(models) == []
