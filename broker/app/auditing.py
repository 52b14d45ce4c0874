"""The side of an exchange that reads its ledger: the service Ledger, its index, and engines for older revisions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from broker.adapters.export.index import SqliteAuditIndex
from broker.adapters.opa.check import OpaCompiler
from broker.adapters.opa.child import OpaStartFailed
from broker.adapters.opa.engine import OpaEngine
from broker.app.backends import open_ledger_reader
from broker.app.config import Backend
from broker.app.foundation import Foundation
from broker.core.audit.access import AuditAccess
from broker.core.audit.desk import AuditDesk
from broker.core.audit.fresh import FreshIndex
from broker.core.audit.holders import HolderDesk
from broker.core.audit.readings import Readings
from broker.core.audit.records import OpenEngine, RecordReplay
from broker.core.audit.seen import SightingsDesk
from broker.core.ledger.receipt import ReceiptCodec
from broker.core.rulebook.check import check_rulebook
from broker.errors import RulebookRefused, StorageUnavailable
from broker.model.rulebook import Revision
from broker.ports.audit_index import AuditIndex
from broker.ports.ledger_log import LedgerReader
from broker.ports.policy_engine import PolicyEngine
from broker.rpc.ledger import LedgerServicer

INDEX_DIRECTORY = "audit-index"


def fresh_index(base: Foundation) -> FreshIndex:
    """The index of all instances' ledgers; nothing is opened before it is asked for."""
    config = base.opened.config

    @asynccontextmanager
    async def opened() -> AsyncIterator[tuple[LedgerReader, AuditIndex]]:
        async with AsyncExitStack() as stack:
            reader = await open_ledger_reader(config.backend)
            stack.push_async_callback(reader.close)
            file = _directory(config.backend, stack) / f"{config.ledger.instance}.sqlite"
            index = await SqliteAuditIndex.open(file, config.exchange.name)
            stack.push_async_callback(index.close)
            yield reader, index

    return FreshIndex(opened)


def _directory(backend: Backend, stack: AsyncExitStack) -> Path:
    """Below `data_dir`, so that it need not be made anew after each start; without one, for this run only."""
    try:
        if backend.data_dir is None:
            return Path(stack.enter_context(TemporaryDirectory(prefix="entente-audit-index-")))
        directory = backend.data_dir / INDEX_DIRECTORY
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory
    except OSError as error:
        raise StorageUnavailable(
            f"{error.filename}: {error.strerror}; make room for the audit index"
        ) from None


def auditing(base: Foundation, ledger: FreshIndex) -> LedgerServicer:
    """The service Ledger."""
    opened = base.opened
    readings = Readings(AuditAccess(base.in_force, opened.clock), ledger, base.evidence)
    records = RecordReplay(
        readings=readings,
        log=opened.stores.record_log,
        in_force=base.in_force,
        revisions=opened.stores.rulebooks,
        open_engine=_open_engine(base),
        keys=opened.keys,
        clock=opened.clock,
    )
    return LedgerServicer(
        desk=AuditDesk(readings),
        sightings=SightingsDesk(readings),
        holders=HolderDesk(readings, ReceiptCodec(opened.keys)),
        records=records,
        quotas=base.quotas,
        slow_reader_s=opened.config.limits.slow_consumer_s,
        message_bytes=opened.config.limits.message_bytes,
    )


def _open_engine(base: Foundation) -> OpenEngine:
    @asynccontextmanager
    async def open_engine(revision: Revision) -> AsyncIterator[PolicyEngine]:
        """Checked as at the door: the store may be written by others."""
        opa = base.opened.opa
        if findings := await check_rulebook(OpaCompiler(opa), revision):
            raise RulebookRefused(findings)
        try:
            engine = await OpaEngine.start(opa, revision)
        except OpaStartFailed as error:
            raise RulebookRefused((str(error),)) from None
        try:
            yield engine
        finally:
            await engine.close()

    return open_engine
