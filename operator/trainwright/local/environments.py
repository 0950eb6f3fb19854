"""The images of a laptop, trainers and servers: a virtual environment each, made from the image folder's lock when needed."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from trainwright.local.paths import checkout

STAMP = "trainwright.stamp"
BUILD = "build-wheel"
"""A script of the image's folder: builds the one wheel that no index has, for the Python it is given, and prints its path."""


class EnvironmentFailed(RuntimeError):
    """An environment could not be made; the message ends with the installer's last line."""


def image_folder(image: str) -> Path | None:
    """The folder under trainer_images/ behind an image's name; None for an image that isn't one of ours."""
    name = image.rsplit("/", 1)[-1].split("@", maxsplit=1)[0].split(":", maxsplit=1)[0]
    return next((folder for folder in image_folders() if folder.name == name), None)


def image_folders() -> list[Path]:
    """The folders of all images that have an environment."""
    images = checkout() / "trainer_images"
    return [lock.parent for pattern in ("*", "serving/*") for lock in sorted(images.glob(f"{pattern}/requirements.lock"))]


def _runtime() -> Path:
    """The package that every environment has besides its own."""
    return checkout() / "trainer_images" / "runtime"


def executables(folder: Path) -> Path:
    return folder / ".venv" / "bin"


def is_ready(folder: Path) -> bool:
    """Whether the environment is there and is what the lock says."""
    stamp = folder / ".venv" / STAMP
    return stamp.exists() and stamp.read_text() == _wanted(folder)


async def ensure(folder: Path, progress: Callable[[str], None] = lambda _: None) -> None:
    """Make the environment unless it is ready. Several processes may ask at once. Raises `EnvironmentFailed`."""
    if is_ready(folder):
        return
    lock_file = folder / ".venv.lock"
    with lock_file.open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        if is_ready(folder):
            return
        name = folder.name
        progress(f"preparing environment {name} from its requirements.lock (large: minutes at first)")
        venv = folder / ".venv"
        python = str(venv / "bin" / "python")
        uv = [sys.executable, "-m", "uv"]
        if not (venv / "bin" / "python").exists():
            await _run([*uv, "venv", "--quiet", "--python", sys.executable, str(venv)])
        # Every process of every worker loads these: compiled once, not at each start where Python may not write beside them.
        await _run([*uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *_locked_requirements(folder)])
        if (build := folder / BUILD).exists():
            progress(f"building what {name} has no wheel of (minutes at first, then it is kept)")
            wheel = await _run([str(build), python])
            await _run([*uv, "pip", "install", "--quiet", "--python", python, "--no-deps", wheel])
        own = ["-e", str(_runtime()), "-e", str(folder)]
        await _run([*uv, "pip", "install", "--quiet", "--python", python, "--no-deps", *own])
        (venv / STAMP).write_text(_wanted(folder))
        progress(f"environment {name} is ready")


def _locked_requirements(folder: Path) -> list[str]:
    """With TRAINWRIGHT_TORCH_BACKEND (cpu, cu126, …) torch comes from another index; the lock has no hashes of its files."""
    lock = str(folder / "requirements.lock")
    backend = os.environ.get("TRAINWRIGHT_TORCH_BACKEND")
    return ["--torch-backend", backend, "--no-verify-hashes", "-r", lock] if backend else ["--require-hashes", "-r", lock]


def _wanted(folder: Path) -> str:
    files = [folder / "requirements.lock", folder / "pyproject.toml", _runtime() / "pyproject.toml"]
    files += [path] if (path := folder / BUILD).exists() else []
    content = b"".join(path.read_bytes() for path in files) + os.environ.get("TRAINWRIGHT_TORCH_BACKEND", "").encode()
    return hashlib.sha256(content).hexdigest()


async def _run(command: list[str]) -> str:
    """The last line that the command wrote."""
    own = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    process = await asyncio.create_subprocess_exec(
        *command, env=own, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    last = (output.decode(errors="replace").strip() or "no output").splitlines()[-1]
    if process.returncode:
        raise EnvironmentFailed(f"{' '.join(Path(word).name for word in command[:5])} failed: {last}")
    return last
