"""An artifact that is sent to `receive`, by a client of the test's own, over a real connection: whole, in part, and wrong."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import PUBLISHER, make_artifact

TOKEN = "of one time"
ADDRESS = "127.77.0.1"
DEADLINE = 20.0


class Receiving:
    """A receiver that runs, and how it is spoken to."""

    def __init__(self, process: subprocess.Popen[str], artifact: Path) -> None:
        self.process = process
        self.artifact = artifact
        self.manifest = (artifact / "manifest.json").read_text()
        self.names = sorted(json.loads(self.manifest)["files"])

    def ask(self, method: str, path: str, body: bytes | None = None, token: str = TOKEN) -> tuple[int, dict[str, Any]]:
        line = http.client.HTTPConnection(ADDRESS, 8080, timeout=DEADLINE)
        with contextlib.closing(line):
            line.request(method, path, body, {"x-trainwright-token": token})
            answer = line.getresponse()
            return answer.status, json.loads(answer.read())

    def announce(self, manifest: str | None = None, **others: Any) -> dict[int, int]:
        """What is missing then."""
        body = json.dumps({"manifest": manifest or self.manifest, "others": others}).encode()
        status, state = self.ask("PUT", "/announce", body)
        assert status == 200, state
        until = time.monotonic() + DEADLINE
        while not state["ready"]:
            assert time.monotonic() < until
            status, state = self.ask("GET", "/state")
            assert status == 200, state
        return {int(number): have for number, have in state["missing"].items()}

    def send(self, number: int, offset: int = 0, content: bytes | None = None) -> tuple[int, dict[str, Any]]:
        content = (self.artifact / self.names[number]).read_bytes()[offset:] if content is None else content
        return self.ask("PUT", f"/files/{number}?offset={offset}", content)

    def ended(self) -> tuple[int, dict[str, Any]]:
        """Exit code and last words."""
        said, _ = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, json.loads(said)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def receiving(artifact: Path, volume: Path, *words: str) -> Iterator[Receiving]:
    digest = hashlib.sha256((artifact / "manifest.json").read_bytes()).hexdigest()
    variables = {"TRAINWRIGHT_POD_IP": ADDRESS, "TRAINWRIGHT_TOKEN_SHA256": hashlib.sha256(TOKEN.encode()).hexdigest()}
    command = [PUBLISHER, "receive", "--into", str(volume / digest), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **variables})
    receiver = Receiving(process, artifact)
    until = time.monotonic() + DEADLINE
    try:
        while True:
            try:
                receiver.ask("GET", "/hello")
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
        yield receiver
    finally:
        process.kill()
        process.wait()


def place(artifact: Path, volume: Path) -> Path:
    return volume / hashlib.sha256((artifact / "manifest.json").read_bytes()).hexdigest()


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "incoming").mkdir()
    return tmp_path / "incoming"


def test_an_artifact_arrives_whole_and_what_nobody_waits_for_goes(artifact: Path, volume: Path) -> None:
    for name in ("a" * 64, "b" * 64, "." + "c" * 64):
        (volume / name).mkdir()
    with receiving(artifact, volume, "--keep", "b" * 64) as receiver:
        signature = b"signed"
        other = {"model.sig": {"sha256": hashlib.sha256(signature).hexdigest(), "bytes": len(signature)}}
        missing = receiver.announce(**other)
        assert set(missing.values()) == {0}
        receiver.names = sorted([*receiver.names, "model.sig"])
        for number in missing:
            content = signature if receiver.names[number] == "model.sig" else None
            assert receiver.send(number, content=content) == (200, {"whole": True})
        assert receiver.ask("PUT", "/finish") == (200, {"ok": True})
        code, words = receiver.ended()
        assert (code, words["ok"]) == (0, True)
    arrived = place(artifact, volume)
    for path in artifact.rglob("*"):
        assert path.is_dir() or (arrived / path.relative_to(artifact)).read_bytes() == path.read_bytes()
    assert (arrived / "model.sig").read_bytes() == signature
    assert {path.name for path in volume.iterdir()} == {arrived.name, "b" * 64}


def test_a_receiver_that_is_killed_is_gone_on_with(artifact: Path, volume: Path) -> None:
    with receiving(artifact, volume) as receiver:
        number = receiver.names.index("model.pt2")
        receiver.announce()
        assert receiver.send(0) == (200, {"whole": True})
        assert receiver.send(number, content=(artifact / "model.pt2").read_bytes()[:5000]) == (200, {"whole": False})
        assert receiver.send(number, offset=9)[0] == 416, "not where the last piece ended"
        receiver.kill()
    assert not place(artifact, volume).exists(), "nothing is there before all of it is"
    with receiving(artifact, volume) as receiver:
        missing = receiver.announce()
        assert 0 not in missing, "what has come is not sent again"
        assert missing[number] == 5000
        for left, have in missing.items():
            assert receiver.send(left, offset=have) == (200, {"whole": True})
        assert receiver.send(number) == (416, {"error": "19000 bytes of it are here", "have": 19000})
        receiver.ask("PUT", "/finish")
        assert receiver.ended()[0] == 0
    with receiving(artifact, volume) as receiver:
        assert receiver.announce() == {}, "an artifact that is there is not sent again"
        receiver.ask("PUT", "/finish")
        assert receiver.ended()[0] == 0
    path = place(artifact, volume) / "model.pt2"
    path.write_bytes(b"!" + path.read_bytes()[1:])
    with receiving(artifact, volume) as receiver:
        assert receiver.announce() == {number: 0}, "what was damaged meanwhile comes anew"


def test_what_arrives_otherwise_than_announced_is_not_taken(artifact: Path, volume: Path) -> None:
    with receiving(artifact, volume) as receiver:
        number = receiver.names.index("model.pt2")
        content = (artifact / "model.pt2").read_bytes()
        missing = receiver.announce()
        for wrong in (b"!" + content[1:], content + b"!"):
            status, answer = receiver.send(number, content=wrong)
            assert status == 409
            assert "model.pt2 did not arrive as it was announced" in answer["error"]
            assert receiver.ask("GET", "/state")[1]["missing"][str(number)] == 0
        status, answer = receiver.ask("PUT", "/finish")
        assert (status, answer["error"]) == (409, f"{len(missing)} of {len(missing)} files are not here yet")
        assert receiver.ask("PUT", "/files/999?offset=0", b"")[0] == 400
        assert receiver.ask("PUT", "/files/0?offset=-1", b"")[0] == 400


@pytest.mark.parametrize("path", ["/state", "/announce", "/files/0?offset=0", "/finish"])
def test_nobody_but_who_has_the_token_is_heard(artifact: Path, volume: Path, path: str) -> None:
    with receiving(artifact, volume) as receiver:
        method = "GET" if path == "/state" else "PUT"
        assert receiver.ask(method, path, b"{}", token="another")[0] == 401
        assert receiver.ask(method, path, b"{}", token="")[0] == 401
    assert list(volume.iterdir()) == []


def test_other_artifacts_and_names_that_lead_out_are_refused(artifact: Path, volume: Path, tmp_path: Path) -> None:
    other = (make_artifact(tmp_path / "other", uid="another") / "manifest.json").read_text()
    with receiving(artifact, volume) as receiver:
        status, answer = receiver.ask("PUT", "/announce", json.dumps({"manifest": other}).encode())
        assert (status, answer["reason"]) == (422, "DigestChanged")
        for name in ("../model.sig", "/etc/passwd", "manifest.json", "model.pt2"):
            body = {"manifest": receiver.manifest, "others": {name: {"sha256": "0" * 64, "bytes": 1}}}
            status, answer = receiver.ask("PUT", "/announce", json.dumps(body).encode())
            assert (status, answer["reason"]) == (422, "Damaged")
        assert receiver.ask("PUT", "/announce", b"{}")[0] == 422


def test_it_ends_when_nobody_comes_or_when_it_is_told_to(artifact: Path, volume: Path) -> None:
    with receiving(artifact, volume, "--idle", "1") as receiver:
        code, words = receiver.ended()
        assert code == 1
        assert "nobody has come for 1 s" in words["message"]
    with receiving(artifact, volume) as receiver:
        receiver.process.send_signal(signal.SIGTERM)
        code, words = receiver.ended()
        assert (code, words["reason"]) == (1, "Failed")
