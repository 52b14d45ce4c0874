"""JwtIdentity: from a bearer token to a principal, against the issuers that one revision registers."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from jwt import PyJWTError
from jwt.api_jws import PyJWS

from broker.adapters.jwt.claims import (
    Validity,
    check_audience,
    check_registered,
    read_principal,
    read_validity,
)
from broker.adapters.jwt.issuers import (
    FetchedKeys,
    FixedKeys,
    IssuerKeys,
    JwksSettings,
    check_url,
    fetcher,
)
from broker.adapters.jwt.keys import ALGORITHMS, JwksRefused, VerificationKey, parse_jwks
from broker.adapters.jwt.strict_json import parse_object
from broker.errors import EntenteError, Reason, RulebookRefused
from broker.model.principal import Credential, Principal
from broker.model.registry import Agency, Issuer, Registry
from broker.ports.clock import Clock

TOKEN_LIMIT_BYTES = 8 * 1024
CACHE_ENTRIES = 4_096

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")  # RFC 7515 §3.1
# Header members that would bring a key along, change how the token is read, or must be understood (RFC 7515 §4.1,
# RFC 7797): refused, not passed over.
_REFUSED_MEMBERS = frozenset({"b64", "crit", "cty", "enc", "jku", "jwk", "x5c", "x5u", "zip"})
_TYPES = frozenset({"jwt", "application/jwt", "at+jwt", "application/at+jwt"})
# One text for an unknown issuer, an unknown key and a wrong signature, so that none can be told from the others.
_NOT_VERIFIED = "it is not signed by a registered issuer's key"


@dataclass(frozen=True, slots=True)
class _Unverified:
    """What a token says of its own verification; nothing here is believed."""

    algorithm: str
    key_id: str
    issuer: str


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A token that was verified once, and what each use of it checks again."""

    issuer: str
    key_id: str
    key: VerificationKey
    validity: Validity
    principal: Principal


class JwtIdentity:
    """The Identity port with JWTs (RFC 7519, RFC 8725, RFC 9068 where it applies).

    Verified tokens are remembered until they expire (a bounded LRU of digests, never the tokens); times and the key's
    standing are checked at each use.
    """

    def __init__(
        self,
        registry: Registry,
        files: Mapping[str, bytes],
        *,
        audience: str,
        clock: Clock,
        leeway_s: int = 30,
        jwks: JwksSettings | None = None,
        cache_entries: int = CACHE_ENTRIES,
        before: JwtIdentity | None = None,
    ) -> None:
        """`files`: the revision's, for `jwks_file`. before: another revision's, whose fetched keys are not fetched again.

        Raises RulebookRefused with all that is wrong with the issuers.
        """
        self._vocabulary = registry.vocabulary
        self._audience = audience
        self._clock = clock
        self._leeway_s = leeway_s
        self._fetched: dict[tuple[str, str], FetchedKeys] = {}
        open_keys = partial(self._open_keys, files, jwks or JwksSettings(), before)
        self._issuers = _open_issuers(registry, open_keys)
        self._closed = False
        self._cache: OrderedDict[bytes, _Accepted] = OrderedDict()
        self._cache_entries = cache_entries
        self._jws = PyJWS(algorithms=ALGORITHMS)

    async def authenticate(self, token: str, certificate_der: bytes | None) -> Principal:
        """The principal of a token; `certificate_der` is the verified client certificate of the connection, or None.

        Raises EntenteError: TOKEN_INVALID, TOKEN_EXPIRED, TOKEN_NOT_YET_VALID, TOKEN_BINDING, CLAIM_NOT_PERMITTED,
        ISSUER_UNAVAILABLE. No message holds any part of the token that was not verified.
        """
        if len(token) > TOKEN_LIMIT_BYTES:
            raise _invalid(f"it is larger than {TOKEN_LIMIT_BYTES} bytes")
        place = _place(token, certificate_der)
        accepted = self._cache.get(place)
        if accepted is None or not await self._still_holds(accepted):
            accepted = await self._verify(token, certificate_der)
        accepted.validity.check(self._clock.now_ms(), self._leeway_s)
        self._remember(place, accepted)
        return accepted.principal

    async def confirm(self, principal: Principal) -> None:
        """See Identity."""
        credential = principal.credential
        if credential is None:
            raise _invalid(_NOT_VERIFIED)
        registered = self._issuers.get(credential.issuer)
        if registered is None or registered[0].name != principal.agency:
            raise _invalid(_NOT_VERIFIED)
        agency, keys = registered
        key = await keys.find(credential.key_id)
        if key is None or credential.algorithm not in key.algorithms:
            raise _invalid(_NOT_VERIFIED)
        if hashlib.sha256(key.der).digest() != credential.key_digest:
            raise _invalid(_NOT_VERIFIED)
        check_registered(principal, credential.lifetime_s, agency, self._vocabulary)

    async def close(self) -> None:
        """Stop fetching keys; idempotent."""
        if self._closed:
            return
        self._closed = True
        for _, keys in self._issuers.values():
            await keys.close()

    async def _still_holds(self, accepted: _Accepted) -> bool:
        _, keys = self._issuers[accepted.issuer]
        key = await keys.find(accepted.key_id)
        return key is not None and key.der == accepted.key.der and key.algorithms == accepted.key.algorithms

    async def _verify(self, token: str, certificate_der: bytes | None) -> _Accepted:
        # 1. Read what the token says of its own verification (RFC 7515 §5.2); still nothing is believed.
        unverified = _read_unverified(token)
        # 2. The key comes from the issuer's set only, and names the algorithms that it is for (RFC 8725 §3.1, §3.8).
        agency, key = await self._find(unverified)
        # 3. The signature, over the exact bytes.
        claims = self._check_signature(token, unverified.algorithm, key)
        # 4. The claims.
        validity = read_validity(claims)
        check_audience(claims, self._audience)
        credential = Credential(
            unverified.issuer,
            unverified.key_id,
            unverified.algorithm,
            hashlib.sha256(key.der).digest(),
            validity.expires_s - validity.issued_s,
        )
        principal = read_principal(claims, validity, agency, self._vocabulary, certificate_der, credential)
        return _Accepted(unverified.issuer, unverified.key_id, key, validity, principal)

    async def _find(self, unverified: _Unverified) -> tuple[Agency, VerificationKey]:
        registered = self._issuers.get(unverified.issuer)
        if registered is None:
            raise _invalid(_NOT_VERIFIED)
        agency, keys = registered
        key = await keys.find(unverified.key_id)
        if key is None or unverified.algorithm not in key.algorithms:
            raise _invalid(_NOT_VERIFIED)
        return agency, key

    def _open_keys(
        self, files: Mapping[str, bytes], settings: JwksSettings, before: JwtIdentity | None, issuer: Issuer
    ) -> IssuerKeys:
        url = issuer.jwks_url
        if (issuer.jwks_file is None) == (url is None):
            raise JwksRefused("needs exactly one of jwks_file and jwks_url")
        if url is None:
            return _fixed_keys(issuer, files)
        check_url(url, settings)
        known = before._fetched.get((issuer.issuer, url)) if before is not None else None
        keys = (
            known.shared()
            if known is not None
            else FetchedKeys(issuer.issuer, fetcher(url, settings), settings, self._clock)
        )
        self._fetched[issuer.issuer, url] = keys
        return keys

    def _check_signature(self, token: str, algorithm: str, key: VerificationKey) -> dict[str, object]:
        try:
            payload = self._jws.decode(token, key.key, algorithms=[algorithm])
            return parse_object(payload)
        except (PyJWTError, ValueError):
            raise _invalid(_NOT_VERIFIED) from None

    def _remember(self, place: bytes, accepted: _Accepted) -> None:
        self._cache[place] = accepted
        self._cache.move_to_end(place)
        while len(self._cache) > self._cache_entries:
            self._cache.popitem(last=False)


