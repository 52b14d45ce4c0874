"""Reading single entries of a ledger."""

from __future__ import annotations

from broker.model.ledger import EncodedEntry
from broker.ports.audit_index import AuditIndex
from broker.ports.ledger_log import LedgerReader


async def read_entry(
    reader: LedgerReader, index: AuditIndex, instance: str, entry_index: int
) -> EncodedEntry:
    """One entry as it is stored, checked against the index's leaf hash.

    Raises LookupError if there is none, LedgerRefused if it is not the one that was indexed, StorageUnavailable.
    """
    raise NotImplementedError
