"""Values that are made from texts that recur, such as the parts that many entries share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

V = TypeVar("V")


class Texts(Generic[V]):
    """Makes a value once for each text, and forgets all of them after so many; what it returns is not to be changed.

    A text is compared with the last one of its length first: hashing a long one takes ten times as long.
    """

    def __init__(self, make: Callable[[bytes], V], limit: int) -> None:
        """make: may raise, and is asked again then."""
        self._make = make
        self._limit = limit
        self._last: dict[int, tuple[bytes, V]] = {}
        self._values: dict[bytes, V] = {}

    def get(self, text: bytes) -> V:
        """The value of a text, made now if it is new."""
        last = self._last.get(len(text))
        if last is not None and last[0] == text:
            return last[1]
        if text in self._values:
            value = self._values[text]
        else:
            value = self._make(text)
            if len(self._values) >= self._limit:
                self._values.clear()
                self._last.clear()
            self._values[text] = value
        self._last[len(text)] = text, value
        return value
