"""Builds ledger entries: one function for each kind of event, none of which ever sees a payload (design rules 2 and 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from broker.errors import EntenteError, Reason, StorageUnavailable
from broker.model.ledger import JsonValue, LedgerEntry
from broker.model.principal import Principal
from broker.ports.clock import Clock
from broker.ports.ledger import Ledger


class Evidence:
    """Writes entries; each method returns once the entry is durable, else raises EntenteError LEDGER_UNAVAILABLE."""

    def __init__(self, ledger: Ledger, clock: Clock, revision: str, engine: str) -> None:
        self._ledger = ledger
        self._clock = clock
        self._rules: dict[str, JsonValue] = {"revision": revision, "engine": engine}

    async def write(self, kind: str, body: Mapping[str, JsonValue]) -> int:
        """One entry with the revision and engine added; returns its position in the ledger."""
        entry = LedgerEntry(kind, self._clock.now_ms(), {**body, **self._rules})
        try:
            return (await self._ledger.append([entry]))[0]
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


def list_of(values: Sequence[JsonValue]) -> list[JsonValue]:
    """A JSON list; lists are invariant in their type, hence this."""
    return list(values)
