"""A mapping that only grows, of which every earlier state stays as it was, at little cost for each change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import TypeVar

Value = TypeVar("Value")

_RECENT = 1_024
"""What is copied for each change at most; then all of it is copied once."""


class Layers(Mapping[bytes, Value]):
    """Immutable. With a dict instead, 100,000 withdrawals would copy 100,000 entries for each that follows."""

    __slots__ = ("_base", "_recent")

    def __init__(
        self, base: dict[bytes, Value] | None = None, recent: dict[bytes, Value] | None = None
    ) -> None:
        self._base: dict[bytes, Value] = base or {}
        self._recent: dict[bytes, Value] = recent or {}

    def put(self, key: bytes, value: Value) -> Layers[Value]:
        """The same with one more, or another, entry."""
        recent = {**self._recent, key: value}
        if len(recent) > _RECENT:
            return Layers({**self._base, **recent})
        return Layers(self._base, recent)

    def __getitem__(self, key: bytes) -> Value:
        found = self._recent.get(key)
        return self._base[key] if found is None else found

    def __contains__(self, key: object) -> bool:
        return key in self._recent or key in self._base

    def __iter__(self) -> Iterator[bytes]:
        yield from self._base
        yield from (key for key in self._recent if key not in self._base)

    def newest(self, count: int) -> list[Value]:
        """The values of so many keys that came last, the newest first."""
        new = (key for key in reversed(self._recent) if key not in self._base)
        return [self[key] for key in islice(chain(new, reversed(self._base)), count)]

    def __len__(self) -> int:
        return len(self._base) + sum(key not in self._base for key in self._recent)
