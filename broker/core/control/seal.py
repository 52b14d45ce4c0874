"""What proves that an entry of the control log was written by an instance of this exchange.

What is in force follows from that log, so whoever can write to its store, and has not the exchange's key, must not be able
to make an entry or to change one. One written again as it was says nothing new: every fold takes an event once.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

from broker.ports.keys import Keys

CONTROL_USE = "control"
_LABEL = b"entente control entry v1\0"
_DIGITS = 3
"""The most that a key's id has."""


class ControlSeal:
    """Adds a line with the key's id and an HMAC-SHA-256 (RFC 2104) to an entry, and takes it off again."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def seal(self, content: bytes) -> bytes:
        """The content as it is to be stored."""
        key_id, key = self._keys.current(CONTROL_USE)
        return b"%b\n%d %b" % (content, key_id, _mac(key, key_id, content))

    def open(self, stored: bytes) -> bytes:
        """The content. Raises ValueError, with one line, for what no key of this exchange has sealed."""
        content, _, line = stored.rpartition(b"\n")
        told_id, _, told = line.partition(b" ")
        if not told_id.isdigit() or len(told_id) > _DIGITS:
            raise ValueError("no key of this exchange has sealed it")
        key_id = int(told_id)
        key = self._keys.by_id(CONTROL_USE, key_id)
        if key is None:
            raise ValueError(f"key {key_id} of control.keys, which is not there, is said to have sealed it")
        if not hmac.compare_digest(_mac(key, key_id, content), told):
            raise ValueError(f"key {key_id} of control.keys has not sealed it")
        return content


def _mac(key: bytes, key_id: int, content: bytes) -> bytes:
    """In hexadecimal digits."""
    return hmac.new(key, b"%b%d\0%b" % (_LABEL, key_id, content), sha256).hexdigest().encode()
