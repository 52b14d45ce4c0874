"""Builds ledger entries: one function for each kind of event, none of which ever sees a payload (design rules 2 and 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from broker.core.in_force import InForce, Order
from broker.core.regime import Regime
from broker.errors import EntenteError, Reason, StorageUnavailable, Told
from broker.model.ledger import JsonValue, LedgerEntry, Place
from broker.model.principal import Principal
from broker.model.rulebook import Rules
from broker.ports.clock import Clock
from broker.ports.ledger import Ledger


class Evidence:
    """Writes entries; what writes returns once they are durable, else raises EntenteError LEDGER_UNAVAILABLE.

    patient: see Ledger.append. The entries of a stream join, and one that is written twice would break that.
    order: under which the entry is made; what is in force now unless told.
    """

    def __init__(self, ledger: Ledger, clock: Clock, in_force: InForce[Regime]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._in_force = in_force

    @property
    def rules(self) -> Rules:
        """Those of an entry that is made now."""
        return self._in_force.present.regime.rules

    def entry(
        self,
        kind: str,
        body: Mapping[str, JsonValue],
        roots: Mapping[str, bytes] | None = None,
        *,
        order: Order[Regime] | None = None,
    ) -> LedgerEntry:
        """An entry of now, with the part `rules`, that is not yet written."""
        order = order or self._in_force.present
        rules: dict[str, JsonValue] = {
            "revision": order.regime.rules.revision,
            "engine": order.regime.rules.engine,
            "overlays": order.overlays.epoch,
        }
        return LedgerEntry(kind, self._clock.now_ms(), {**body, "rules": rules}, roots or {})

    async def write(
        self, kind: str, body: Mapping[str, JsonValue], *, order: Order[Regime] | None = None
    ) -> Place:
        """One entry; returns its place."""
        (place,) = await self.write_all([self.entry(kind, body, order=order)])
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


def decisions(rulings: Iterable[Told], rules: Rules) -> list[JsonValue]:
    """The part `decisions` of an entry under `rules`: each once, in the order in which they come first."""
    return [ruling.told_under(rules) for ruling in dict.fromkeys(rulings)]


def list_of(values: Iterable[JsonValue]) -> list[JsonValue]:
    """A JSON list; lists are invariant in their type, hence this."""
    return list(values)
