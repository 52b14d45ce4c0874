"""Delivery without I/O: the real fan-out, groups, sessions and redaction over a log, a ledger and decisions in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from broker.core.cursor import CursorBinding, CursorCodec
from broker.core.decide import Question
from broker.core.deliver.fanout import FanOut, Warm
from broker.core.deliver.placement import Tools
from broker.core.deliver.prepare import Preparer
from broker.core.deliver.session import Outgoing, Session
from broker.core.deliver.standing import Standing
from broker.core.evidence import Evidence
from broker.core.in_force import Order
from broker.core.ledger.receipt import ReceiptCodec
from broker.core.ledger.runs import places_of
from broker.core.regime import Regime
from broker.errors import PositionExpired, StorageUnavailable
from broker.model.decision import KEEP, Decision, Effect
from broker.model.ledger import LedgerEntry, Place, StoredEntry
from broker.model.overlay import Overlays, Suspension
from broker.model.principal import Principal
from broker.model.record import AppendResult, Chunk, LogTopic, NewRecord, Positions, StoredRecord
from broker.model.registry import Registry, Topic
from broker.model.rulebook import Rules
from broker.model.subscription import SubscriptionKey
from broker.ports.subscription_store import SubscriptionStore
from protos.entente.v1.exchange_pb2 import SubscribeResponse
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.fakes.clock import TurnedClock
from tests.fakes.regimes import RULES, TOPIC, TYPE, FixedKeys, in_force, regime, registry

RELEASE = Decision(Effect.RELEASE, {"unreviewed": KEEP})
WITHHOLD = Decision(Effect.WITHHOLD, reasons=("scripted",))
__all__ = ["RULES", "TOPIC", "TYPE", "FixedKeys", "registry"]

Answer = Callable[[Question], Decision | None]


def owner_of(question: Question) -> str:
    """The owner of the record that a deliver question is about."""
    return cast(str, cast(Mapping[str, Any], question.item["record"])["agency"])


def label_of(question: Question) -> str:
    """The record's classification."""
    labels = cast(Mapping[str, Any], question.item["record"])["labels"]
    return cast(str, labels["dataclassification"])


class MemoryLog:
    """The RecordLog port in memory, for one topic. broken: reads raise StorageUnavailable."""

    def __init__(self, partitions: int) -> None:
        self.records: list[list[StoredRecord]] = [[] for _ in range(partitions)]
        self.start = [0] * partitions
        self.broken = False
        self.reads = 0
        self._grown = asyncio.Condition()

    async def add(self, partition: int, body: bytes, recorded_ms: int) -> None:
        """Store one record and wake readers."""
        async with self._grown:
            offset = len(self.records[partition])
            self.records[partition].append(StoredRecord(partition, offset, recorded_ms, body))
            self._grown.notify_all()

    async def read(
        self, topic: str, positions: Positions, *, max_records: int, max_bytes: int, wait_s: float
    ) -> Chunk:
        self.reads += 1
        if self.broken:
            raise StorageUnavailable("scripted")
        if any(have < first for have, first in zip(positions, self.start, strict=True)):
            raise PositionExpired(tuple(self.start))
        async with self._grown:
            try:
                async with asyncio.timeout(wait_s):
                    await self._grown.wait_for(lambda: self._after(positions))
            except TimeoutError:
                return Chunk((), positions)
        found = self._after(positions)[:max_records]
        following = list(positions)
        for stored in found:
            following[stored.partition] = stored.offset + 1
        return Chunk(tuple(found), tuple(following))

    def _after(self, positions: Positions) -> list[StoredRecord]:
        return [stored for row, begin in zip(self.records, positions, strict=True) for stored in row[begin:]]

    async def start_positions(self, topic: str) -> Positions:
        return tuple(self.start)

    async def end_positions(self, topic: str) -> Positions:
        return tuple(len(row) for row in self.records)

    async def positions_at(self, topic: str, time_ms: int) -> Positions:
        raise NotImplementedError

    async def open_topic(self, topic: Topic) -> LogTopic:
        raise NotImplementedError

    async def append(self, topic: str, records: Sequence[NewRecord]) -> Sequence[AppendResult]:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


