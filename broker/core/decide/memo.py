"""What was decided before, bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from broker.model.decision import Decision


class Memo:
    """Decisions of one revision by key; the least recently used go first when either bound is met."""

    def __init__(self, entries: int, limit_bytes: int) -> None:
        self._entries = entries
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._known: OrderedDict[bytes, Decision] = OrderedDict()
        self.recall = self._known.get
        """The decision for a key, or None, without counting as a use (see `touch`); a bound method, for speed."""
        self.touch = self._known.move_to_end
        """Count a present key as used just now."""

    def __len__(self) -> int:
        return len(self._known)

    def newest(self) -> Iterator[bytes]:
        """The keys, the last used first; not beyond a change."""
        return reversed(self._known)

    def remember(self, key: bytes, decision: Decision) -> None:
        """Keep a decision; decisions are shared, so the keys are what is counted as bytes."""
        if key not in self._known:
            self._size_bytes += len(key)
        self._known[key] = decision
        self._known.move_to_end(key)
        while len(self._known) > self._entries or self._size_bytes > self._limit_bytes:
            oldest, _ = self._known.popitem(last=False)
            self._size_bytes -= len(oldest)

    def forget(self, key: bytes) -> None:
        """Drop a key if it is there."""
        if self._known.pop(key, None) is not None:
            self._size_bytes -= len(key)
