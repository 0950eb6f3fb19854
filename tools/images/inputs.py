"""What an image depends on, as one hash: what has the hash of the last build is not built again."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from images.catalogue import ROOT, Image

# Never part of an image: what tests need, what running them leaves behind, and the environments of a laptop.
LEFT_OUT = frozenset({"tests", "__pycache__", ".venv", ".venv.lock", ".pytest_cache", ".ruff_cache", ".mypy_cache"})


@dataclass(frozen=True, kw_only=True)
class Source:
    """The last commit that touched what an image is made of, and its time in seconds since 1970."""

    revision: str
    epoch: int


def files(image: Image, root: Path = ROOT) -> Iterator[Path]:
    """All files that the image is made of, relative to `root`, sorted."""
    found: set[Path] = set()
    for source in image.sources:
        path = root / source
        if path.is_file():
            found.add(path.relative_to(root))
            continue
        for folder, folders, names in os.walk(path):
            folders[:] = [name for name in folders if name not in LEFT_OUT]
            found.update(Path(folder, name).relative_to(root) for name in names if name not in LEFT_OUT)
    return iter(sorted(found))


def key(image: Image, arguments: Mapping[str, str], needed: Mapping[str, str], root: Path = ROOT) -> str:
    """64 hex digits. `arguments`: what the build is given besides files; `needed`: keys of the images that it is built from."""
    digest = hashlib.sha256(json.dumps([image.name, dict(arguments), dict(needed)], sort_keys=True).encode())
    for path in files(image, root):
        mode = "x" if os.access(root / path, os.X_OK) else "-"
        content = hashlib.sha256((root / path).read_bytes()).hexdigest()
        digest.update(f"{path}\0{mode}\0{content}\n".encode())
    return digest.hexdigest()


def source(image: Image, root: Path = ROOT) -> Source:
    """Where the image's files come from. SOURCE_DATE_EPOCH, if set, is the time; without git there is no revision."""
    revision, epoch = "unknown", 0
    if told := _git(root, "log", "-1", "--format=%H %ct", "--", *image.sources):
        revision, _, seconds = told.partition(" ")
        epoch = int(seconds)
        if _git(root, "status", "--porcelain", "--", *image.sources):
            revision += "-dirty"
    return Source(revision=revision, epoch=int(os.environ.get("SOURCE_DATE_EPOCH", epoch)))


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
