"""Artifacts of somebody who wants more than a model served: none leads the publisher elsewhere, stops it, or gets code loaded.

The artifact's author may write anything into the folder that they offer, the manifest included; its digests are then theirs.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import digest, make_artifact, publish, run
from trainwright_runtime.sealed import Damaged, parse_seal

Change = Callable[[Path], None]


def facts(content: bytes, **lies: Any) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} | lies


def rewrite(artifact: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest."""
    path = artifact / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def names(name: str) -> Change:
    """A manifest that names one more file."""
    return lambda artifact: rewrite(artifact, lambda manifest: manifest["files"].update({name: facts(b"")}))


def lies(**about: Any) -> Change:
    """A manifest that says something untrue of the model's file."""
    return lambda artifact: rewrite(artifact, lambda manifest: manifest["files"]["model.pt2"].update(about))


def replaced_by(make: Callable[[Path], object]) -> Change:
    """The model's file is something else."""

    def change(artifact: Path) -> None:
        (artifact / "model.pt2").unlink()
        make(artifact / "model.pt2")

    return change


def bind_a_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path may have 100 characters
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def link_a_folder(artifact: Path) -> None:
    names("inside/passwd")(artifact)
    (artifact / "inside").symlink_to("/etc")


def nest(artifact: Path) -> None:
    (artifact / "manifest.json").write_text('{"format": 1, "files": {}, "a": ' + "[" * 100_000)


def write_a_long_manifest(artifact: Path) -> None:
    (artifact / "manifest.json").write_bytes(b" " * (33 << 20))


def list_too_much(artifact: Path) -> None:
    rewrite(artifact, lambda manifest: manifest["files"].update({f"f{n}": facts(b"") for n in range(100_000)}))