class MemoryLedger:
    """The Ledger port in memory. failures: so many appends fail, with this error. hold: appends wait until it is set."""

    def __init__(self) -> None:
        self.entries: list[LedgerEntry] = []
        self.failures = 0
        self.error: StorageUnavailable = StorageUnavailable("scripted")
        self.hold: asyncio.Event | None = None
        self.asked = asyncio.Event()
        self.grown = asyncio.Event()

    async def append(self, entries: Sequence[LedgerEntry], *, patient: bool = False) -> Sequence[Place]:
        self.asked.set()
        if self.hold is not None:
            await self.hold.wait()
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise self.error
        begin = len(self.entries)
        self.entries.extend(entries)
        self.grown.set()
        return [Place("broker", 1, index, bytes(32)) for index in range(begin, len(self.entries))]

    def read(self, from_index: int = 0) -> AsyncIterator[StoredEntry]:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    def released(self) -> list[tuple[int, int]]:
        """Partition and offset of everything that entries account for, in order."""
        rows = [cast(list[Any], entry.body["places"]) for entry in self.of("delivery")]
        return [(row[0], row[1]) for entry in rows for row in places_of(entry)]

    def of(self, kind: str) -> list[LedgerEntry]:
        """The entries of one kind."""
        return [entry for entry in self.entries if entry.kind == kind]


class Epochs:
    """What delivery asks of the SubscriptionStore."""

    def __init__(self) -> None:
        self.present: dict[SubscriptionKey, int] = {}

    def present_epoch(self, key: SubscriptionKey) -> int | None:
        """See SubscriptionStore."""
        return self.present.get(key)