def _read_unverified(token: str) -> _Unverified:
    match = _COMPACT.fullmatch(token)
    if match is None:
        raise _invalid("it is not a JWT")
    try:
        header, claims = (parse_object(_decoded(segment)) for segment in match.groups())
    except ValueError:
        raise _invalid("it is not a JWT") from None
    algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise _invalid(f"its algorithm is not one of {', '.join(ALGORITHMS)}")
    if not _REFUSED_MEMBERS.isdisjoint(header) or not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise _invalid("its header has a member that is not allowed")
    issuer = claims.get("iss")
    if not isinstance(key_id, str) or not isinstance(issuer, str):
        raise _invalid("it has no texts 'kid' and 'iss'")
    return _Unverified(algorithm, key_id, issuer)


def _decoded(segment: str) -> bytes:
    """Base64url without padding. Raises ValueError (binascii.Error); the signature check decodes again, more strictly."""
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def _place(token: str, certificate_der: bytes | None) -> bytes:
    certificate = b"" if certificate_der is None else hashlib.sha256(certificate_der).digest()
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest() + certificate


def _open_issuers(
    registry: Registry, open_keys: Callable[[Issuer], IssuerKeys]
) -> Mapping[str, tuple[Agency, IssuerKeys]]:
    issuers: dict[str, tuple[Agency, IssuerKeys]] = {}
    findings: list[str] = []
    for agency in registry.agencies.values():
        for issuer in agency.issuers:
            where = f"data/agencies/{agency.name}: issuer {issuer.issuer!a}"
            if issuer.issuer in issuers:
                findings.append(f"{where}: is registered twice; an issuer belongs to one agency")
                continue
            try:
                issuers[issuer.issuer] = (agency, open_keys(issuer))
            except JwksRefused as error:
                source = issuer.jwks_file or issuer.jwks_url
                findings.append(f"{where}: {source!a} {error}; correct it")
    if findings:
        raise RulebookRefused(tuple(findings))
    return issuers


def _fixed_keys(issuer: Issuer, files: Mapping[str, bytes]) -> FixedKeys:
    content = files.get(issuer.jwks_file or "")
    if content is None:
        raise JwksRefused("is not in the rulebook")
    keys = parse_jwks(content)
    if not keys:
        raise JwksRefused(
            f"holds no key for {', '.join(ALGORITHMS)} with a 'kid' (RSA of at least 2048 bits)"
        )
    return FixedKeys(keys)


def _invalid(detail: str) -> EntenteError:
    return EntenteError(Reason.TOKEN_INVALID, detail)
