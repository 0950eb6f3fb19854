"""Two builds of one image, compared file by file."""

from __future__ import annotations

import hashlib

from images.archive import Archive


def differences(one: Archive, other: Archive) -> list[str]:
    """Sentences; empty if the archives hold the same image."""
    if one.manifest_digest == other.manifest_digest:
        return []
    found = []
    if one.config != other.config:
        names = sorted(name for name in {*one.config, *other.config} if one.config.get(name) != other.config.get(name))
        found.append(f"their settings differ in {', '.join(names)}")
    first, second = _files(one), _files(other)
    for path in sorted({*first, *second}):
        if first.get(path) != second.get(path):
            found.append(f"/{path} differs" if path in first and path in second else f"/{path} is in one of them only")
    return found or ["their manifests differ, though no file does"]


def _files(archive: Archive) -> dict[str, tuple[str, int]]:
    return {
        entry.path: (hashlib.sha256(entry.body.read()).hexdigest() if entry.body else "", entry.mode)
        for entry in archive.entries()
    }
