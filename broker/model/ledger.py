"""What the ledger holds: entries that account for every call, release and failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One event. It never holds a payload, a field's value, a token or a key (design rule 2).

    body: by name its parts, each of which is committed to with a salt of its own. roots: parts of which the ledger holds
    only a Merkle root, 32 bytes. docs/ledger.md lists the kinds and their parts.
    """

    kind: str
    time_ms: int
    body: Mapping[str, JsonValue]
    roots: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry is: the instance whose tree holds it, under which epoch, its leaf's index and hash (32 bytes)."""

    instance: str
    epoch: int
    index: int
    leaf_hash: bytes


@dataclass(frozen=True, slots=True)
class EncodedEntry:
    """An entry as it is stored: the leaf, over which the tree is built, and the openings of its commitments, or b""."""

    leaf: bytes
    openings: bytes


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry read back, with its index in its instance's tree (0, 1, 2 …)."""

    index: int
    entry: LedgerEntry


@dataclass(frozen=True, slots=True)
class ReadPoint:
    """How far a ledger was read: the next place in the store, the epoch in force there, and the next index.

    `store` is the adapter's own count (an offset, a row), which voided entries take part in.
    """

    store: int = 0
    epoch: int = 0
    index: int = 0


@dataclass(frozen=True, slots=True)
class ReadEntries:
    """Consecutive entries of one instance, and where reading goes on."""

    entries: tuple[EncodedEntry, ...]
    next: ReadPoint


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A signed checkpoint (C2SP signed note, UTF-8), and the frontier of the tree at its size, from which to go on.

    next_place: of one that was read, the store's own count from which those stored after it are read.
    """

    note: bytes
    frontier: tuple[bytes, ...]
    next_place: int = field(default=0, compare=False)
