"""The claims of a verified token, each checked for type, size and the agency's registration.

Required: iss, sub, aud, exp, iat, jti. Optional: nbf, roles, purposes, attributes, cnf; absent lists are empty. Times are
integers (seconds since the epoch). Other claims are ignored: nothing depends on them.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeGuard

from broker.adapters.jwt.binding import certificate_thumbprint
from broker.errors import EntenteError, Reason
from broker.model.principal import Credential, Principal
from broker.model.registry import Agency, Vocabulary

TEXT_LIMIT = 256
"""Characters of `iss`, `sub`, `jti` and of each role, purpose and attribute."""
LIST_LIMIT = 64
"""Entries of `roles`, `purposes`, `aud` and `attributes`."""
_LATEST_S = 253_402_300_799  # 9999-12-31T23:59:59Z, the last that datetime can hold


@dataclass(frozen=True, slots=True)
class Validity:
    """When a token holds, in seconds since the epoch."""

    issued_s: int
    not_before_s: int
    expires_s: int

    def check(self, now_ms: int, leeway_s: int) -> None:
        """Raises EntenteError TOKEN_EXPIRED or TOKEN_NOT_YET_VALID (RFC 7519 §4.1.4, §4.1.5)."""
        if now_ms >= (self.expires_s + leeway_s) * 1000:
            raise EntenteError(Reason.TOKEN_EXPIRED)
        if now_ms < (max(self.not_before_s, self.issued_s) - leeway_s) * 1000:
            raise EntenteError(Reason.TOKEN_NOT_YET_VALID)


def read_validity(claims: Mapping[str, object]) -> Validity:
    """`iat`, `nbf` and `exp`. Raises EntenteError TOKEN_INVALID."""
    issued_s, expires_s = _time(claims, "iat"), _time(claims, "exp")
    not_before_s = _time(claims, "nbf") if "nbf" in claims else issued_s
    if expires_s <= max(issued_s, not_before_s):
        raise _invalid("'exp' is not after 'iat' and 'nbf'")
    return Validity(issued_s, not_before_s, expires_s)


def check_audience(claims: Mapping[str, object], audience: str) -> None:
    """`aud` is `audience`, or a list with it (RFC 7519 §4.1.3). Raises EntenteError TOKEN_INVALID."""
    value = claims.get("aud")
    names = [value] if isinstance(value, str) else _texts(claims, "aud")
    if audience not in names:
        raise _invalid("its audience is not this exchange")


def read_principal(
    claims: Mapping[str, object],
    validity: Validity,
    agency: Agency,
    vocabulary: Vocabulary,
    certificate_der: bytes | None,
    credential: Credential,
) -> Principal:
    """The principal. `expires_at` is `exp` itself, without leeway.

    Raises EntenteError TOKEN_INVALID, TOKEN_BINDING, or CLAIM_NOT_PERMITTED for a claim beyond the registration.
    """
    _check_lifetime(credential.lifetime_s, agency)
    return Principal(
        agency=agency.name,
        subject=_text(claims, "sub"),
        roles=_within(_texts(claims, "roles"), agency.roles, "role"),
        purposes=_within(_texts(claims, "purposes"), agency.purposes, "purpose"),
        attributes=_attributes(claims, agency, vocabulary),
        token_id=_text(claims, "jti"),
        expires_at=datetime.fromtimestamp(validity.expires_s, UTC),
        certificate_thumbprint=_binding(claims, certificate_der),
        credential=credential,
    )


def check_registered(principal: Principal, lifetime_s: int, agency: Agency, vocabulary: Vocabulary) -> None:
    """Whether what a principal's token claims is within a registration. Raises EntenteError CLAIM_NOT_PERMITTED."""
    _check_lifetime(lifetime_s, agency)
    _within(principal.roles, agency.roles, "role")
    _within(principal.purposes, agency.purposes, "purpose")
    for name, stated in principal.attributes.items():
        _check_attribute(name, stated, agency, vocabulary)


