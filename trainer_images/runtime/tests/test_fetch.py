"""Data from elsewhere: fetched once, whole or not at all, resumed, and waited for by the other workers."""

from __future__ import annotations

import functools
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from launching import wait_for

from trainwright_runtime.fetch import fetch


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "cats").mkdir(parents=True)
    (folder / "cats" / "one.txt").write_text("meow")
    (folder / "labels.csv").write_text("a,b\n")
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


class Server:
    """A real HTTP server over a folder; `seen` are the paths that were read."""

    def __init__(self, folder: Path) -> None:
        self.seen: list[str] = []
        server = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                server.seen.append(self.path)
                super().do_GET()

            def log_message(self, *_: object) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()


@pytest.fixture
def server(source: Path) -> Iterator[Server]:
    made = Server(source)
    yield made
    made.stop()


def run(workspace: Path, *words: str, index: int = 0, uid: str = "uid-1") -> subprocess.Popen[str]:
    values = {
        "TRAINWRIGHT_WORKSPACE": str(workspace),
        "TRAINWRIGHT_WORKERS": "2",
        "TRAINWRIGHT_WORKER_INDEX": str(index),
        "TRAINWRIGHT_UID": uid,
        "TRAINWRIGHT_TERMINATION_LOG": str(workspace.parent / f"last-words-{index}"),
    }
    command = [sys.executable, "-m", "trainwright_runtime.fetch", *words]
    return subprocess.Popen(command, env=os.environ | values, stderr=subprocess.PIPE, text=True)


def test_a_folder_and_a_single_file(source: Path, workspace: Path) -> None:
    fetch(f"file://{source}", workspace / "data/train", job="uid-1")
    assert files(workspace / "data/train") == {"cats/one.txt": "meow", "labels.csv": "a,b\n"}
    fetch(f"file://{source}/labels.csv", workspace / "data/labels", job="uid-1")
    assert files(workspace / "data/labels") == {"labels.csv": "a,b\n"}


def test_over_http_once_for_all_attempts_of_a_job_and_again_only_when_the_source_changed(
    server: Server, source: Path, workspace: Path
) -> None:
    url, folder = f"{server.url}/labels.csv", workspace / "data/train"
    fetch(url, folder, job="uid-1")
    read = len(server.seen)
    (source / "labels.csv").write_text("changed while the job runs")
    fetch(url, folder, job="uid-1")
    assert len(server.seen) == read, "a restart of the same job sees the data it began with"
    assert files(folder) == {"labels.csv": "a,b\n"}
    fetch(url, folder, job="uid-2")
    assert files(folder) == {"labels.csv": "changed while the job runs"}


def test_what_a_job_finds_unchanged_is_not_fetched_again(
    source: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workspace / "data/train"
    fetch(f"file://{source}", folder, job="uid-1")
    inode = (folder / "labels.csv").stat().st_ino
    fetch(f"file://{source}", folder, job="uid-2")
    assert (folder / "labels.csv").stat().st_ino == inode
    assert "is as it was fetched before (2 files, 8 B)" in capsys.readouterr().err


def test_another_uri_under_the_same_name_replaces_the_data_set_whole(source: Path, workspace: Path) -> None:
    folder = workspace / "data/train"
    fetch(f"file://{source}", folder, job="uid-1")
    fetch(f"file://{source}/cats", folder, job="uid-2")
    assert files(folder) == {"one.txt": "meow"}


def test_a_fetch_that_was_killed_goes_on_with_the_files_that_are_missing(source: Path, workspace: Path) -> None:
    with (source / "weights.bin").open("wb") as large:
        large.truncate(400 << 20)
    folder, partial = workspace / "data/train", workspace / "data/.train.partial"
    process = run(workspace, f"train=file://{source}")
    wait_for((partial / ".weights.bin.tmp").exists, "the large file begun")
    process.kill()
    process.wait()
    assert not folder.exists(), "half a data set is none"
    before = (partial / "labels.csv").stat().st_ino

    assert run(workspace, f"train=file://{source}").wait(60) == 0
    assert (folder / "labels.csv").stat().st_ino == before
    assert (folder / "weights.bin").stat().st_size == 400 << 20
    assert sorted(path.name for path in folder.iterdir()) == ["cats", "labels.csv", "weights.bin"]


def test_the_second_worker_waits_for_the_first(source: Path, workspace: Path) -> None:
    word = f"train=file://{source}"
    second = run(workspace, word, index=1)
    assert second.stderr is not None
    assert "waiting for worker 0" in second.stderr.readline()
    assert run(workspace, word).wait(60) == 0
    assert second.wait(30) == 0
    assert files(workspace / "data/train")["cats/one.txt"] == "meow"


@pytest.mark.parametrize(
    ("uri", "code", "said"),
    [
        ("file:///no/such/folder", 1, "is not there"),
        ("gopher://host/x", 64, "known here: file, https"),
        ("http://127.0.0.1:9/x", 1, "Cannot connect to host"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_one_line(workspace: Path, uri: str, code: int, said: str) -> None:
    process = run(workspace, f"train={uri}")
    assert process.wait(60) == code
    assert process.stderr is not None
    last = process.stderr.read().splitlines()[-1]
    assert uri in last
    assert said in last
    words = json.loads((workspace.parent / "last-words-0").read_text())
    assert words["cause"] == ("InvalidConfig" if code == 64 else "Error")
    assert said in words["message"]
