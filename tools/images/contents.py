"""What an archive holds, gone through once: the list of its contents (CycloneDX), and what should not be in an image."""

from __future__ import annotations

import email.parser
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from images.archive import Archive, Entry

PYTHON_SBOM = "opt/venv/sbom.cdx.json"
ADDED_SBOM = re.compile(r"opt/venv/sbom\.\w+\.cdx\.json")
"""Of an image that adds packages to another of ours."""
DPKG = "var/lib/dpkg/status"
USER = "65532:65532"
LABELS = tuple(
    f"org.opencontainers.image.{name}"
    for name in ("title", "description", "version", "revision", "created", "source", "licenses", "base.name")
)
# Where a container may write by design, or what no pod keeps from its image.
_WRITABLE = ("tmp", "var/tmp", "run/lock", "dev/", "proc/", "sys/", "run/")
_TOOLS = frozenset({"gcc", "g++", "cc", "c++", "clang", "ld", "as", "make", "cmake", "nvcc", "javac", "uv", "uvx", "pip", "pip3"})
_PROGRAM_FOLDERS = ("usr/bin/", "usr/local/bin/", "bin/", "opt/venv/bin/", "usr/sbin/")
_CACHES = ("root/.cache/", "var/cache/uv/", "var/cache/apt/archives/", "opt/build/", "tmp/", "source/", "var/lib/apt/lists/")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """`sbom`: a CycloneDX document; `faults`: a sentence for each thing that should not be; `unpacked`: bytes of all files."""

    sbom: dict[str, Any]
    faults: tuple[str, ...]
    unpacked: int


def contents(archive: Archive, name: str, *, python: bool = True) -> Contents:
    """Go through an image. `python`: whether it must have a virtual environment."""
    packages: dict[str, Any] = {}
    debian: dict[str, dict[str, Any]] = {}
    faults = list(_settings_faults(archive.settings))
    unpacked = 0
    for entry in archive.entries():
        unpacked += entry.size if entry.is_file else 0
        faults += _faults(entry)
        if entry.body is None:
            continue
        if entry.path == PYTHON_SBOM or ADDED_SBOM.fullmatch(entry.path):
            packages = _merged(packages, json.load(entry.body))
        elif entry.path == DPKG or (entry.path.startswith("var/lib/dpkg/status.d/") and not entry.path.endswith(".md5sums")):
            debian |= _packages(entry.body.read().decode())
    if python and not packages:
        faults.append(f"/{PYTHON_SBOM} is missing")
    return Contents(sbom=_sbom(archive, name, packages, debian), faults=tuple(faults), unpacked=unpacked)


def _settings_faults(settings: dict[str, Any]) -> Iterator[str]:
    if settings.get("User") != USER:
        yield f"it runs as '{settings.get('User', '')}', not as {USER}"
    labels = settings.get("Labels") or {}
    for label in LABELS:
        if not labels.get(label):
            yield f"label {label} is missing or empty"


def _faults(entry: Entry) -> Iterator[str]:
    """What is wrong with a file; of those that come with the base, only what a pod could misuse."""
    path, folder_of_writing = entry.path, entry.path.startswith(_WRITABLE)
    if entry.layer > 0:
        if entry.mode & 0o6000 and entry.is_file:
            yield f"/{path} runs with its owner's rights (mode {entry.mode:o})"
        if path.startswith(_CACHES) and entry.is_file:
            yield f"/{path} is left over from building"
        if entry.uid != 0 and not path.startswith("workspace"):
            yield f"/{path} belongs to {entry.uid}, not to root"
        if entry.is_folder and path.startswith("opt/venv/") and path.rpartition("/")[2] == "tests":
            yield f"/{path} holds tests"
        folder, _, program = path.rpartition("/")
        if program in _TOOLS and f"{folder}/" in _PROGRAM_FOLDERS:
            yield f"/{path} is for building, and an image that runs needs none"
    if entry.mode & 0o002 and (entry.is_file or entry.is_folder) and not folder_of_writing:
        yield f"/{path} can be written by everybody (mode {entry.mode:o})"


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The second document, and what only the first names."""
    named = {component["bom-ref"] for component in other["components"]}
    return {
        **other,
        "components": [*(part for part in one.get("components", []) if part["bom-ref"] not in named), *other["components"]],
    }


def _packages(status: str) -> dict[str, dict[str, Any]]:
    """Debian packages in dpkg's notes, as components."""
    found = {}
    for paragraph in status.split("\n\n"):
        fields = email.parser.HeaderParser().parsestr(paragraph.strip() + "\n")
        name, version = fields.get("Package"), fields.get("Version")
        if not name or not version or "installed" not in fields.get("Status", "install ok installed").split():
            continue
        purl = f"pkg:deb/debian/{quote(name, safe='')}@{quote(version, safe='')}?arch={fields.get('Architecture', 'all')}"
        found[purl] = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    return found


def _sbom(archive: Archive, name: str, python: dict[str, Any], debian: dict[str, dict[str, Any]]) -> dict[str, Any]:
    labels = archive.settings.get("Labels") or {}
    version = labels.get("org.opencontainers.image.version", "")
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        **python,
    }
    document["version"] = document.get("version", 1)
    document["metadata"] = {
        **python.get("metadata", {}),
        "component": {
            "type": "container",
            "bom-ref": f"{name}@{archive.manifest_digest}",
            "name": name,
            "version": version,
            "hashes": [{"alg": "SHA-256", "content": archive.manifest_digest.removeprefix("sha256:")}],
        },
    }
    document["components"] = [*python.get("components", []), *(debian[purl] for purl in sorted(debian))]
    return document
