"""Secret keys with ids: for cursors and pseudonyms."""

from __future__ import annotations

from typing import Protocol


class Keys(Protocol):
    """Named 32-byte keys; retired ones stay available by id as long as replay needs them."""

    def current(self, use: str) -> tuple[int, bytes]:
        """The id (0..255) and key for new work; `use` is "cursor" or "pseudonym"."""

    def by_id(self, use: str, key_id: int) -> bytes | None:
        """A present or retired key, or None."""
