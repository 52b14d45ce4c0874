"""Where an auditor's ledger comes from: an export, an exchange's data directory, or Kafka itself."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from broker.adapters.export.index import SqliteAuditIndex
from broker.adapters.export.reader import ExportReader
from broker.app.config import KafkaAccess
from broker.app.rulebook_sources import DirectoryRulebooks, ExportedRulebooks, NoRulebooks
from broker.core.checkpoint.checkpoint import unverified_checkpoint
from broker.core.checkpoint.note import NoteInvalid
from broker.errors import StorageUnavailable
from broker.model.audit import ProgressCallback
from broker.ports.audit_index import AuditIndex
from broker.ports.ledger_log import LedgerReader
from broker.ports.rulebook_store import RulebookReader

EXPORT_FILE = "export.json"
LEDGER_FILE = "ledger.db"
_RULEBOOKS_FILE = "rulebooks.db"


@dataclass(frozen=True, slots=True)
class LedgerSource:
    """Exactly one of `directory` (an export or a data directory) and `kafka`.

    rulebooks: a directory with revisions beside what the ledger's own place holds. index: a file for the index of the
    entries, kept from one time to the next; without it an export's own is believed, and any other is made anew.
    """

    directory: Path | None = None
    kafka: KafkaAccess | None = None
    rulebooks: Path | None = None
    index: Path | None = None


@dataclass(frozen=True, slots=True)
class OpenedLedger:
    """A ledger to read, and the revisions of the rulebook that go with it. export: set if it is an export."""

    reader: LedgerReader
    rulebooks: RulebookReader
    export: ExportReader | None
    source: LedgerSource


class LedgerNotFound(Exception):
    """There is no ledger where one was named; one line."""


@asynccontextmanager
async def opened_source(source: LedgerSource) -> AsyncIterator[OpenedLedger]:
    """The ledger inside the block. Raises LedgerNotFound, StorageUnavailable, KeysRefused."""
    opened = await _open(source)
    try:
        yield opened
    finally:
        await opened.rulebooks.close()
        await opened.reader.close()


@asynccontextmanager
async def opened_index(
    ledger: OpenedLedger, progress: ProgressCallback | None = None
) -> AsyncIterator[AuditIndex]:
    """The index of a ledger, up to date, inside the block. Raises StorageUnavailable, LedgerRefused."""
    if ledger.export is not None and ledger.source.index is None:
        index = await SqliteAuditIndex.open(ledger.export.tables_path, read_only=True)
        try:
            yield index
        finally:
            await index.close()
        return
    with tempfile.TemporaryDirectory(prefix="entente-audit-") as directory:
        path = ledger.source.index or Path(directory) / "index.sqlite"
        index = await SqliteAuditIndex.open(path, await exchange_of(ledger))
        try:
            await index.update(ledger.reader, progress)
            yield index
        finally:
            await index.close()


async def exchange_of(ledger: OpenedLedger) -> str:
    """The exchange's name as checkpoints' origins have it (`<exchange>/<instance>`); "" without any checkpoint."""
    if ledger.export is not None:
        return ledger.export.exchange
    for instance in await ledger.reader.instances():
        async for stored in ledger.reader.checkpoints(instance):
            try:
                origin = unverified_checkpoint(stored.note).origin
            except NoteInvalid:
                continue  # verification says so, with the place
            return origin.removesuffix(f"/{instance}")
    return ""


async def _open(source: LedgerSource) -> OpenedLedger:
    if source.kafka is not None:
        return await _open_kafka(source, source.kafka)
    directory = source.directory
    if directory is not None and (directory / EXPORT_FILE).is_file():
        export = await ExportReader.open(directory)
        return OpenedLedger(export, _with_directory(ExportedRulebooks(export), source), export, source)
    if directory is not None and (directory / LEDGER_FILE).is_file():
        from broker.adapters.sqlite.ledger_reader import SqliteLedgerReader
        from broker.adapters.sqlite.rulebook_reader import SqliteRulebookReader

        reader = await SqliteLedgerReader.open(directory / LEDGER_FILE)
        beside = SqliteRulebookReader(directory / _RULEBOOKS_FILE)
        return OpenedLedger(reader, _with_directory(beside, source), None, source)
    raise LedgerNotFound(
        f"{directory}: holds neither {EXPORT_FILE} nor {LEDGER_FILE}; name an export or an exchange's data directory"
    )


async def _open_kafka(source: LedgerSource, kafka: KafkaAccess) -> OpenedLedger:
    from broker.adapters.kafka.ledger_reader import KafkaLedgerReader
    from broker.adapters.kafka.rulebook_store import KafkaRulebookStore
    from broker.app.kafka_stores import kafka_connection

    connection = kafka_connection(kafka)
    reader = await KafkaLedgerReader.open(connection)
    rulebooks: RulebookReader | None = None
    try:
        rulebooks = await KafkaRulebookStore.open_to_read(connection)
    except StorageUnavailable:
        rulebooks = NoRulebooks()  # credentials may well cover the ledger's topics only
    except BaseException:
        await reader.close()
        raise
    return OpenedLedger(reader, _with_directory(rulebooks, source), None, source)


def _with_directory(rulebooks: RulebookReader, source: LedgerSource) -> RulebookReader:
    return rulebooks if source.rulebooks is None else DirectoryRulebooks(source.rulebooks, rulebooks)
