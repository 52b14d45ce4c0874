"""What a batch's ledger entry says: each decision with its full input, what was handed out, and what was considered."""

from __future__ import annotations

from dataclasses import dataclass, field

from broker.core.decide import ENGINE_FAULT, Ruling
from broker.core.deliver.history import Considered
from broker.core.ledger.handed_out import ItemPlace
from broker.model.ledger import JsonValue
from broker.model.record import StoredRecord

ACCOUNT_BYTES = 1 << 20
"""What the decisions of a batch may take before it is cut: an entry has to hold them all, and an append takes 8 MiB at most.

Only endless label sets, or decisions with endless reasons, come to this; one that is too large would never be written.
"""


@dataclass(slots=True)
class Account:
    """Collects while a batch is prepared, and never holds a payload.

    places and contents: of what goes out, in order; the SHA-256 of each serialised Delivery. faulted: partition and offset
    of records for which the engine failed. size_bytes: about what the decisions take in the entry. is_full: whether no more
    is to be decided for this entry.
    """

    decisions: list[JsonValue] = field(default_factory=list)
    places: list[ItemPlace] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    faulted: list[JsonValue] = field(default_factory=list)
    considered: Considered = field(default_factory=Considered)
    size_bytes: int = 0
    is_full: bool = False
    _numbers: dict[Ruling, int] = field(default_factory=dict)
    _last: Ruling | None = None
    _number: int = 0

    def withhold(self, stored: StoredRecord, outcome: str, ruling: Ruling | None) -> None:
        """A record that does not go out; where the engine failed its place is kept, since it can be delivered later."""
        self.considered.outcomes[outcome] += 1
        if ruling is not None:
            self.considered.withhold(ruling)
            self._look()
        if outcome == ENGINE_FAULT:
            self.faulted.append([stored.partition, stored.offset])

    def hand_out(self, stored: StoredRecord, outcome: str, ruling: Ruling, content: bytes) -> None:
        """A record or notice that goes out."""
        if ruling is not self._last:  # most records are decided as the one before
            self._last, self._number = ruling, self._number_of(ruling)
        self.places.append((stored.partition, stored.offset, self._number))
        self.contents.append(content)
        self.considered.outcomes[outcome] += 1

    def _number_of(self, ruling: Ruling) -> int:
        number = self._numbers.get(ruling)
        if number is None:
            number = self._numbers[ruling] = len(self.decisions)
            self.decisions.append(ruling.value)
            self.size_bytes += ruling.size_bytes
            self._look()
        return number

    def _look(self) -> None:
        self.is_full = self.size_bytes + self.considered.size_bytes >= ACCOUNT_BYTES
