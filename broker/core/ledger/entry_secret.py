"""The secret that salts an entry's digests of content: the ledger holds only what leads to it for who has the key."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass

from broker.core.ledger.handed_out import NONCE_BYTES, derive_secret
from broker.model.ledger import JsonValue
from broker.ports.keys import Keys

DIGEST_USE = "digest"


@dataclass(frozen=True, slots=True)
class EntrySecret:
    """One entry's secret, 32 bytes, and what the entry says of it: the nonce, and the key's id."""

    nonce: bytes
    key_id: int
    secret: bytes

    @classmethod
    def fresh(cls, keys: Keys) -> EntrySecret:
        """For a new entry."""
        key_id, key = keys.current(DIGEST_USE)
        nonce = os.urandom(NONCE_BYTES)
        return cls(nonce, key_id, derive_secret(key, nonce))

    def as_json(self) -> JsonValue:
        """The part `digest`."""
        return {"nonce": base64.b64encode(self.nonce).decode(), "key": self.key_id}
