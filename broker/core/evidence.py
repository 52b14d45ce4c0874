"""Builds ledger entries: one function for each kind of event, none of which ever sees a payload (design rules 2 and 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from broker.core.decide import Ruling
from broker.errors import EntenteError, Reason, StorageUnavailable
from broker.model.ledger import JsonValue, LedgerEntry, Place
from broker.model.principal import Principal
from broker.ports.clock import Clock
from broker.ports.ledger import Ledger


class Evidence:
    """Writes entries; what writes returns once they are durable, else raises EntenteError LEDGER_UNAVAILABLE.

    patient: see Ledger.append. The entries of a stream join, and one that is written twice would break that.
    """

    def __init__(self, ledger: Ledger, clock: Clock, revision: str, engine: str) -> None:
        self._ledger = ledger
        self._clock = clock
        self._rules: dict[str, JsonValue] = {"revision": revision, "engine": engine}

    def entry(
        self, kind: str, body: Mapping[str, JsonValue], roots: Mapping[str, bytes] | None = None
    ) -> LedgerEntry:
        """An entry of now, with the part `rules`, that is not yet written."""
        return LedgerEntry(kind, self._clock.now_ms(), {**body, "rules": self._rules}, roots or {})

    async def write(self, kind: str, body: Mapping[str, JsonValue]) -> Place:
        """One entry; returns its place."""
        (place,) = await self.write_all([self.entry(kind, body)])
        return place

    async def write_all(self, entries: Sequence[LedgerEntry], *, patient: bool = False) -> Sequence[Place]:
        """Several entries next to each other, all or none; returns their places."""
        try:
            return await self._ledger.append(entries, patient=patient)
        except StorageUnavailable:
            raise EntenteError(Reason.LEDGER_UNAVAILABLE) from None


def who(principal: Principal) -> dict[str, JsonValue]:
    """The principal as an entry names it."""
    return {
        "agency": principal.agency,
        "subject": principal.subject,
        "roles": list(principal.roles),
        "attributes": dict(principal.attributes),
        "token": principal.token_id,
        "certificate": principal.certificate_thumbprint,
    }


def decisions(rulings: Iterable[Ruling]) -> list[JsonValue]:
    """The part `decisions`: each once, in the order in which they come first."""
    return [ruling.value for ruling in dict.fromkeys(rulings)]


def list_of(values: Iterable[JsonValue]) -> list[JsonValue]:
    """A JSON list; lists are invariant in their type, hence this."""
    return list(values)
