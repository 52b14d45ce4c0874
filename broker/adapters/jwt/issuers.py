"""Where an issuer's keys come from: a file of the rulebook, or a URL that is fetched and cached."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp

from broker.adapters.jwt.keys import JWKS_LIMIT_BYTES, JwksRefused, VerificationKey, parse_jwks
from broker.errors import EntenteError, Reason
from broker.ports.clock import Clock

_log = logging.getLogger(__name__)

RETRY_S = 10.0
"""The least time between two fetches of one URL, so that tokens with made-up key ids cannot make it busy."""


@dataclass(frozen=True, slots=True)
class JwksSettings:
    """ttl_s: how long a fetched set counts as fresh. stale_s: how much longer it serves while its URL is down.

    timeout_s bounds a whole fetch. ca_file: an authority to trust instead of the system's.
    """

    ttl_s: float = 300.0
    stale_s: float = 3_600.0
    timeout_s: float = 5.0
    ca_file: Path | None = None
    insecure_http_loopback: bool = False


class IssuerKeys(Protocol):
    """The keys of one issuer."""

    async def find(self, key_id: str) -> VerificationKey | None:
        """The key of that id, now, or None. Raises EntenteError ISSUER_UNAVAILABLE if no keys can be had at present."""

    async def close(self) -> None:
        """Release all resources, once nobody shares them any more."""


class FixedKeys:
    """Keys of a `jwks_file`: part of the revision, so they change with it."""

    def __init__(self, keys: Mapping[str, VerificationKey]) -> None:
        self._keys = keys

    async def find(self, key_id: str) -> VerificationKey | None:
        """The key of that id, or None."""
        return self._keys.get(key_id)

    async def close(self) -> None:
        """Nothing to release."""


Fetch = Callable[[], Awaitable[bytes]]


class FetchedKeys:
    """Keys of a `jwks_url`: one fetch at a time, for all callers; at the most one in RETRY_S seconds.

    A key that the issuer removed is refused once the set was fetched again, `ttl_s` after the last time.
    """

    def __init__(self, issuer: str, fetch: Fetch, settings: JwksSettings, clock: Clock) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._settings = settings
        self._clock = clock
        self._keys: Mapping[str, VerificationKey] = {}
        self._fetched_s: float | None = None
        self._tried_s: float | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._users = 1

    def shared(self) -> FetchedKeys:
        """These keys for one more user, who has to close them too: the next revision asks the same URL."""
        self._users += 1
        return self

    async def find(self, key_id: str) -> VerificationKey | None:
        """The key of that id, or None; fetches if the set is not fresh or does not hold it."""
        if self._age_s() >= self._settings.ttl_s or key_id not in self._keys:
            await self._refresh()
        if self._age_s() >= self._settings.ttl_s + self._settings.stale_s:
            raise EntenteError(Reason.ISSUER_UNAVAILABLE)
        return self._keys.get(key_id)

    async def close(self) -> None:
        """Stop a fetch under way, if this was the last user."""
        self._users -= 1
        if self._users == 0 and self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})

    def _age_s(self) -> float:
        return float("inf") if self._fetched_s is None else self._clock.monotonic_s() - self._fetched_s

    async def _refresh(self) -> None:
        if self._fetching is None or self._fetching.done():
            if self._tried_s is not None and self._clock.monotonic_s() - self._tried_s < RETRY_S:
                return
            self._fetching = asyncio.create_task(self._fetch_once())
        # wait(), not await: a caller that goes away, or a fetch that close() stops, takes nothing from the others.
        await asyncio.wait({self._fetching})

    async def _fetch_once(self) -> None:
        began_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                keys = parse_jwks(await self._fetch())
        except Exception as error:  # noqa: BLE001 - whatever fails, the keys stay what they were
            what = str(error) if isinstance(error, JwksRefused) else type(error).__name__
            _log.warning("keys of issuer %s could not be fetched: %s", ascii(self._issuer), what)
        else:
            self._keys, self._fetched_s = keys, began_s
        finally:
            self._tried_s = self._clock.monotonic_s()


def check_url(url: str, settings: JwksSettings) -> None:
    """Refuse a `jwks_url` that is not https without credentials (http: loopback only, and if the settings say so).

    Raises JwksRefused.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise JwksRefused("is no URL") from None
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        raise JwksRefused("needs a host, and no credentials or fragment")
    plain = parts.scheme == "http" and settings.insecure_http_loopback and _is_loopback(host)
    if parts.scheme != "https" and not plain:
        raise JwksRefused("must begin with https://")


def fetcher(url: str, settings: JwksSettings) -> Fetch:
    """A fetch of `url`: no redirects, no proxies of the environment, no cookies, bounded in size.

    The fetch raises aiohttp.ClientError, OSError or JwksRefused. Raises OSError if `ca_file` cannot be read.
    """
    context = ssl.create_default_context(cafile=None if settings.ca_file is None else str(settings.ca_file))

    async def fetch() -> bytes:
        connector = aiohttp.TCPConnector(ssl=context, limit=1, force_close=True)
        session = aiohttp.ClientSession(
            connector=connector, trust_env=False, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        )
        headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
        async with session, session.get(url, headers=headers, allow_redirects=False) as response:
            if response.status != 200:
                raise JwksRefused(f"HTTP status {response.status}")
            content = bytearray()
            async for piece in response.content.iter_chunked(16_384):
                content += piece
                if len(content) > JWKS_LIMIT_BYTES:
                    raise JwksRefused(f"is larger than {JWKS_LIMIT_BYTES} bytes")
            return bytes(content)

    return fetch


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
