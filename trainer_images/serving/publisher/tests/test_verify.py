"""What `verify` finds in an artifact, and what it refuses."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import digest, make_artifact, publish, run


def change_a_byte(artifact: Path) -> None:
    path = artifact / "model.pt2"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def make_longer(artifact: Path) -> None:
    with (artifact / "model.pt2").open("ab") as stream:
        stream.write(b"!")


def truncate(artifact: Path) -> None:
    (artifact / "model.pt2").write_bytes((artifact / "model.pt2").read_bytes()[:-1])


def remove_a_file(artifact: Path) -> None:
    (artifact / "model.pt").unlink()


def lead_out(artifact: Path) -> None:
    """The same content, but behind a link out of the artifact."""
    (artifact / "model.pt2").rename(artifact.parent / "elsewhere")
    (artifact / "model.pt2").symlink_to(artifact.parent / "elsewhere")


def break_the_manifest(artifact: Path) -> None:
    (artifact / "manifest.json").write_text("{")


def lack_a_signature(artifact: Path) -> None:
    manifest = json.loads((artifact / "manifest.json").read_text())
    del manifest["signature"]["inputs"]
    (artifact / "manifest.json").write_text(json.dumps(manifest))


def test_it_says_what_is_in_the_artifact(artifact: Path, tmp_path: Path) -> None:
    code, words = run(
        "verify", "--source", artifact, "--server", "torchserve", TRAINWRIGHT_TERMINATION_LOG=str(tmp_path / "termination-log")
    )
    files = [path for path in artifact.rglob("*") if path.name != "manifest.json"]
    assert (code, words) == (
        0,
        {
            "ok": True,
            "digest": digest(artifact),
            "framework": "torch",
            "recipe": "tabular",
            "job": "tumours",
            "uid": "uid-1",
            "step": 450,
            "time": 1700000000.0,
            "metrics": {"accuracy": 0.97},
            "data": "d" * 64,
            "test": "e" * 64,
            "bytes": sum(path.stat().st_size for path in files),
            "files": 4,
            "samples": 2,
            "signedBy": None,
        },
    )
    assert (tmp_path / "termination-log").stat().st_size <= 4000


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (change_a_byte, "the sha256 of model.pt2 differs"),
        (truncate, "model.pt2 has 18999 of the 19000 bytes"),
        (make_longer, "model.pt2 has more than the 19000 bytes"),
        (remove_a_file, "model.pt is not there"),
        (lead_out, "model.pt2 is a link"),
        (break_the_manifest, "manifest.json can't be read"),
        (lack_a_signature, "manifest.json: signature.inputs: Field required"),
    ],
)
def test_damage_is_named_and_never_published(artifact: Path, models: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(artifact)
    code, words = run("verify", "--source", artifact, "--server", "torchserve")
    assert (code, words["ok"], words["reason"]) == (3, False, "Damaged")
    assert said in words["message"]
    if said.startswith("model.pt is not"):
        return  # nothing of the server's is missing
    code, words = publish(artifact, models)
    assert (code, words["reason"]) == (3, "Damaged")
    assert [path.name for path in models.rglob("*")] == ["versions", "records", "aside", "commit.lock"] or not list(
        (models / "versions").iterdir()
    )


def test_there_may_be_no_artifact(tmp_path: Path) -> None:
    code, words = run("verify", "--source", tmp_path, "--server", "torchserve")
    assert (code, words["reason"]) == (3, "NoArtifact")
    code, words = run("verify", "--source", "nonsense://x", "--server", "torchserve")
    assert (code, words["reason"]) == (3, "NoArtifact")


@pytest.mark.parametrize(
    ("framework", "server", "said"),
    [
        ("jax", "tfserving", "this one, of jax, has model.msgpack, model.stablehlo; no server takes it"),
        ("torch", "sklearn", "has model.pt, model.pt2; server torchserve takes it"),
        ("sklearn", "torchserve", "takes an artifact with model.pt2 (recipes of torch and horovod)"),
    ],
)
def test_a_server_that_can_load_nothing_of_it_is_told_what_does(tmp_path: Path, framework: str, server: str, said: str) -> None:
    code, words = run("verify", "--source", make_artifact(tmp_path / "artifact", framework), "--server", server)
    assert (code, words["reason"]) == (3, "WrongServer")
    assert said in words["message"]


def test_samples_are_of_the_models_own_tensors(tmp_path: Path) -> None:
    other = {"inputs": [{"name": "images", "dtype": "float32", "shape": [-1, 1]}], "outputs": []}
    code, words = run("verify", "--source", make_artifact(tmp_path / "artifact", signature=other), "--server", "torchserve")
    assert (code, words["reason"]) == (3, "Damaged")
    assert "samples.json has inputs ['numbers'], and the signature ['images']" in words["message"]


def test_many_metrics_are_cut_to_what_fits(tmp_path: Path) -> None:
    metrics = {f"{'long' * 60}{number}": 0.5 for number in range(100)}
    code, words = run("verify", "--source", make_artifact(tmp_path / "artifact", metrics=metrics), "--server", "torchserve")
    assert code == 0
    assert 8 < len(words["metrics"]) < 32
    assert len(json.dumps(words)) <= 4000


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """A web server over the test's folder: a place that isn't on this machine's disk."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_artifact_may_lie_elsewhere(elsewhere: str, artifact: Path, models: Path) -> None:
    source = f"{elsewhere}/{artifact.name}"
    code, words = run("verify", "--source", source, "--server", "torchserve")
    assert (code, words["digest"], words["samples"]) == (0, digest(artifact), 2)
    code, words = publish(source, models, wanted=digest(artifact))
    assert (code, words["ok"]) == (0, True)
    change_a_byte(artifact)
    code, words = run("verify", "--source", source, "--server", "torchserve")
    assert (code, words["reason"]) == (3, "Damaged")


def test_a_source_that_does_not_answer_is_tried_again(artifact: Path) -> None:
    code, words = run("verify", "--source", f"http://127.0.0.1:9/{artifact.name}", "--server", "torchserve")
    assert (code, words["reason"]) == (1, "Failed")
