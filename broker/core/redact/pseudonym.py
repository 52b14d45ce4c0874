"""The keyed function behind the treatment `pseudonym`.

A pseudonym is the same for the same value, owner, receiver, purpose and marking, and unrelated across any of
them: each combination has its own key, derived from the exchange's with HMAC-SHA256 (RFC 2104).
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from typing import Final

PREFIX: Final = "~"
"""What a pseudonym begins with, so that a reader can tell it from a value."""

_BYTES: Final = 16  # 128 bits: no collisions to speak of, and 26 characters of base32


def pseudonymiser(key: bytes, *, owner: str, receiver: str, purpose: str) -> Callable[[str, bytes], str]:
    """The function (marking, canonical value) -> pseudonym for one owner, receiver and purpose.

    key: 32 bytes, of the use "pseudonym". Result: `~` and 26 characters of base32 in lower case.
    Raises ValueError for a key that is too short.
    """
    if len(key) < 32:
        raise ValueError("a pseudonym key has at least 32 bytes")
    keys: dict[str, bytes] = {}

    def pseudonymise(marking: str, value: bytes) -> str:
        if marking not in keys:
            keys[marking] = hmac.digest(key, _frame(owner, receiver, purpose, marking), "sha256")
        mac = hmac.digest(keys[marking], value, "sha256")[:_BYTES]
        return PREFIX + base64.b32encode(mac).decode("ascii").rstrip("=").lower()

    return pseudonymise


def _frame(*parts: str) -> bytes:
    """Each part after its length, so that no two lists of parts give the same bytes."""
    encoded = [part.encode("utf-8") for part in parts]
    return b"entente pseudonym v1" + b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