class ScriptedDecider:
    """Answers each question by a function of the test's. hold: those about deliveries wait until it is set."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.rules = rules
        self.answer: Answer = lambda _: RELEASE
        self.decided: dict[bytes, Decision] = {}
        self.calls = 0
        self.hold: asyncio.Event | None = None

    async def decide(self, questions: Sequence[Question]) -> list[Decision | None]:
        """See Decider."""
        self.calls += 1
        await asyncio.sleep(0)
        if self.hold is not None and any(each.item["action"] == "deliver" for each in questions):
            await self.hold.wait()
        answers = [self.answer(question) for question in questions]
        self.decided |= {q.key: answer for q, answer in zip(questions, answers, strict=True) if answer}
        return answers

    def recall(self, question: Question) -> Decision | None:
        """See Decider."""
        return self.decided.get(question.key)

    def asked_lately(self, actions: Collection[str], most: int) -> list[Question]:
        """See Decider; what was decided here is not kept as questions."""
        return []


class MovingClock(TurnedClock):
    """Wall time as the test turns it; monotonic time from the event loop, so that back-off passes."""

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()


class World:
    """One topic of records of any owner, and streams on it; close it at the end."""

    def __init__(self, partitions: int = 1, buffer_limit_bytes: int = 1 << 20) -> None:
        self.clock = MovingClock()
        self.log = MemoryLog(partitions)
        self.ledger = MemoryLedger()
        self.epochs = Epochs()
        self.decider = ScriptedDecider()
        self.keys = FixedKeys()
        self.revisions = 0
        self.judged: asyncio.Future[None] | None = None
        self.codec = CursorCodec(self.keys)
        self.receipts = ReceiptCodec(self.keys)
        self.in_force = in_force(
            self.decider,
            topics={TOPIC: LogTopic(TOPIC, partitions, b"i" * 16)},
            keys=self.keys,
            clock=self.clock,
        )
        self.evidence = Evidence(self.ledger, self.clock, self.in_force)
        self.fanout = FanOut(
            tools=Tools(
                self.in_force,
                self.log,
                Preparer(self.clock),
                self.evidence,
                self.clock,
                self.keys,
            ),
            subscriptions=cast(SubscriptionStore, self.epochs),
            buffer_limit_bytes=buffer_limit_bytes,
        )

    async def store(
        self, owner: str, record_id: str, *, partition: int = 0, label: str = "green", **attributes: str
    ) -> None:
        """Add a record to the log."""
        event = CloudEvent(
            id=record_id, source=f"//{owner}/x", spec_version="1.0", type=TYPE, text_data=f'"{record_id}"'
        )
        for name, value in {"dataclassification": label, **attributes}.items():
            event.attributes[name].ce_string = value
        await self.log.add(partition, event.SerializeToString(deterministic=True), self.clock.now_ms())

    def session(
        self,
        subject: str = "p-1",
        *,
        agency: str = "consumer",
        role: str = "reader",
        records: int = 0,
        size_bytes: int = 1 << 20,
        buffer_limit_bytes: int = 1 << 20,
        subscription: str = "",
        standing: Standing | None = None,
    ) -> Session:
        """An open stream with credit for so many records, served from the beginning unless told."""
        session = Session(
            principal=self.principal(subject, agency, role),
            admitted=self.in_force.present.regime,
            rulings=(),
            purpose="work",
            topic=TOPIC,
            binding=CursorBinding(agency, subject, b"i" * 16, subscription),
            epoch=1 if subscription else 0,
            standing=standing or Standing((0,) * len(self.log.records)),
            codec=self.codec,
            receipts=self.receipts,
            buffer_limit_bytes=buffer_limit_bytes,
            buffers=self.fanout.buffers,
        )
        if session.subscription_key is not None:
            self.epochs.present[session.subscription_key] = session.epoch
        session.grant(records, size_bytes if records else 0)
        self.fanout.park(session)
        return session

    def principal(self, subject: str, agency: str = "consumer", role: str = "reader") -> Principal:
        """A caller whose token lives for an hour."""
        expires = datetime.fromtimestamp(self.clock.now_ms() / 1000, UTC) + timedelta(hours=1)
        return Principal(agency, subject, (role,), ("work",), {}, f"token-{subject}", expires)

    def grant(self, session: Session, records: int, size_bytes: int = 1 << 20) -> None:
        """More credit."""
        session.grant(records, size_bytes)
        self.fanout.wake(session)

    def switch(
        self, decider: ScriptedDecider | None = None, known: Registry | None = None, **parts: Any
    ) -> asyncio.Future[None]:
        """Put another revision in force: what it decides, what it registers; done when nothing older can be released."""
        self.decider = decider or ScriptedDecider()
        return self.put_in_force(self.regime(self.decider, known, **parts))

    async def warm_switch(self, decider: ScriptedDecider) -> None:
        """As an activation does it: what the streams will ask is decided before."""
        later = self.regime(decider)
        warm: Warm = {}
        await self.fanout.warm(later, warm)
        self.decider = decider
        await self.put_in_force(later, warm)

    def put_in_force(self, later: Regime, warm: Warm | None = None) -> asyncio.Future[None]:
        """See `switch`."""
        over = self.in_force.replace(Order(later, self.in_force.present.overlays))
        self.judged = self.fanout.switched(warm)
        return over

    def regime(self, decider: ScriptedDecider, known: Registry | None = None, **parts: Any) -> Regime:
        """One that is not in force, of the next revision."""
        self.revisions += 1
        decider.rules = Rules(f"sha256:{self.revisions}", "scripted 1")
        own = {"topics": dict(self.in_force.present.regime.topics), "rules": decider.rules}
        return regime(decider, known, keys=self.keys, clock=self.clock, **(own | parts))

    def restrict(self, *suspensions: Suspension, epoch: int = 1) -> asyncio.Future[None]:
        """Put other overlays in force: done when nothing can be released without them."""
        overlays = Overlays(epoch, {each.id: each for each in suspensions})
        over = self.in_force.replace(Order(self.in_force.present.regime, overlays))
        self.fanout.restricted()
        return over

    async def receive(self, session: Session, count: int) -> list[str]:
        """The ids of the next so many records; fails if a batch holds more, or the stream ends."""
        found: list[str] = []
        while len(found) < count:
            outgoing = await asyncio.wait_for(session.next(), 10)
            assert outgoing is not None, "the stream ended"
            found.extend(ids_in(outgoing))
            self.fanout.written(session, outgoing)
        assert len(found) == count
        return found

    async def idle(self) -> None:
        """Until every stream has what it can get now: all groups wait for records, credit or a retry."""
        quiet = 0
        while quiet < 5:
            before = (self.log.reads, self.decider.calls, len(self.ledger.entries))
            for _ in range(20):
                await asyncio.sleep(0)
            quiet = (
                quiet + 1 if before == (self.log.reads, self.decider.calls, len(self.ledger.entries)) else 0
            )

    async def close(self) -> None:
        """Stop all groups."""
        await self.fanout.close()


def ids_in(outgoing: Outgoing) -> list[str]:
    """The ids of the records that a message delivers."""
    batch = SubscribeResponse.FromString(outgoing.message).batch
    return [delivery.record.id for delivery in batch.deliveries]
