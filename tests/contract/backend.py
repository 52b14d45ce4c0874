"""What a backend offers to the contract suites: it opens its adapters, again and again, on one storage."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Protocol, cast

import pytest

from broker.core.ledger.writer import LedgerWriter
from broker.model.ledger import EncodedEntry
from broker.model.registry import Topic
from broker.ports.control import ControlLog, LedgerFence
from broker.ports.keys import Keys
from broker.ports.ledger_log import LedgerLog, LedgerReader
from broker.ports.record_log import RecordLog
from broker.ports.rulebook_store import RulebookReader, RulebookStore
from broker.ports.stored_records import StoredRecords
from broker.ports.subscription_store import SubscriptionStore
from tests.fakes.regimes import FixedKeys

BACKENDS = ("sqlite", "kafka")
OWN_KEYS: Keys = FixedKeys()


class FencingLog(LedgerLog, LedgerFence, Protocol):
    """A ledger's log that can end the right of other instances to theirs."""


class Backend(Protocol):
    """One technology on storage of its own, fresh for each test.

    Each `open_*` opens the same storage; a suite closes what it opened before it opens it again.
    """

    @property
    def address(self) -> str:
        """What `connect` in another process needs to reach the same storage."""

    async def open_record_log(self) -> RecordLog:
        """Open the record log."""

    async def open_record_reader(self) -> StoredRecords:
        """Open the records for reading only, whether a record log is open or not."""

    async def open_ledger(self) -> LedgerWriter:
        """Claim the ledger of the instance "broker", and open it."""

    async def open_ledger_logs(self, *instances: str) -> list[FencingLog]:
        """Open a log for each of these names, several of which may be the same, all at once."""

    async def open_ledger_reader(self) -> LedgerReader:
        """Open the ledgers for reading only, whether a log is open or not."""

    async def expire_ledger(self, log: LedgerLog, before_ms: int) -> None:
        """Let retention take the entries of a log that are older than this."""

    async def rewrite_ledger(self, instance: str, change: Callable[[list[EncodedEntry]], None]) -> None:
        """Behind all logs' backs, which are closed: put what `change` makes of an instance's entries in their place."""

    async def open_control_log(self, keys: Keys = OWN_KEYS) -> ControlLog:
        """Open the control log of an exchange with these keys."""

    async def open_subscription_store(self) -> SubscriptionStore:
        """Open the subscription store."""

    async def open_rulebook_store(self) -> RulebookStore:
        """Open the rulebook store."""

    async def open_rulebook_reader(self) -> RulebookReader:
        """Open the rulebooks to read, beside a store or without one."""

    async def expire(self, log: RecordLog, topic: Topic, now_ms: int) -> None:
        """Enforce the topic's retention as if it were `now_ms`: drop what was recorded before now_ms - retention."""

    async def tamper_with_rulebook(self, revision_id: str, path: str, content: bytes) -> None:
        """Change one stored file of a revision behind the (closed) store's back, keeping the revision's id."""

    async def stop(self) -> None:
        """Remove what `start` made."""


class BackendModule(Protocol):
    """`tests/contract/<name>_backend.py`."""

    async def start(self, request: pytest.FixtureRequest) -> Backend:
        """A backend with fresh, empty storage; may use other fixtures through `request`."""

    async def connect(self, address: str) -> Backend:
        """The backend that another process started, from its `address`."""


def backend_module(name: str) -> BackendModule:
    """The module of a backend by its name in BACKENDS."""
    return cast(BackendModule, importlib.import_module(f"tests.contract.{name}_backend"))
