"""Two agencies with issuers of their own, and tokens that may be wrong in every way."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import cache

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from broker.model.registry import Agency, Issuer, Registry, Vocabulary

PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

AUDIENCE = "test-exchange"
EMS = "https://ems.example/issuer"
POLICE = "https://police.example/issuer"
VOCABULARY = Vocabulary(
    classifications=("clear", "green", "amber", "amber+strict", "red"),
    purposes=frozenset({"care", "statistics", "law"}),
    regulations=frozenset(),
    categories=frozenset(),
    roles=frozenset({"medic", "volunteer", "officer"}),
    attributes={"clearance": "classification", "region": "text", "unused": "text"},
    markings=frozenset(),
)


@cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """One key per size and run: making them is slow."""
    return rsa.generate_private_key(65537, bits)


EMS_KEY = Ed25519PrivateKey.generate()
EMS_EC_KEY = ec.generate_private_key(ec.SECP256R1())
POLICE_KEY = Ed25519PrivateKey.generate()


def public_jwk(key: PrivateKey, key_id: str, **members: object) -> dict[str, object]:
    """The public JWK of a private key."""
    if isinstance(key, Ed25519PrivateKey):
        jwk = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    elif isinstance(key, rsa.RSAPrivateKey):
        jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**{name: value for name, value in jwk.items() if name != "key_ops"}, "kid": key_id, **members}


def jwks(*keys: Mapping[str, object]) -> bytes:
    """A key set."""
    return json.dumps({"keys": list(keys)}).encode()


def files() -> dict[str, bytes]:
    """The key files of the two agencies."""
    return {
        "keys/ems.json": jwks(
            public_jwk(EMS_KEY, "ed", use="sig"),
            public_jwk(EMS_EC_KEY, "ec"),
            public_jwk(rsa_key(2048), "rsa"),
            public_jwk(rsa_key(2048), "rsa-ps-only", alg="PS256"),
            public_jwk(rsa_key(1024), "rsa-1024"),
            public_jwk(EMS_KEY, "for-encryption", use="enc"),
            {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0", "kid": "oct", "alg": "HS256"},
        ),
        "keys/police.json": jwks(public_jwk(POLICE_KEY, "police-1")),
    }


def agency(name: str, *issuers: Issuer, roles: tuple[str, ...] = ("medic", "volunteer")) -> Agency:
    """An agency that may assert at most amber, in region north, for an hour."""
    return Agency(
        name=name,
        title=name,
        contact=f"desk@{name}.example",
        issuers=issuers,
        roles=frozenset(roles),
        purposes=frozenset({"care", "statistics"}),
        attributes={"clearance": "amber", "region": "north", "unregistered-word": "x"},
        max_token_lifetime_s=3600,
    )


def registry(*agencies: Agency) -> Registry:
    """A registry of agencies, by default of `ems` and `police`."""
    listed = agencies or (
        agency("ems", Issuer(EMS, jwks_file="keys/ems.json")),
        agency("police", Issuer(POLICE, jwks_file="keys/police.json"), roles=("officer",)),
    )
    return Registry({each.name: each for each in listed}, {}, {}, (), VOCABULARY)


def claims(now_ms: int, **changes: object) -> dict[str, object]:
    """Good claims of `ems`, changed; a value of ... leaves the claim out."""
    now_s = now_ms // 1000
    good: dict[str, object] = {
        "iss": EMS,
        "sub": "medic-7",
        "aud": AUDIENCE,
        "iat": now_s,
        "nbf": now_s,
        "exp": now_s + 600,
        "jti": "token-1",
        "roles": ["medic"],
        "purposes": ["care"],
        "attributes": {"clearance": "green"},
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


def sign(
    content: Mapping[str, object],
    key: PrivateKey = EMS_KEY,
    algorithm: str = "EdDSA",
    **header: object,
) -> str:
    """A token; the header has `kid` "ed" unless told; a value of ... leaves a member out."""
    members = {name: value for name, value in {"kid": "ed", **header}.items() if value is not ...}
    return jwt.encode(dict(content), key, algorithm=algorithm, headers=members)


def segment(content: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
