"""Sets of places in the record log, as bitmaps: memory is a bit for each offset between the first and the last."""

from __future__ import annotations

from collections.abc import Iterator

from broker.core.ledger.runs import RUN_PLACES

_PAGE_BITS = 12
PAGE_OFFSETS = 1 << _PAGE_BITS
_IN_PAGE = PAGE_OFFSETS - 1
_PAGE_BYTES = PAGE_OFFSETS // 8

PageKey = tuple[str, int, int]
"""Topic, partition, number of the page."""


class Places:
    """Collects places, by pages. firsts: who touched a page first, as `add` is told."""

    def __init__(self) -> None:
        self.firsts: dict[PageKey, int] = {}
        self._pages: dict[PageKey, bytearray] = {}

    def add(self, topic: str, partition: int, offset: int, who: int = 0) -> None:
        """Raises ValueError for what is no place."""
        if type(partition) is not int or type(offset) is not int or offset < 0:
            raise ValueError("no place")
        key = (topic, partition, offset >> _PAGE_BITS)
        page = self._pages.get(key)
        if page is None:
            page = self._pages[key] = bytearray(_PAGE_BYTES)
            self.firsts[key] = who
        page[(offset & _IN_PAGE) >> 3] |= 1 << (offset & 7)

    def add_run(self, topic: str, partition: int, offset: int, count: int, who: int = 0) -> None:
        """As `add`, `count` offsets in a row. Raises ValueError for what is no run of more than one place."""
        if type(count) is not int or not 1 < count <= RUN_PLACES:
            raise ValueError("no run")
        for each in range(offset, offset + count):
            self.add(topic, partition, each, who)

    def pages(self) -> dict[PageKey, int]:
        """Bit n of a page is its n-th offset."""
        return {key: int.from_bytes(page, "little") for key, page in self._pages.items()}


def merge(into: dict[PageKey, int], pages: dict[PageKey, int]) -> None:
    """Add the places of `pages`."""
    for key, page in pages.items():
        into[key] = into.get(key, 0) | page


def missing(wanted: dict[PageKey, int], present: dict[PageKey, int]) -> Iterator[tuple[str, int, int]]:
    """Topic, partition and offset of what is wanted and not present, in order."""
    for key in sorted(wanted):
        topic, partition, number = key
        left = wanted[key] & ~present.get(key, 0)
        while left:
            bit = (left & -left).bit_length() - 1
            yield topic, partition, number * PAGE_OFFSETS + bit
            left &= left - 1


def least(pages: dict[PageKey, int]) -> dict[tuple[str, int], int]:
    """By topic and partition the first offset."""
    found: dict[tuple[str, int], int] = {}
    for (topic, partition, number), page in pages.items():
        if page:
            offset = number * PAGE_OFFSETS + (page & -page).bit_length() - 1
            found[topic, partition] = min(offset, found.get((topic, partition), offset))
    return found
