"""Secret keys with ids, for each use.

cursor: seals cursors and places. pseudonym: derives pseudonyms. ledger: the Ed25519 seed that signs checkpoints. digest:
salts what ledger entries say of content. receipt: seals receipts. control: seals the entries of the control log.
"""

from __future__ import annotations

from typing import Protocol


class Keys(Protocol):
    """Named 32-byte keys; retired ones stay available by id as long as replay needs them."""

    def current(self, use: str) -> tuple[int, bytes]:
        """The id (0..255) and key for new work."""

    def by_id(self, use: str, key_id: int) -> bytes | None:
        """A present or retired key, or None."""
