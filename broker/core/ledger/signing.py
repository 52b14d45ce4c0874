"""The keys that sign checkpoints, and the names under which they do."""

from __future__ import annotations

import re

from broker.core.checkpoint.note import Signer, VerifierKey
from broker.ports.keys import Keys

USE = "ledger"

_KEY_IDS = range(256)
_NOT_IN_NAMES = re.compile(r"[\s+\x00-\x1f]")


def key_name(exchange: str) -> str:
    """The exchange's name as the name of its key: no spaces, no plus (C2SP signed-note)."""
    return _NOT_IN_NAMES.sub("-", exchange)


def origin_of(exchange: str, instance: str) -> str:
    """What an instance's checkpoints begin with, and the name of the key that signs them."""
    return f"{key_name(exchange)}/{instance}"


class LedgerKeys:
    """The exchange's Ed25519 keys of the use "ledger"; all instances have the same."""

    def __init__(self, keys: Keys, exchange: str) -> None:
        name = key_name(exchange)
        self._seeds = {number: seed for number in _KEY_IDS if (seed := keys.by_id(USE, number)) is not None}
        self._known = {number: Signer(name, seed).verifier_key for number, seed in self._seeds.items()}
        self.current_id, _ = keys.current(USE)

    @property
    def current(self) -> VerifierKey:
        """The public key of what signs now, under the exchange's name."""
        return self._known[self.current_id]

    @property
    def known(self) -> tuple[VerifierKey, ...]:
        """The public keys of all, retired ones too."""
        return tuple(self._known.values())

    def signer(self, origin: str, key_id: int) -> Signer:
        """Signs checkpoints of this origin."""
        return Signer(origin, self._seeds[key_id])

    def id_of(self, key: VerifierKey) -> int | None:
        """The id of the key with this public key, whatever its name."""
        found = (number for number, known in self._known.items() if known.public_key == key.public_key)
        return next(found, None)

    def file(self) -> bytes:
        """The content of `ledger.vkey`: a line for each key."""
        return "".join(f"{key.text()}\n" for key in self.known).encode()
