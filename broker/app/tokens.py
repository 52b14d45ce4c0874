"""Development tokens: issuer keys made by `entente init`, and tokens signed with them.

A real agency's issuer signs its own tokens; the exchange never holds its private key.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from broker.adapters.jwt.binding import certificate_thumbprint
from broker.adapters.keyring import KeysRefused, read_private_file
from broker.app.config import ConfigError, Context
from broker.ports.clock import Clock

TOKEN_FILE_LIMIT_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """The private key of an agency's development issuer; signs with EdDSA (Ed25519, RFC 8037)."""

    agency: str
    issuer: str
    key_id: str
    key: Ed25519PrivateKey = field(repr=False)

    def private_file(self) -> bytes:
        """The content of the agency's private issuer file."""
        private = {**self._public_jwk(), "d": _base64url(self.key.private_bytes_raw())}
        document = {"agency": self.agency, "issuer": self.issuer, "key": private}
        return json.dumps(document, indent=1).encode() + b"\n"

    def jwks_file(self) -> bytes:
        """The public key set, as the rulebook holds it (RFC 7517 §5)."""
        return json.dumps({"keys": [self._public_jwk()]}, indent=1).encode() + b"\n"

    def _public_jwk(self) -> dict[str, str]:
        public = _base64url(self.key.public_key().public_bytes_raw())
        return {"kty": "OKP", "crv": "Ed25519", "kid": self.key_id, "use": "sig", "alg": "EdDSA", "x": public}


def new_issuer_key(agency: str, issuer: str) -> IssuerKey:
    """A fresh key with a random id."""
    return IssuerKey(agency, issuer, f"{agency}-{secrets.token_hex(4)}", Ed25519PrivateKey.generate())


def read_issuer_key(path: Path) -> IssuerKey:
    """Read what `IssuerKey.private_file` wrote. Raises ConfigError; the message never holds the key."""
    try:
        document = json.loads(read_private_file(path, TOKEN_FILE_LIMIT_BYTES))
        private = document["key"]
        seed = base64.urlsafe_b64decode(private["d"] + "=" * (-len(private["d"]) % 4))
        names = (document["agency"], document["issuer"], private["kid"])
        if not all(isinstance(name, str) for name in names) or private["crv"] != "Ed25519":
            raise ValueError
        return IssuerKey(*names, Ed25519PrivateKey.from_private_bytes(seed))
    except KeysRefused as error:
        raise ConfigError((str(error),)) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        remedy = "use a file of the issuers directory that 'entente init' made"
        raise ConfigError((f"{path}: is no development issuer key; {remedy}",)) from None


def mint_token(
    key: IssuerKey,
    *,
    subject: str,
    roles: Sequence[str],
    purposes: Sequence[str],
    attributes: Mapping[str, str],
    audience: str,
    ttl_s: int,
    clock: Clock,
    thumbprint: str | None = None,
) -> str:
    """A signed token, valid from now for `ttl_s` seconds; bound to a client certificate if `thumbprint` is given.

    What the claims may be is for the exchange to judge, so that its refusals can be tried.
    """
    now_s = clock.now_ms() // 1000
    claims: dict[str, object] = {
        "iss": key.issuer,
        "sub": subject,
        "aud": audience,
        "iat": now_s,
        "nbf": now_s,
        "exp": now_s + ttl_s,
        "jti": secrets.token_urlsafe(16),
        "roles": list(roles),
        "purposes": list(purposes),
        "attributes": dict(attributes),
    }
    if thumbprint is not None:
        claims["cnf"] = {"x5t#S256": thumbprint}
    return jwt.encode(claims, key.key, algorithm="EdDSA", headers={"kid": key.key_id})


def token_for_context(context: Context, audience: str | None, clock: Clock) -> str | None:
    """The context's token: read from its file, or signed with its development key; None if it names neither.

    `audience` is the file's `exchange.audience`. A token signed for a context with a client certificate is bound to
    that certificate. Raises ConfigError.
    """
    if context.token_file is not None:
        return read_token_file(context.token_file)
    wanted = context.development
    if wanted is None:
        return None
    if audience is None:
        raise ConfigError(("exchange.audience: is missing, and a development token needs it; add it",))
    return mint_token(
        read_issuer_key(wanted.issuer_key),
        subject=wanted.subject,
        roles=wanted.roles,
        purposes=wanted.purposes,
        attributes={} if wanted.clearance is None else {"clearance": wanted.clearance},
        audience=audience,
        ttl_s=wanted.ttl_s,
        clock=clock,
        thumbprint=None if context.certificate is None else read_thumbprint(context.certificate),
    )


def read_thumbprint(path: Path) -> str:
    """The `x5t#S256` of the first certificate of a PEM file. Raises ConfigError."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise ConfigError((f"{path}: holds no PEM certificate; correct the path",)) from None
    return certificate_thumbprint(certificate.public_bytes(Encoding.DER))


def read_token_file(path: Path) -> str:
    """A token from a file, without surrounding white space. Raises ConfigError; the message never holds the token."""
    try:
        with path.open("rb") as file:
            content = file.read(TOKEN_FILE_LIMIT_BYTES + 1)
        token = content.decode("ascii").strip()
    except OSError as error:
        raise ConfigError(
            (f"{path}: cannot be read: {error.strerror}; correct the path or its mode",)
        ) from None
    except UnicodeDecodeError:
        token = ""
    if not token or len(content) > TOKEN_FILE_LIMIT_BYTES or len(token.split()) != 1:
        raise ConfigError((f"{path}: holds no token; write one JWT into it, and nothing else",))
    return token


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
