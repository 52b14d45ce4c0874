"""Writing an export directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.core.checkpoint.note import VerifierKey
from broker.model.audit import Coverage, ProgressCallback
from broker.ports.ledger_log import LedgerReader
from broker.ports.rulebook_store import RulebookReader


class ExportRefused(Exception):
    """Nothing was exported; one line: what is in the way, and what to do."""


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export, and where to: a directory that is absent or empty.

    since_ms, until_ms: entries' own times, milliseconds since 1970; of each instance the contiguous range from the first
    entry at or after `since_ms` to the last at or before `until_ms`. keys: for the export's `ledger.vkey`.
    """

    out: Path
    exchange: str
    keys: Sequence[VerifierKey] = ()
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. missing: rulebook revisions that entries name and the store does not hold."""

    coverage: tuple[Coverage, ...]
    revisions: tuple[str, ...]
    missing: tuple[str, ...]


async def write_export(
    request: ExportRequest,
    reader: LedgerReader,
    revisions: RulebookReader,
    progress: ProgressCallback | None = None,
) -> Exported:
    """Write the directory whole or not at all, for its owner's eyes only.

    Raises ExportRefused if the directory is occupied or nothing lies in the range, LedgerRefused if the entries are not
    consecutive, StorageUnavailable.
    """
    raise NotImplementedError
