"""Public keys of issuers: JSON Web Key Sets (RFC 7517) reduced to what this exchange verifies with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.adapters.jwt.strict_json import parse_object

PublicKey = EllipticCurvePublicKey | Ed25519PublicKey | RSAPublicKey

ALGORITHMS = ("EdDSA", "ES256", "RS256", "PS256")
"""All that a token may be signed with; never `none`, never HMAC (RFC 8725 §3.1, §3.2)."""

JWKS_LIMIT_BYTES = 256 * 1024
_KEYS_LIMIT = 64
_KEY_ID_LIMIT = 128
_RSA_BITS = range(2048, 8193)
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})
# kty and crv -> algorithms, and the members that make the public key (RFC 7518 §6, RFC 8037 §2).
_KINDS: Mapping[tuple[object, object], tuple[tuple[str, ...], tuple[str, ...]]] = {
    ("OKP", "Ed25519"): (("EdDSA",), ("x",)),
    ("EC", "P-256"): (("ES256",), ("x", "y")),
    ("RSA", None): (("RS256", "PS256"), ("n", "e")),
}


class JwksRefused(Exception):
    """A key set cannot be used at all; the message says why and never holds a key."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key, the only algorithms that it may verify, and its DER, by which two keys are compared."""

    algorithms: tuple[str, ...]
    key: PublicKey
    der: bytes


def parse_jwks(content: bytes) -> Mapping[str, VerificationKey]:
    """Usable keys by `kid`; others are passed over, as RFC 7517 §5 wants: encryption keys, unknown types, weak RSA.

    Raises JwksRefused if the document is malformed, repeats a `kid`, or holds a private key, which is then everybody's.
    """
    if len(content) > JWKS_LIMIT_BYTES:
        raise JwksRefused(f"is larger than {JWKS_LIMIT_BYTES} bytes")
    try:
        listed = parse_object(content).get("keys")
    except ValueError:
        raise JwksRefused("is not a JSON object without repeated members") from None
    if not isinstance(listed, list) or len(listed) > _KEYS_LIMIT:
        raise JwksRefused(f"has no list 'keys' of at most {_KEYS_LIMIT} keys")
    keys: dict[str, VerificationKey] = {}
    for jwk in listed:
        if isinstance(jwk, dict) and not _PRIVATE_MEMBERS.isdisjoint(jwk):
            raise JwksRefused("holds a private key; make a new one, and publish only its public part")
        parsed = _parse_key(jwk) if isinstance(jwk, dict) else None
        if parsed is None:
            continue
        if parsed[0] in keys:
            raise JwksRefused("has two keys with one 'kid'")
        keys[parsed[0]] = parsed[1]
    return keys


def _parse_key(jwk: Mapping[str, object]) -> tuple[str, VerificationKey] | None:
    key_id = jwk.get("kid")
    if not isinstance(key_id, str) or not 0 < len(key_id) <= _KEY_ID_LIMIT or not _for_verifying(jwk):
        return None
    kty, curve = jwk.get("kty"), jwk.get("crv")
    if not isinstance(kty, str) or not (curve is None or isinstance(curve, str)):
        return None
    algorithms, members = _KINDS.get((kty, curve), ((), ()))
    if "alg" in jwk:
        algorithms = tuple(name for name in algorithms if name == jwk["alg"])
    values = {name: jwk.get(name) for name in members}
    if not algorithms or not all(isinstance(value, str) for value in values.values()):
        return None
    key = _public_key({"kty": kty, "crv": curve, **values}, algorithms[0])
    if key is None:
        return None
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key_id, VerificationKey(algorithms, key, der)


def _for_verifying(jwk: Mapping[str, object]) -> bool:
    operations = jwk.get("key_ops", ["verify"])
    return jwk.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations


def _public_key(jwk: Mapping[str, object], algorithm: str) -> PublicKey | None:
    try:
        key = jwt.PyJWK(dict(jwk), algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
        return None
    if isinstance(key, RSAPublicKey):
        return key if key.key_size in _RSA_BITS else None
    return key if isinstance(key, EllipticCurvePublicKey | Ed25519PublicKey) else None
