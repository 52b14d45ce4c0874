"""The development authority: one CA, a server certificate and client certificates (RFC 5280 profiles).

For development and demonstrations; a real exchange brings certificates of its own authority.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 730
LEAF_DAYS = 397
CLOCK_SKEW_S = 300
"""How far before its making a certificate begins, for peers whose clocks are slow."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate and its private key (ECDSA P-256)."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        """PEM of the certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """PKCS#8 PEM of the private key, not encrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def make_authority(name: str, hosts: Sequence[str], now_ms: int) -> Credential:
    """A self-signed CA that may sign leaves only, and DNS names only of `hosts`.

    The name constraint limits what a developer risks who trusts this CA (RFC 5280 §4.2.1.10). IP addresses are not
    constrained: BoringSSL, which gRPC uses, rejects certificates under constraints of that type.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(name, key, now_ms, AUTHORITY_DAYS)
    builder = builder.issuer_name(_name(name))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(sign=False, certificates=True), critical=True)
    names = [x509.DNSName(host) for host in hosts if not _is_address(host)]
    if names:
        builder = builder.add_extension(x509.NameConstraints(names, None), critical=True)
    return Credential(builder.sign(key, hashes.SHA256()), key)


def make_server(authority: Credential, hosts: Sequence[str], now_ms: int) -> Credential:
    """A server certificate for host names and IP addresses, all as subjectAltName (RFC 6125 §6.4.4)."""
    alternatives: list[x509.GeneralName] = [
        x509.IPAddress(ip_address(host)) if _is_address(host) else x509.DNSName(host)
        for host in dict.fromkeys(hosts)
    ]
    return _make_leaf(authority, "Entente server", alternatives, ExtendedKeyUsageOID.SERVER_AUTH, now_ms)


def make_client(authority: Credential, agency: str, now_ms: int) -> Credential:
    """A client certificate; the agency in its URI name is for people: identity comes from tokens."""
    alternatives = [x509.UniformResourceIdentifier(f"urn:entente:agency:{agency}")]
    return _make_leaf(authority, f"Client of {agency}", alternatives, ExtendedKeyUsageOID.CLIENT_AUTH, now_ms)


def _make_leaf(
    authority: Credential,
    name: str,
    alternatives: Sequence[x509.GeneralName],
    usage: x509.ObjectIdentifier,
    now_ms: int,
) -> Credential:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer_key = authority.key.public_key()
    builder = _builder(name, key, now_ms, LEAF_DAYS).issuer_name(authority.certificate.subject)
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(sign=True, certificates=False), True),
        (x509.ExtendedKeyUsage([usage]), False),
        (x509.SubjectAlternativeName(alternatives), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return Credential(builder.sign(authority.key, hashes.SHA256()), key)


def _builder(name: str, key: ec.EllipticCurvePrivateKey, now_ms: int, days: int) -> x509.CertificateBuilder:
    begin = datetime.fromtimestamp(now_ms // 1000 - CLOCK_SKEW_S, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    # Spaces in the common names keep verifiers from taking them for host names.
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Entente development"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64]),
        ]
    )


def _usage(*, sign: bool, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
