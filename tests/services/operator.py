"""A member of an exchange on Kafka without streams of its own, in the test's process: it activates, suspends and fences.

What the services ask of the agreement it asks directly, so a test needs no proposals and approvals.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from kafka.admin import OffsetSpec

from broker.adapters.clock import SystemClock
from broker.adapters.kafka.admin import ClusterAdmin
from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.control import KafkaControlLog
from broker.adapters.kafka.ledger import KafkaLedgerLog
from broker.adapters.kafka.ledger_records import read_claim
from broker.adapters.kafka.rulebook_store import KafkaRulebookStore
from broker.adapters.kafka.span import read_span
from broker.adapters.keyring import FileKeys
from broker.core.control.confirming import Confirming
from broker.core.control.desk import ControlDesk, Enacted
from broker.core.control.members import Member
from broker.core.control.runtime import ControlRuntime, ControlSettings
from broker.core.control.seal import CONTROL_USE, ControlSeal
from broker.core.ledger.heading import read_heading
from broker.core.ledger.leaf import open_entry
from broker.model.ledger import EncodedEntry, JsonValue, LedgerEntry
from broker.model.rulebook import Revision
from tests.fakes.control import FakeApplier
from tests.services.broker import BrokerProcess

NAME = "operator"
_TIMEOUT_S = 10.0

Ends = tuple[int, ...]
"""Where each partition of the ledger's topic ends."""


@dataclass(frozen=True, slots=True)
class StoredAt:
    """An entry of some instance's ledger that counts, and where it is in the topic."""

    partition: int
    offset: int
    entry: LedgerEntry


@dataclass(eq=False)
class Operator:
    """A member; `desk` is what it acts through."""

    connection: KafkaConnection
    desk: ControlDesk
    rulebooks: KafkaRulebookStore
    admin: ClusterAdmin
    fenced: list[str] = field(default_factory=list)

    async def store(self, revision: Revision) -> None:
        """Keep a revision, as a proposal of it would."""
        await self.rulebooks.put(revision)

    async def approve(self, revision: Revision) -> None:
        """Record that it was proposed, passed the checks and was approved, so that instances hold it ready."""
        proposal = secrets.token_hex(5)
        proposed: dict[str, JsonValue] = {
            "revision": revision.id,
            "parent": self.desk.state.activations.revision,
            "by": {"agency": "exchange", "subject": "author"},
            "message": "why",
            "areas": [{"kind": "exchange", "owner": ""}],
            "rollback": False,
        }
        version = await self.desk.record("proposed", {"proposal": proposal, **proposed})
        check: dict[str, JsonValue] = {"accepted": True, "findings": [], "cut": False}
        await self.desk.record("checked", {"proposal": proposal, "version": version, **check})
        approval: dict[str, JsonValue] = {
            "revision": revision.id,
            "by": {"agency": "exchange", "subject": NAME},
        }
        await self.desk.record("approved", {"proposal": proposal, **approval})

    async def activate(self, revision: Revision) -> Enacted:
        """As the desk does."""
        by = {"agency": "exchange", "subject": NAME}
        return await self.desk.activate(revision.id, by=dict(by), proposal=None, rollback=False)

    async def ledger_ends(self) -> Ends:
        """What is durable now comes before these offsets."""
        topic = self.connection.topic("ledger")
        info = await self.admin.find_topic(topic)
        assert info is not None
        return await self.admin.offsets(topic, info.partitions, OffsetSpec.LATEST)

    async def entries(self, kind: str) -> list[StoredAt]:
        """All entries of a kind that count, of all instances."""
        found: list[StoredAt] = []
        for partition, end in enumerate(await self.ledger_ends()):
            epoch = 0
            async for record in read_span(
                self.connection, self.connection.topic("ledger"), 0, end, partition
            ):
                claim = read_claim(record.value)
                if claim is not None:
                    epoch = max(epoch, claim.epoch)
                    continue
                leaf, _, openings = (record.value or b"").partition(b"\n")
                heading = read_heading(leaf)
                assert heading is not None
                entry = open_entry(EncodedEntry(leaf, openings))[1]
                if heading.epoch >= epoch and entry.kind == kind:
                    found.append(StoredAt(partition, record.offset, entry))
        return found


def seal_of(broker: BrokerProcess) -> ControlSeal:
    """What its exchange seals the control log with."""
    path = broker.config.keys.directory / f"{CONTROL_USE}.keys"
    return ControlSeal(FileKeys.open_use(path, CONTROL_USE))


@asynccontextmanager
async def operating(bootstrap: str, broker: BrokerProcess) -> AsyncIterator[Operator]:
    """A member of the broker's exchange inside the block."""
    connection = KafkaConnection(
        bootstrap=(bootstrap,), prefix=broker.kafka_prefix.rstrip("."), replication=1
    )
    settings = ControlSettings(NAME, secrets.token_hex(8), broker.config.control.lease_s)
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        admin = ClusterAdmin(connection)
        stack.push_async_callback(admin.close)
        rulebooks = await KafkaRulebookStore.open(connection)
        stack.push_async_callback(rulebooks.close)
        ledger_log = await KafkaLedgerLog.open(connection, NAME)
        stack.push_async_callback(ledger_log.close)
        control_log = await KafkaControlLog.open(connection, seal_of(broker), timeout_s=_TIMEOUT_S)
        stack.push_async_callback(control_log.close)
        runtime = ControlRuntime(
            control_log, settings, clock, lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
        )
        fenced: list[str] = []

        async def account(member: Member) -> None:
            fenced.append(member.instance)

        desk = ControlDesk(runtime, Confirming(runtime, ledger_log, account), clock)
        await runtime.follow()
        revision = desk.state.activations.revision
        assert revision is not None
        await runtime.join(FakeApplier(revision), revision, await ledger_log.claim())
        stack.push_async_callback(runtime.leave)
        stack.push_async_callback(desk.close)
        yield Operator(connection, desk, rulebooks, admin, fenced)
