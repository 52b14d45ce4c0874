"""Where the client's bearer token comes from, and when the next one is due."""

from __future__ import annotations

import asyncio
import base64
import binascii
import inspect
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from connectors.errors import Unauthenticated

TokenProvider = Callable[[], str | Awaitable[str]]
_MARGIN_S = 60.0


class TokenSource:
    """Gives the current token: a fixed one, a file that something else rewrites, or a callable.

    A file or provider is asked again when the token at hand is near its end: at a quarter of its remaining life,
    a minute before at the most. Until that end, a source that fails is asked again with each call.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        token_file: Path | None = None,
        token_provider: TokenProvider | None = None,
    ) -> None:
        """Exactly one of the three. Raises ValueError otherwise."""
        if sum(given is not None for given in (token, token_file, token_provider)) != 1:
            raise ValueError("give exactly one of token, token_file and token_provider")
        self._fixed = token
        self._file = token_file
        self._provider = token_provider
        self._current: str | None = None
        self._due: float | None = None
        self._expires: float | None = None
        self._asking = asyncio.Lock()

    @property
    def renewable(self) -> bool:
        """Whether another token can be had from this source."""
        return self._fixed is None

    async def current(self) -> str:
        """The token to send now. Raises Unauthenticated (TOKEN_MISSING) if there is none."""
        async with self._asking:  # one asks for all that wait
            if self._current is None:
                self._current = self._noted(await self._fetch())
            elif self.renewable and self._due is not None and time.time() >= self._due:
                self._current = await self._next(self._current)
            return self._current

    def discard(self) -> None:
        """Forget the token at hand, because the exchange refused it; the next `current` asks the source."""
        self._current = None

    def seconds_until_due(self) -> float | None:
        """Seconds until the next token should be fetched (0 when overdue); None if that is unknown or impossible."""
        if not self.renewable or self._due is None:
            return None
        return max(0.0, self._due - time.time())

    async def _next(self, present: str) -> str:
        """Another token, or the present one while the source has a bad moment and it is still good."""
        try:
            return self._noted(await self._fetch())
        except Unauthenticated:
            if self._expires is None or time.time() >= self._expires:
                raise
            return present

    def _noted(self, token: str) -> str:
        self._expires, self._due = _expiry(token), due_time(token)
        return token

    async def _fetch(self) -> str:
        if self._fixed is not None:
            return _checked(self._fixed, "the given token")
        if self._file is not None:
            return _checked(_read(self._file), f"token file {self._file}")
        if self._provider is None:  # pragma: no cover - excluded by the constructor
            raise AssertionError("no token source")
        return _checked(await _ask(self._provider), "the token provider's token")


def in_a_thread(provider: TokenProvider) -> TokenProvider:
    """The provider for an event loop that others share: it may block."""

    async def ask() -> str:
        answer = await asyncio.to_thread(provider)
        return await answer if inspect.isawaitable(answer) else answer

    return ask


def due_time(token: str) -> float | None:
    """When to replace a JWT, in seconds since the epoch: its `exp` less a margin; None if it shows no expiry."""
    expires = _expiry(token)
    return None if expires is None else expires - min(_MARGIN_S, max(0.0, expires - time.time()) / 4)


def claims_of(token: str) -> dict[str, Any] | None:
    """What a JWT claims, which is not verified here: that is the exchange's part. None for what is no JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def _expiry(token: str) -> float | None:
    expires = (claims_of(token) or {}).get("exp")
    return None if isinstance(expires, bool) or not isinstance(expires, int | float) else expires


async def _ask(provider: TokenProvider) -> str:
    try:
        answer = provider()
        return await answer if inspect.isawaitable(answer) else answer
    except Exception as error:  # noqa: BLE001 - whose text may hold what was asked with: in no message, no traceback
        message = f"the token provider failed ({type(error).__name__})"
        raise Unauthenticated("TOKEN_MISSING", message, code="UNAUTHENTICATED") from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"token file {path} cannot be read ({type(error).__name__}); write the JWT there"
        raise Unauthenticated("TOKEN_MISSING", message, code="UNAUTHENTICATED") from None


def _checked(token: str, origin: str) -> str:
    # A JWT is printable ASCII; anything else would fail inside gRPC with the token in the message.
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable():
        message = f"{origin} is empty or not a JWT"
        raise Unauthenticated("TOKEN_MISSING", message, code="UNAUTHENTICATED")
    return token
