"""Certificates of one control plane: a CA, what the API server serves and trusts, and an identity for each component."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = timedelta(days=3650)
LOOPBACK = "127.0.0.1"

# name -> (common name, organization). The organization is the RBAC group.
CLIENTS = {
    "admin": ("trainwright-admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", None),
    "scheduler": ("system:kube-scheduler", None),
    "kubelet-client": ("kube-apiserver-kubelet-client", "system:masters"),
    "etcd-client": ("kube-apiserver-etcd-client", None),
    "front-proxy": ("front-proxy-client", None),
}
SERVERS = {
    "apiserver": ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"],
    "node": ["localhost"],
    "etcd": ["localhost"],
}


def issue_all(
    folder: Path,
    *,
    clients: Mapping[str, tuple[str, str | None]] = CLIENTS,
    servers: Mapping[str, Sequence[str]] = SERVERS,
    addresses: Sequence[str] = (LOOPBACK,),
) -> None:
    """Write `ca.crt`, and `<name>.crt` and `<name>.key` for every identity, and the service accounts' key. Existing ones stay.

    `addresses`: where the servers may be.
    """
    if (folder / "complete").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("trainwright-twin", None, key=ca_key)
    _write(folder, "ca", ca, ca_key)
    for name, (common_name, organization) in clients.items():
        key = ec.generate_private_key(ec.SECP256R1())
        _write(folder, name, _certificate(common_name, organization, key=key, ca=ca, ca_key=ca_key), key)
    for name, hosts in servers.items():
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = [
            *(x509.DNSName(host) for host in hosts),
            *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses),
        ]
        _write(folder, name, _certificate(name, None, key=key, ca=ca, ca_key=ca_key, alternatives=alternatives), key)
    accounts = ec.generate_private_key(ec.SECP256R1())
    (folder / "service-accounts.key").write_bytes(_private(accounts))
    public = accounts.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "service-accounts.pub").write_bytes(public)
    (folder / "complete").touch()


def _certificate(
    common_name: str,
    organization: str | None,
    *,
    key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate | None = None,
    ca_key: ec.EllipticCurvePrivateKey | None = None,
    alternatives: list[x509.GeneralName] | None = None,
) -> x509.Certificate:
    """A certificate by `ca`, or a CA's own; with `alternatives` for a server of these names, else for a client."""
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    subject = x509.Name(attributes)
    now = datetime.now(UTC)
    signer = ca_key or key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca.subject if ca else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(ca=ca is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(_usage(authority=ca is None), critical=True)
    )
    if ca is not None:
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if alternatives else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    path = folder / f"{name}.key"
    path.write_bytes(_private(key))
    path.chmod(0o600)
