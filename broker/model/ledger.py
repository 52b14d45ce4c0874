"""What the ledger holds: entries that account for every call, release and failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One event. `body` never holds a payload, a field's value, a token or a key (design rule 2).

    kind: configuration | call_refused | refused_aggregate | publish | preview | subscription | stream_opened |
    delivery | engine_fault | stream_closed.
    """

    kind: str
    time_ms: int
    body: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry read back, with its position in the ledger (0, 1, 2 … per writer)."""

    position: int
    entry: LedgerEntry
