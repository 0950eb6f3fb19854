"""Signatures: who may have made one, and over what."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from model_signing import hashing, signing

from conftest import make_artifact, run


def make_key(folder: Path, name: str) -> tuple[Path, Path]:
    """A private and a public key, in files."""
    return write_key(ec.generate_private_key(ec.SECP256R1()), folder, name)


def write_key(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, folder: Path, name: str) -> tuple[Path, Path]:
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def verified(artifact: Path, public: Path) -> tuple[int, str]:
    code, words = run("verify", "--source", artifact, "--server", "torchserve", "--public-key", public)
    return code, words.get("reason", words.get("signedBy"))


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return make_key(tmp_path, "ours")


def test_a_signed_artifact_is_taken_by_who_knows_the_key(artifact: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    assert verified(artifact, public) == (3, "NotSigned")
    assert run("sign", "--source", artifact, "--private-key", private)[0] == 0
    code, signed_by = verified(artifact, public)
    assert code == 0
    der = subprocess.run(["openssl", "pkey", "-pubin", "-in", public, "-outform", "DER"], capture_output=True, check=True).stdout
    assert signed_by == hashlib.sha256(der).hexdigest()
    _, another = make_key(tmp_path, "another")
    assert verified(artifact, another) == (3, "BadSignature")


def test_signing_again_replaces_the_signature(artifact: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    other, _ = make_key(tmp_path, "other")
    assert run("sign", "--source", artifact, "--private-key", other)[0] == 0
    assert run("sign", "--source", artifact, "--private-key", private)[0] == 0
    assert verified(artifact, public)[0] == 0


def test_a_signature_of_another_artifact_is_none(artifact: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    other = make_artifact(tmp_path / "other", job="elsewhere")
    assert run("sign", "--source", other, "--private-key", private)[0] == 0
    (artifact / "model.sig").write_bytes((other / "model.sig").read_bytes())
    assert verified(artifact, public) == (3, "BadSignature")


def test_what_was_added_after_signing_is_seen(artifact: Path, keys: tuple[Path, Path]) -> None:
    private, public = keys
    run("sign", "--source", artifact, "--private-key", private)
    (artifact / "extra.py").write_text("import os")
    assert verified(artifact, public) == (3, "BadSignature")


def test_a_signature_must_cover_the_manifest(artifact: Path, keys: tuple[Path, Path]) -> None:
    private, public = keys
    config = hashing.Config().use_file_serialization()
    config.set_ignored_paths(paths=["model.sig", "manifest.json"], ignore_git_paths=False)
    signing.Config().use_elliptic_key_signer(private_key=private).set_hashing_config(config).sign(
        artifact, artifact / "model.sig"
    )
    assert verified(artifact, public) == (3, "BadSignature")


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", json.dumps({"dsseEnvelope": {"payload": "AAAA"}}).encode()])
def test_nonsense_is_no_signature(artifact: Path, keys: tuple[Path, Path], content: bytes) -> None:
    (artifact / "model.sig").write_bytes(content)
    assert verified(artifact, keys[1]) == (3, "BadSignature")


def test_a_key_that_can_not_sign_is_said(artifact: Path, tmp_path: Path) -> None:
    private, _ = write_key(rsa.generate_private_key(65537, 2048), tmp_path, "rsa")
    code, words = run("sign", "--source", artifact, "--private-key", private)
    assert (code, words["reason"]) == (1, "Failed")
    assert "elliptic curve" in words["message"]
    assert not (artifact / "model.sig").exists()
