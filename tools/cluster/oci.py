"""Small images out of files, as archives that containerd imports: what a Containerfile would be too much for."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True, kw_only=True)
class Content:
    """What an image is made of: files by the place they get, links by where they point, and how it starts."""

    files: Mapping[str, Path]
    links: Mapping[str, str]
    folders: Sequence[str] = ("/tmp",)  # noqa: S108 - inside an image
    entrypoint: Sequence[str] = ()
    path: str = "/bin"


def write(archive: Path, name: str, content: Content) -> Path:
    """Write the image of that name; the same content gives the same bytes."""
    layer = _layer(content)
    diff = hashlib.sha256(layer).hexdigest()
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {"User": "65532:65532", "Entrypoint": list(content.entrypoint), "Env": [f"PATH={content.path}"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}"]},
        }
    )
    layers = [{"mediaType": _LAYER, **_described(layer)}]
    manifest = _json(
        {"schemaVersion": 2, "mediaType": _MANIFEST, "config": {"mediaType": _CONFIG, **_described(config)}, "layers": layers}
    )
    annotations = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    index = _json(
        {"schemaVersion": 2, "manifests": [{"mediaType": _MANIFEST, **_described(manifest), "annotations": annotations}]}
    )
    archive.parent.mkdir(parents=True, exist_ok=True)
    aside = archive.with_suffix(".part")
    with tarfile.open(aside, "w") as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(tar, "index.json", index)
        for blob in (layer, config, manifest):
            _add(tar, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)
    aside.rename(archive)
    return archive


def named(archive: Path) -> dict[str, str]:
    """The images in an archive: name and digest of the manifest. Raises `ValueError` for what is none."""
    try:
        with tarfile.open(archive) as tar:
            member = tar.extractfile("index.json")
            index = json.loads(member.read()) if member else {}
    except (KeyError, tarfile.TarError, json.JSONDecodeError) as error:
        raise ValueError(f"{archive} is no OCI archive: {error}") from None
    found = {}
    for manifest in index.get("manifests", []):
        annotations = manifest.get("annotations", {})
        name = annotations.get("io.containerd.image.name") or annotations.get("org.opencontainers.image.ref.name")
        if name:
            found[name] = manifest["digest"]
    return found


def _layer(content: Content) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        folders: set[str] = set()
        for place in (*content.files, *content.links, *(f"{folder}/x" for folder in content.folders)):
            folders |= {str(parent) for parent in Path(place.lstrip("/")).parents if str(parent) != "."}
        for folder in sorted(folders):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if f"/{folder}" in content.folders else 0o755
            tar.addfile(info)
        for place, source in sorted(content.files.items()):
            data = source.read_bytes()
            info = tarfile.TarInfo(place.lstrip("/"))
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))
        for place, target in sorted(content.links.items()):
            info = tarfile.TarInfo(place.lstrip("/"))
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return stream.getvalue()


def _described(blob: bytes) -> dict[str, object]:
    return {"digest": f"sha256:{hashlib.sha256(blob).hexdigest()}", "size": len(blob)}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
