"""What names a call in its errors: opaque to whoever reads it, and it says when the call began, so that it is soon found."""

from __future__ import annotations

import base64
import binascii
import secrets

_TIME_BYTES = 6
_RANDOM_BYTES = 6
_LENGTH = 16


def new_reference(now_ms: int) -> str:
    """A word of 16 characters (RFC 4648 §5) for a call that begins now: its time, and 48 random bits."""
    content = now_ms.to_bytes(_TIME_BYTES, "big") + secrets.token_bytes(_RANDOM_BYTES)
    return base64.urlsafe_b64encode(content).decode("ascii")


def time_of(reference: str) -> int | None:
    """When its call began, in milliseconds since 1970-01-01T00:00:00Z; None for what is no reference."""
    if len(reference) != _LENGTH or not reference.isascii():
        return None
    try:
        content = base64.b64decode(reference, altchars=b"-_", validate=True)
    except binascii.Error:
        return None
    return int.from_bytes(content[:_TIME_BYTES], "big")
