"""Signatures of artifacts by the OpenSSF's model-signing, made and checked with elliptic curve keys.

The signature lies in the artifact as `model.sig` and covers every other file, the manifest included.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from model_signing import hashing, signing, verifying

from trainwright_publisher.artifact import Artifact
from trainwright_publisher.refusal import Failed, Reason, Refused
from trainwright_publisher.source import SIGNATURE, Source
from trainwright_runtime.sealed import MANIFEST

MAX_SIGNATURE_BYTES = 32 << 20


def sign(folder: Path, private_key: Path) -> Path:
    """Sign all files of a directory; returns the signature's path. Raises Refused and Failed."""
    Artifact(Source(str(folder))).verify()
    path = folder / SIGNATURE
    path.unlink(missing_ok=True)
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=private_key)
        config.set_hashing_config(_everything()).sign(folder, path)
    except (ValueError, TypeError, AttributeError, OSError) as error:  # AttributeError: a key of another kind
        raise Failed(f"{private_key}: {error}; accepted: a PEM file with an unencrypted elliptic curve key") from None
    return path


def verify(artifact: Artifact, public_key: Path) -> str:
    """Returns the sha256 of the key that signed: of its DER, in hexadecimal. Raises Refused and Failed."""
    source = artifact.source
    signature = source.read(SIGNATURE, MAX_SIGNATURE_BYTES)
    if signature is None:
        raise Refused(Reason.NOT_SIGNED, f"{source.uri} has no {SIGNATURE}, and this deployment takes only signed artifacts")
    fingerprint = _fingerprint(public_key)
    with tempfile.TemporaryDirectory(prefix="trainwright-") as place:
        folder = source.folder or Path(place, "artifact")
        if source.folder is None:
            source.bring(folder)
        kept = Path(place, SIGNATURE)
        kept.write_bytes(signature)
        try:
            config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
            config.set_hashing_config(_everything()).verify(folder, kept)
        except OSError as error:
            raise Failed(f"{source.uri} can't be read: {error}") from None
        except Exception as error:  # what is wrong in a signature shows as many kinds of exceptions
            said = " ".join(str(error).split()) or type(error).__name__
            raise Refused(Reason.BAD_SIGNATURE, f"{SIGNATURE} isn't this key's over these files: {said}"[:400]) from None
    if _signed(signature).get(MANIFEST) != artifact.digest.removeprefix("sha256:"):
        raise Refused(Reason.BAD_SIGNATURE, f"{SIGNATURE} doesn't cover {MANIFEST}")
    return fingerprint


def _everything() -> hashing.Config:
    config = hashing.Config().use_file_serialization(hashing_algorithm="sha256")
    config.set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
    return config


def _signed(signature: bytes) -> dict[str, str]:
    """The sha256 of each file that a signature covers. A signer may leave files out; only the manifest must not be."""
    bundle: Any = json.loads(signature)
    statement: Any = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    return {one["name"]: one["digest"] for one in statement["predicate"]["resources"] if one["algorithm"] == "sha256"}


def _fingerprint(public_key: Path) -> str:
    try:
        key = load_pem_public_key(public_key.read_bytes())
    except (ValueError, OSError) as error:
        raise Failed(f"public key {public_key}: {error}") from None
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


logging.getLogger("model_signing").setLevel(logging.WARNING)
