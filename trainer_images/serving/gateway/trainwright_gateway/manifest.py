"""What an artifact's manifest and samples say, as far as the gateway needs it; read from /models/records/N and verified."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class BadRecord(Exception):
    """What lies under records/N is not what the operator names, or not readable; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One of the signature. `dtype` is numpy's name or `string`; `shape` has -1 for the batch."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """`features` and `predictions` are the histograms of training. `numbers` and `words` are features in the places of the
    tensors of these names, where a network takes a table; words with the categories that the codes stand for.
    """

    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    outputs: Mapping[str, Tensor] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    features: Mapping[str, Any] = field(default_factory=dict)
    predictions: Mapping[str, Any] | None = None
    numbers: tuple[str, ...] = ()
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Some inputs, and what the trainer's model answered to them, by tensor; both lists of rows."""

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]

    @property
    def rows(self) -> int:
        return max((len(rows) for rows in self.inputs.values()), default=0)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of a published version. `samples` is None when its artifact has none."""

    manifest: Manifest
    samples: Samples | None


def read(models: Path, version: int, *, digest: str, record: str) -> Record:
    """Raises BadRecord, and OSError for what can't be read now."""
    folder = models / "records" / str(version)
    _verified(folder / "record.json", record, "the operator's")
    manifest = _parsed(_verified(folder / "manifest.json", digest, "the operator's"), "manifest.json")
    listed = _mapping(_mapping(manifest.get("files")).get("samples.json")).get("sha256")
    path = folder / "samples.json"
    if listed is None and not path.exists():
        return Record(manifest=parse(manifest), samples=None)
    found = _parsed(_verified(path, f"sha256:{listed}", "the manifest's"), "samples.json")
    samples = Samples(inputs=_rows(found, "inputs"), outputs=_rows(found, "outputs"))
    return Record(manifest=parse(manifest), samples=samples if samples.rows else None)


def read_manifest(models: Path, version: int, digest: str) -> Manifest:
    """Raises BadRecord and OSError."""
    return parse(
        _parsed(_verified(models / "records" / str(version) / "manifest.json", digest, "the operator's"), "manifest.json")
    )


def parse(manifest: Mapping[str, Any]) -> Manifest:
    """Raises BadRecord."""
    try:
        signature = _mapping(manifest.get("signature"))
        columns = _mapping(manifest.get("columns"))
        return Manifest(
            inputs=_tensors(signature.get("inputs")),
            outputs=_tensors(signature.get("outputs")),
            classes=tuple(map(str, signature.get("classes") or ())),
            features=_mapping(manifest.get("features")),
            predictions=manifest.get("predictions") or None,
            numbers=tuple(map(str, columns.get("numbers") or ())),
            words={str(name): tuple(map(str, words)) for name, words in _mapping(columns.get("words")).items()},
        )
    except (TypeError, KeyError, ValueError) as error:
        raise BadRecord(f"manifest.json lacks what a gateway needs, or has it in another form: {error!r}") from None


def _verified(path: Path, wanted: str, whose: str) -> bytes:
    content = path.read_bytes()
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if found != wanted:
        raise BadRecord(f"the sha256 of records/{path.parent.name}/{path.name} is {found[:19]}…, {whose} is {wanted[:19]}…")
    return content


def _parsed(content: bytes, name: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise BadRecord(f"{name} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadRecord(f"{name} is no JSON object")
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _tensors(found: Any) -> dict[str, Tensor]:
    return {str(one["name"]): Tensor(dtype=str(one["dtype"]), shape=tuple(map(int, one["shape"]))) for one in found or ()}


def _rows(found: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    tensors = found.get(part)
    if not isinstance(tensors, dict) or not all(isinstance(rows, list) for rows in tensors.values()):
        raise BadRecord(f"samples.json has no '{part}' by tensor, each a list of rows")
    return tensors
