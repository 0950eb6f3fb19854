"""A sealed directory with folders in it, as TensorFlow's models have: written, verified, carried to a store and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainwright_runtime.artifact import Model, Tensor, samples
from trainwright_runtime.artifact import write as write_artifact
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.remote import RemoteWorkspace
from trainwright_runtime.sealed import Damaged, read_seal, verify, write_sealed

NAMES = ("saved_model/saved_model.pb", "saved_model/variables/variables.index", "report.json")


def sealed(path: Path, names: tuple[str, ...] = NAMES) -> Path:
    write_sealed(path, {name: lambda stream, name=name: stream.write(name.encode()) for name in names}, {"step": 3})
    return path


def test_files_in_folders_are_written_and_verified(tmp_path: Path) -> None:
    path = sealed(tmp_path / "artifacts")
    manifest = read_seal(path)
    assert set(manifest["files"]) == set(NAMES)
    verify(path, manifest)
    (path / NAMES[1]).write_text("changed")
    with pytest.raises(Damaged, match=r"variables\.index differs"):
        verify(path, manifest)
    sealed(path, ("other/model.bin",))
    assert [one.name for one in path.iterdir() if one.is_dir()] == ["other"], "nothing is left of what was there before"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a//b", "a/./b", "", "manifest.json"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="can't be a file of a sealed directory"):
        sealed(tmp_path / "artifacts", (name,))
    assert not list(tmp_path.iterdir())


def test_folders_survive_a_store(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    remote = RemoteWorkspace(f"file://{store}/runs", uid="u", attempt=1)
    remote.announce(None)
    remote.put_sealed(sealed(tmp_path / "artifacts"), "artifacts")
    remote.put_sealed(sealed(tmp_path / "artifacts", NAMES[1:]), "artifacts")
    manifest = remote.get_sealed("artifacts", tmp_path / "back")
    verify(tmp_path / "back", manifest)
    assert {str(one.relative_to(tmp_path / "back")) for one in (tmp_path / "back").rglob("*") if one.is_file()} == {
        *NAMES[1:],
        "manifest.json",
    }


def test_an_artifact_says_what_the_model_is_whatever_trained_it(tmp_path: Path) -> None:
    environment = RankEnvironment(job="digits", uid="u", attempt=2, artifact_dir=tmp_path / "ws" / "artifacts")
    model = Model(
        framework="anything",
        package="pytest",
        recipe="images",
        step=7,
        inputs=[Tensor(name="images", dtype="float32", shape=(-1, 1, 8, 8), range=(0.0, 1.0))],
        outputs=[Tensor(name="logits", dtype="float32", shape=(-1, 2))],
        classes=["a", "b"],
        metrics={"accuracy": 1.0},
        data={"sha256": "0"},
        features={"x": {"kind": "numeric"}},
        libraries=["pluggy"],
        more={"quantized": False},
    )
    path = write_artifact(environment, model, samples({"images": [[1.0]]}, {"logits": [[0.5, 0.5]]}))
    facts = json.loads((path / "manifest.json").read_text())
    assert facts["frameworkVersion"] == pytest.__version__
    assert set(facts["libraries"]) == {"python", "pluggy"}
    assert facts["signature"] == {
        "inputs": [{"name": "images", "dtype": "float32", "shape": [-1, 1, 8, 8], "range": [0.0, 1.0]}],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": [-1, 2]}],
        "classes": ["a", "b"],
    }
    named = {name: facts[name] for name in ("framework", "recipe", "job", "uid", "attempt", "step", "metrics", "quantized")}
    assert named == {
        "framework": "anything",
        "recipe": "images",
        "job": "digits",
        "uid": "u",
        "attempt": 2,
        "step": 7,
        "metrics": {"accuracy": 1.0},
        "quantized": False,
    }
    assert json.loads((path / "samples.json").read_text())["outputs"] == {"logits": [[0.5, 0.5]]}