HOSTILE: dict[str, tuple[Change, str]] = {
    "a link to the machine's files": (replaced_by(lambda path: path.symlink_to("/etc/passwd")), "is a link"),
    "a link to another file of its own": (replaced_by(lambda path: path.symlink_to("model.pt")), "is a link"),
    "a folder that is a link": (link_a_folder, "inside/passwd is a link, or lies behind one"),
    "a pipe": (replaced_by(os.mkfifo), "model.pt2 is a pipe, a socket or a device"),
    "a socket": (replaced_by(bind_a_socket), "model.pt2 is a pipe, a socket or a device"),
    "a folder where a file is named": (replaced_by(Path.mkdir), "model.pt2 is not there"),
    "a name that climbs": (names("../outside"), "'../outside', which is not inside"),
    "a name that climbs in the middle": (names("a/../../outside"), "which is not inside"),
    "an absolute name": (names("/etc/passwd"), "'/etc/passwd', which is not inside"),
    "a name with a NUL in it": (names("a\0b"), "which is not inside"),
    "an empty name": (names(""), "which is not inside"),
    "a smaller size than the truth": (lies(bytes=1), "model.pt2 has more than the 1 bytes"),
    "a larger size than the truth": (lies(bytes=2**60), "model.pt2 has 19000 of the"),
    "a size below nothing": (lies(bytes=-1), "files.model.pt2.bytes"),
    "a size that is no number": (lies(bytes="NaN"), "files.model.pt2.bytes"),
    "another digest": (lies(sha256="0" * 64), "the sha256 of model.pt2 differs"),
    "a digest that is a path": (lies(sha256="../../etc/passwd"), "files.model.pt2.sha256"),
    "lists in lists": (nest, "manifest.json can't be read"),
    "a manifest of 33 MB": (write_a_long_manifest, "manifest.json is larger than"),
    "100,000 files that are not there": (list_too_much, "f0 is not there"),
    "a case that differs": (names("MODEL.PT2"), "MODEL.PT2 is not there"),
    "letters put together otherwise": (names("mode\u0301l.pt2"), "is not there"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_it_is_refused_for_good_and_nothing_is_published(artifact: Path, models: Path, what: str) -> None:
    change, said = HOSTILE[what]
    change(artifact)
    code, words = run("verify", "--source", artifact, "--server", "torchserve")
    assert (code, words["reason"]) == (3, "Damaged")
    assert said in words["message"]
    if "not there" not in said and "inside/" not in said:
        # What the server doesn't load isn't looked at again.
        code, words = publish(artifact, models)
        assert code == 3
        assert not list(models.glob("versions/*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="making a device takes root, and a CAP_MKNOD")
def test_a_device_is_refused(artifact: Path) -> None:
    try:
        replaced_by(lambda path: os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(1, 5)))(artifact)
    except PermissionError:
        pytest.skip("making a device takes a CAP_MKNOD that this root lacks")
    code, words = run("verify", "--source", artifact, "--server", "torchserve")
    assert (code, words["reason"]) == (3, "Damaged")
    assert "is a pipe, a socket or a device" in words["message"]


def test_what_is_served_has_no_other_name(artifact: Path, models: Path) -> None:
    """A hard link keeps a way to the offered file; what is served is a copy."""
    os.link(artifact / "model.pt2", artifact.parent / "kept")
    assert publish(artifact, models)[0] == 0
    served = models / "versions/1/model.mar"
    before = served.read_bytes()
    (artifact.parent / "kept").write_bytes(b"another program")
    assert served.read_bytes() == before
    assert served.stat().st_nlink == 1


def test_an_archive_is_ours_whatever_the_artifact_has(artifact: Path, models: Path) -> None:
    """No archive of the author's, no handler and no pickle gets into the one that is served; nothing is packed small."""
    others = {
        "model.mar": b"PK",
        "trainwright_handler.py": b"import os",
        "MAR-INF/MANIFEST.json": b"{}",
        "extra.pkl": b"cos\nsystem\n.",
    }
    for name, content in others.items():
        (artifact / name).parent.mkdir(exist_ok=True)
        (artifact / name).write_bytes(content)
    rewrite(artifact, lambda manifest: manifest["files"].update({name: facts(content) for name, content in others.items()}))
    assert publish(artifact, models)[0] == 0
    assert [path.name for path in models.glob("versions/1/*")] == ["model.mar"]
    with zipfile.ZipFile(models / "versions/1/model.mar") as archive:
        entries = archive.infolist()
        assert archive.read("trainwright_handler.py") != b"import os"
        assert archive.read("MAR-INF/MANIFEST.json") != b"{}"
    assert sorted(one.filename for one in entries) == [
        "MAR-INF/MANIFEST.json",
        "manifest.json",
        "model.pt2",
        "trainwright_handler.py",
    ]
    # A zip bomb is an entry that is longer than its file: these are stored as they are, and as long as the manifest says.
    assert all(one.compress_type == zipfile.ZIP_STORED and one.file_size == one.compress_size for one in entries)


def test_a_pickle_is_not_served_where_none_is_due(tmp_path: Path, models: Path) -> None:
    artifact = make_artifact(tmp_path / "artifact", framework="sklearn")
    (artifact / "model.joblib").write_bytes(b"cos\nsystem\n.")
    rewrite(artifact, lambda manifest: manifest["files"].update({"model.joblib": facts(b"cos\nsystem\n.")}))
    assert publish(artifact, models, server="sklearn")[0] == 0
    assert [path.name for path in models.glob("versions/1/*")] == ["model.skops"]


def test_what_is_published_is_no_program(tmp_path: Path, models: Path) -> None:
    artifact = make_artifact(tmp_path / "artifact", framework="tensorflow")
    os.chmod(artifact / "saved_model/saved_model.pb", 0o4777)
    assert publish(artifact, models, server="tfserving")[0] == 0
    assert stat.S_IMODE((models / "versions/1/saved_model.pb").stat().st_mode) == 0o644


@pytest.mark.parametrize("model", ["../other", "a/b", "", "a\nb", ".hidden"])
def test_a_model_s_name_is_no_path(artifact: Path, models: Path, model: str) -> None:
    code, words = run(
        *("publish", "--source", artifact, "--server", "torchserve", "--digest", digest(artifact)),
        *("--model", model, "--version", 1, "--models", models),
    )
    assert code == 1
    assert "accepted: letters" in words["message"]


def test_a_key_that_is_none_is_not_told(artifact: Path, tmp_path: Path) -> None:
    """Any Secret can be named as the key: what is in it must not come out in an error."""
    (tmp_path / "key").write_text("-----BEGIN PUBLIC KEY-----\nc2VjcmV0LXRva2Vu\n-----END PUBLIC KEY-----\nplain-token")
    (artifact / "model.sig").write_text("{}")
    code, words = run("verify", "--source", artifact, "--server", "torchserve", "--public-key", tmp_path / "key")
    assert code == 1
    assert "public key" in words["message"]
    assert "token" not in words["message"]
    assert "c2Vj" not in words["message"]


def test_what_is_not_signed_beside_a_pipe_is_refused(artifact: Path, tmp_path: Path) -> None:
    """Checking a signature looks at all that lies there, also at what no manifest names."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "private").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "public").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert run("sign", "--source", artifact, "--private-key", tmp_path / "private")[0] == 0
    os.mkfifo(artifact / "unnamed")
    code, words = run("verify", "--source", artifact, "--server", "torchserve", "--public-key", tmp_path / "public")
    assert (code, words["reason"]) == (3, "BadSignature")


def test_a_seal_is_read_whatever_is_in_it() -> None:
    for content in (b"[" * 100_000, b"1" * 5000, b"\xff\xfe", b"null", b'{"format": 1, "files": []}'):
        with pytest.raises(Damaged):
            parse_seal(content)
