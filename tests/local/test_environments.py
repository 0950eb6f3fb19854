"""The environments of trainer images: made once from a lock, made again when it changes, resumed when interrupted. Real uv."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from trainwright.local import environments

PROJECT = """
[project]
name = "tiny-{name}"
version = "0"
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[tool.hatch.build.targets.wheel]
packages = ["{name}"]
"""


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one image that has a package of its own and nothing to download but what builds it, and the runtime."""
    monkeypatch.setattr(environments, "checkout", lambda: tmp_path)
    images = tmp_path / "trainer_images"
    for name in ("runtime", "tiny"):
        folder = images / name
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"said = 'from {name}'\n")
        (folder / "pyproject.toml").write_text(PROJECT.format(name=name))
    (images / "tiny" / "requirements.lock").write_text("# nothing\n")
    assert environments.image_folders() == [images / "tiny"]
    return images / "tiny"


async def test_made_when_first_needed_and_not_again_until_the_lock_changes(image: Path) -> None:
    said: list[str] = []
    assert not environments.is_ready(image)
    await environments.ensure(image, said.append)
    assert said == [
        "preparing environment tiny from its requirements.lock (large: minutes at first)",
        "environment tiny is ready",
    ]
    python = environments.executables(image) / "python"
    both = "import runtime, tiny; print(runtime.said, tiny.said)"
    assert subprocess.run([python, "-c", both], capture_output=True, text=True, check=True).stdout == "from runtime from tiny\n"
    await environments.ensure(image, said.append)
    assert len(said) == 2
    (image / "requirements.lock").write_text("# changed\n")
    assert not environments.is_ready(image)
    await environments.ensure(image, said.append)
    assert len(said) == 4


async def test_an_interrupted_one_is_finished_and_a_failing_one_says_why(image: Path) -> None:
    (image / "requirements.lock").write_text("no-such-package-of-ours==1.0 --hash=sha256:00\n")
    with pytest.raises(environments.EnvironmentFailed, match="failed:"):
        await environments.ensure(image)
    assert not environments.is_ready(image), "half an environment is none"
    (image / "requirements.lock").write_text("# nothing\n")
    await environments.ensure(image)
    assert environments.is_ready(image)


def test_an_image_s_name_leads_to_its_folder() -> None:
    for name in ("ghcr.io/trainwright/torch:0.1.0", "torch", "host:5000/x/torch@sha256:0"):
        folder = environments.image_folder(name)
        assert folder is not None
        assert folder.name == "torch"
    assert environments.image_folder("ghcr.io/trainwright/base:0.1.0") is None
