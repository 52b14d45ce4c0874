"""The stores of one exchange, whatever they are kept in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from broker.ports.control import ControlLog, LedgerFence
from broker.ports.ledger_log import LedgerLog
from broker.ports.record_log import RecordLog
from broker.ports.rulebook_store import RulebookStore
from broker.ports.subscription_store import SubscriptionStore


class FencingLedgerLog(LedgerLog, LedgerFence, Protocol):
    """This instance's ledger, and the end of other instances' right to write theirs."""


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of one exchange."""

    record_log: RecordLog
    ledger_log: FencingLedgerLog
    control_log: ControlLog
    subscriptions: SubscriptionStore
    rulebooks: RulebookStore

    async def close(self) -> None:
        """Close all; the ledger last, so that what ends the others can still be accounted for."""
        await self.record_log.close()
        await self.subscriptions.close()
        await self.rulebooks.close()
        await self.control_log.close()
        await self.ledger_log.close()
