"""Receipts against the ledger: what was released, or accepted, without an entry that says so."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from typing import Protocol

from broker.model.audit import Finding, ProgressCallback
from broker.model.ledger import Place
from broker.ports.audit_index import AuditIndex
from broker.ports.ledger_log import LedgerReader


class OpenedReceipt(Protocol):
    """What a receipt holds: the entry's place and the secret of what was handed out or published (32 bytes)."""

    @property
    def place(self) -> Place:
        """Where the entry is."""

    @property
    def secret(self) -> bytes:
        """See broker.core.ledger.handed_out."""


OpenReceipt = Callable[[bytes, str, str], OpenedReceipt | None]
"""Opens a sealed receipt of an agency's subject; None if it is not one of the exchange's for this holder."""


@dataclass(frozen=True, slots=True)
class ReceiptsChecked:
    """checked: lines read; sound: those whose entry says what they say. findings name the line as `line N`."""

    checked: int
    sound: int
    findings: tuple[Finding, ...]


async def check_receipts(
    lines: AsyncIterable[bytes],
    reader: LedgerReader,
    index: AuditIndex,
    open_receipt: OpenReceipt,
    progress: ProgressCallback | None = None,
) -> ReceiptsChecked:
    """Compare each line of a receipts file with the entry that its receipt names. Raises StorageUnavailable."""
    raise NotImplementedError
