"""The keys that sign checkpoints, the names under which they do, and their change."""

from __future__ import annotations

import logging
import re

from broker.core.checkpoint.checkpoint import Checkpoint, sign_checkpoint
from broker.core.checkpoint.note import SignedNote, Signer, VerifierKey
from broker.core.ledger.rebuild import Rebuilt
from broker.core.merkle.tree import CompactTree
from broker.model.ledger import JsonValue, StoredCheckpoint
from broker.ports.keys import Keys

log = logging.getLogger(__name__)

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


class CheckpointSigner:
    """Signs with the current key, and with the one before as well until a stored checkpoint covers the change's entry."""

    def __init__(self, origin: str, keys: LedgerKeys, rebuilt: Rebuilt) -> None:
        self.origin = origin
        self._keys = keys
        changed = rebuilt.key is not None and rebuilt.key.public_key != keys.current.public_key
        self._old = rebuilt.key if changed else rebuilt.rotated_from
        self._to_write = changed
        self._covered_from: int | None = None if changed else 0

    @property
    def change(self) -> dict[str, JsonValue] | None:
        """The part `change` of the entry `key_rotated` that is to be written, or None."""
        if not self._to_write or self._old is None:
            return None
        return {
            "use": USE,
            "from": {"id": self._keys.id_of(self._old), "key": self._old.text()},
            "to": {"id": self._keys.current_id, "key": self._keys.current.text()},
        }

    def change_written(self, size: int) -> None:
        """The entry of the change is in a tree of this size."""
        self._to_write, self._covered_from = False, size

    def sign(self, tree: CompactTree) -> StoredCheckpoint:
        """The tree's checkpoint. The current key signs alone if the one before is gone from `ledger.keys`."""
        signing = [self._keys.current_id]
        old = None if self._old is None else self._keys.id_of(self._old)
        if old is not None:
            signing.insert(0, old)
        elif self._old is not None:
            log.warning(
                "the key that signed the ledger before is not in ledger.keys: its change stays unsigned"
            )
        checkpoint = Checkpoint(self.origin, tree.size, tree.root())
        signers = [self._keys.signer(self.origin, number) for number in signing]
        return StoredCheckpoint(sign_checkpoint(checkpoint, signers), tree.frontier)

    def stored(self, size: int) -> None:
        """A checkpoint of this size is stored."""
        if self._covered_from is not None and size >= self._covered_from:
            self._old = None


def text_of(note: bytes) -> str:
    """What a note's signatures are over."""
    return SignedNote.parse(note).text


def with_signatures(note: bytes, other: bytes) -> bytes:
    """The note with the other's signatures added; of two of one key the other's counts."""
    mine, more = SignedNote.parse(note), SignedNote.parse(other)
    merged = {(each.name, each.key_hash): each for each in (*mine.signatures, *more.signatures)}
    return SignedNote(mine.text, tuple(merged.values())).encode()
