"""Artifacts made of a good one: damaged as disks damage them, or sealed again around something that is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from trainwright_runtime.sealed import MANIFEST, Writer, write_sealed


def copied(good: Path, name: str) -> Path:
    """A copy beside it, to be damaged."""
    copy = good.with_name(name)
    shutil.copytree(good, copy)
    return copy


def flipped(path: Path) -> None:
    """One bit of a file is another."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def resealed(good: Path, name: str, *, facts: dict[str, Any] | None = None, files: dict[str, bytes] | None = None) -> Path:
    """A whole artifact beside it, with other facts in its manifest and other contents of some files."""
    manifest = json.loads((good / MANIFEST).read_text())
    contents = {one: (good / one).read_bytes() for one in manifest.pop("files")} | (files or {})
    del manifest["format"]

    def writer(content: bytes) -> Writer:
        return lambda stream: stream.write(content)

    path = good.with_name(name)
    write_sealed(path, {one: writer(content) for one, content in contents.items()}, manifest | (facts or {}))
    return path


def samples(good: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((good / "samples.json").read_text())
    return found