def _check_lifetime(lifetime_s: int, agency: Agency) -> None:
    if lifetime_s > agency.max_token_lifetime_s:
        raise _beyond(f"a lifetime of more than {agency.max_token_lifetime_s} seconds")


def _text(claims: Mapping[str, object], name: str) -> str:
    """A required text claim. Raises EntenteError TOKEN_INVALID."""
    value = claims.get(name)
    if not _is_text(value):
        raise _invalid(f"'{name}' is not a text of 1 to {TEXT_LIMIT} printable characters")
    return value


def _binding(claims: Mapping[str, object], certificate_der: bytes | None) -> str | None:
    """RFC 8705 §3.1. A confirmation that is not understood is refused, not passed over (RFC 7800 §3.1)."""
    if "cnf" not in claims:
        return None
    confirmation = claims["cnf"]
    if not isinstance(confirmation, dict) or set(confirmation) != {"x5t#S256"}:
        raise _invalid("'cnf' holds another confirmation than 'x5t#S256'")
    wanted = confirmation["x5t#S256"]
    if not _is_text(wanted):
        raise _invalid("'x5t#S256' is not a text")
    if certificate_der is None:
        raise EntenteError(Reason.TOKEN_BINDING)
    presented = certificate_thumbprint(certificate_der)
    if not hmac.compare_digest(wanted.encode(), presented.encode()):
        raise EntenteError(Reason.TOKEN_BINDING)
    return presented


def _attributes(claims: Mapping[str, object], agency: Agency, vocabulary: Vocabulary) -> Mapping[str, str]:
    value = claims.get("attributes", {})
    if not isinstance(value, dict) or len(value) > LIST_LIMIT:
        raise _invalid("'attributes' is not an object of names and texts")
    attributes: dict[str, str] = {}
    for name in sorted(value):
        stated = value[name]
        if not _is_text(name) or not _is_text(stated):
            raise _invalid("'attributes' is not an object of names and texts")
        _check_attribute(name, stated, agency, vocabulary)
        attributes[name] = stated
    return attributes


def _check_attribute(name: str, stated: str, agency: Agency, vocabulary: Vocabulary) -> None:
    if not _attribute_permitted(name, stated, agency, vocabulary):
        raise _beyond(f"attribute '{name}' with this value")


def _attribute_permitted(name: str, stated: str, agency: Agency, vocabulary: Vocabulary) -> bool:
    """At most the registered ceiling for attributes with the order of classifications, else exactly what is registered."""
    kind, ceiling = vocabulary.attributes.get(name), agency.attributes.get(name)
    if kind is None or ceiling is None:
        return False
    if kind != "classification":
        return stated == ceiling
    order = vocabulary.classifications
    return stated in order and ceiling in order and order.index(stated) <= order.index(ceiling)


def _within(stated: Sequence[str], registered: frozenset[str], kind: str) -> tuple[str, ...]:
    for name in stated:
        if name not in registered:
            raise _beyond(f"{kind} '{name}'")
    return tuple(sorted(set(stated)))


def _time(claims: Mapping[str, object], name: str) -> int:
    value = claims.get(name)
    # type(), not isinstance(): a boolean is an int to Python.
    if type(value) is not int or not 0 <= value <= _LATEST_S:
        raise _invalid(f"'{name}' is not a time in whole seconds")
    return value


def _texts(claims: Mapping[str, object], name: str) -> list[str]:
    value = claims.get(name, [])
    if not isinstance(value, list) or len(value) > LIST_LIMIT or not all(_is_text(entry) for entry in value):
        raise _invalid(f"'{name}' is not a list of at most {LIST_LIMIT} texts")
    return value


def _is_text(value: object) -> TypeGuard[str]:
    """Printable: no line breaks, controls or lone surrogates, so that it may stand in an error and in the ledger."""
    return isinstance(value, str) and 0 < len(value) <= TEXT_LIMIT and value.isprintable()


def _invalid(detail: str) -> EntenteError:
    return EntenteError(Reason.TOKEN_INVALID, detail)


def _beyond(detail: str) -> EntenteError:
    return EntenteError(Reason.CLAIM_NOT_PERMITTED, detail)
