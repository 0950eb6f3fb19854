"""An image as a file: what an OCI archive holds, read without any engine."""

from __future__ import annotations

import contextlib
import gzip
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast


class NotAnArchive(ValueError):
    """The file is no image archive; the message says what is missing in it."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file of an image: `layer` counts from 0, the base's; `path` has no leading slash; `mode` the permission bits."""

    layer: int
    path: str
    mode: int
    uid: int
    size: int
    is_file: bool
    is_folder: bool
    body: IO[bytes] | None = field(default=None, repr=False, compare=False)


class Archive:
    """`manifest_digest` is what a registry would show for it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with tarfile.open(path) as tar:
            names = {member.name.removeprefix("./") for member in tar.getmembers()}
            if "index.json" not in names:
                raise NotAnArchive(f"{path} has no index.json: not an OCI archive (docker saves one since version 25)")
            manifest = _only_image(tar, json.loads(_read(tar, "index.json")))
            self.manifest_digest: str = manifest["digest"]
            content = json.loads(_read(tar, _blob(manifest)))
            self.config: dict[str, Any] = json.loads(_read(tar, _blob(content["config"])))
            self._layers = [_blob(layer) for layer in content["layers"]]

    @property
    def settings(self) -> dict[str, Any]:
        """What the image says of how it is run: User, Env, Entrypoint, Labels, WorkingDir."""
        return cast("dict[str, Any]", self.config.get("config") or {})

    def entries(self) -> Iterator[Entry]:
        """All files, layer by layer. A body can be read until the next entry is asked for."""
        with tarfile.open(self.path) as outer:
            for number, blob in enumerate(self._layers):
                with _layer(outer, blob) as layer:
                    for member in layer:
                        yield Entry(
                            layer=number,
                            path=member.name.removeprefix("./").strip("/"),
                            mode=member.mode,
                            uid=member.uid,
                            size=member.size,
                            is_file=member.isreg(),
                            is_folder=member.isdir(),
                            body=layer.extractfile(member) if member.isreg() else None,
                        )


def _only_image(tar: tarfile.TarFile, index: dict[str, Any]) -> dict[str, Any]:
    """The manifest of the archive's image; an index may lie in an index, beside statements about how the image was made."""
    found = [one for one in index["manifests"] if "vnd.docker.reference.type" not in (one.get("annotations") or {})]
    first = cast("dict[str, Any]", found[0])
    if first["mediaType"].endswith(("image.index.v1+json", "manifest.list.v2+json")):
        return _only_image(tar, json.loads(_read(tar, _blob(first))))
    return first


def _blob(descriptor: dict[str, Any]) -> str:
    return "blobs/" + cast("str", descriptor["digest"]).replace(":", "/")


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    body = tar.extractfile(name)
    if body is None:
        raise NotAnArchive(f"the archive has no {name}")
    return body.read()


@contextlib.contextmanager
def _layer(outer: tarfile.TarFile, name: str) -> Iterator[tarfile.TarFile]:
    body = outer.extractfile(name)
    if body is None:
        raise NotAnArchive(f"the archive has no {name}")
    packed = body.read(2) == b"\x1f\x8b"
    body.seek(0)
    stream = cast("IO[bytes]", gzip.GzipFile(fileobj=body)) if packed else body
    with tarfile.open(fileobj=stream, mode="r|") as layer:
        yield layer
