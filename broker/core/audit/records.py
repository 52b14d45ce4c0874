"""Replaying a record topic for an auditor: whole, or exactly as a principal would have received it. Nothing moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from broker.core.audit.readings import Readings
from broker.core.audit.standing_clock import StandingClock
from broker.core.decide import Decider, DeciderLimits
from broker.core.deliver.budget import Budget
from broker.core.deliver.disclose import Discloser
from broker.core.deliver.lens import Lens
from broker.core.deliver.prepare import Prepared, Preparer
from broker.core.deliver.standing import Standing
from broker.core.deliver.view import RecordViews
from broker.core.in_force import InForce, Order
from broker.core.overlay.judge import Judge
from broker.core.record.fingerprint import fingerprint
from broker.core.regime import Regime
from broker.core.rulebook.registry import parse_registry
from broker.errors import EntenteError, PositionExpired, Reason, RulebookRefused, StorageUnavailable
from broker.model.ledger import JsonValue
from broker.model.principal import Principal, SubjectClass
from broker.model.record import Chunk, Positions, StoredRecord
from broker.model.registry import Registry
from broker.model.rulebook import Revision
from broker.ports.clock import Clock
from broker.ports.keys import Keys
from broker.ports.policy_engine import PolicyEngine
from broker.ports.record_log import RecordLog
from broker.ports.rulebook_store import RulebookReader

CHUNK_RECORDS, CHUNK_BYTES = 500, 1 << 20
TRIES = 40
PAUSE_S = 0.25
"""How often, and after what pause, a chunk is decided again for which the engine has no answer yet."""

_UNLIMITED = 1 << 62
_LIMITS = DeciderLimits(label_sets_per_minute=_UNLIMITED)
"""The quota of new label sets protects deliveries from publishers; an auditor who meets them all at once makes none."""

OpenEngine = Callable[[Revision], AbstractAsyncContextManager[PolicyEngine]]
"""Runs a revision in an engine of its own inside the block; raises RulebookRefused if it cannot be run any more."""


@dataclass(frozen=True, slots=True)
class ReplayQuestion:
    """See Ledger.ReplayRecords; `subject` None: whole. limit 0: none. Times in milliseconds since 1970."""

    topic: str
    since_ms: int | None = None
    before_ms: int | None = None
    limit: int = 0
    subject: SubjectClass | None = None
    revision: str = ""
    at_ms: int | None = None

    def as_json(self) -> dict[str, JsonValue]:
        """As the ledger names it."""
        subject = None if self.subject is None else dict(self.subject.as_input())
        return {
            "topic": self.topic,
            "since_ms": self.since_ms,
            "before_ms": self.before_ms,
            "seen_by": subject,  # type: ignore[dict-item]
            "revision": self.revision,
            "at_ms": self.at_ms,
        }


@dataclass(frozen=True, slots=True)
class ReplayedRecord:
    """A record's place, and either the bytes as they are stored or an entry of `Batch.deliveries`."""

    partition: int
    offset: int
    recorded_ms: int
    whole: bytes | None = None
    delivery: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Rules:
    """One revision at work: what it registers, and what answers for it. present: the regime that lends both, if one does."""

    registry: Registry
    engine: PolicyEngine
    time_dependent: bool
    present: Regime | None = None


class RecordReplay:
    """The replay use case. Everything raises EntenteError: see Ledger.ReplayRecords."""

    def __init__(
        self,
        *,
        readings: Readings,
        log: RecordLog,
        in_force: InForce[Regime],
        revisions: RulebookReader,
        open_engine: OpenEngine,
        keys: Keys,
        clock: Clock,
    ) -> None:
        self._readings = readings
        self._log = log
        self._in_force = in_force
        self._revisions = revisions
        self._open_engine = open_engine
        self._keys = keys
        self._clock = clock
        self._older = asyncio.Semaphore(1)

    async def replay(
        self, principal: Principal, question: ReplayQuestion
    ) -> AsyncGenerator[list[ReplayedRecord], None]:
        """The records in parts of bounded size; close it when it is not read to the end."""
        await self._readings.require_records(principal)
        _check(question)
        await self._readings.account(principal, "ReplayRecords", question.as_json())
        order = self._in_force.present
        if question.topic not in order.regime.topics:
            raise EntenteError(Reason.TOPIC_NOT_FOUND, question.topic)
        left = question.limit or _UNLIMITED
        async with self._rules(order.regime, question) as rules:
            subject = question.subject
            show = _Whole() if subject is None else self._seen(rules, question, subject)
            try:
                async for chunk in self._chunks(question):
                    shown = (await self._shown(principal, show, rules, chunk))[:left]
                    left -= len(shown)
                    if shown:
                        yield shown
                    if not left:
                        return
            finally:
                await show.close()

    async def _shown(
        self, principal: Principal, show: _Whole | _Seen, rules: _Rules, chunk: Chunk
    ) -> list[ReplayedRecord]:
        """What is shown of a chunk, to whom may still replay, and without what was withdrawn by then."""
        while True:
            order = self._in_force.present
            if rules.present is not None and rules.present is not order.regime:
                raise EntenteError(
                    Reason.POLICY_UNAVAILABLE
                )  # it was to be by the rules in force, which are others now
            shown = await show.shown(order, chunk)
            await self._readings.require_records(principal)
            if order is self._in_force.present:
                return shown

    @asynccontextmanager
    async def _rules(self, regime: Regime, question: ReplayQuestion) -> AsyncIterator[_Rules]:
        """Those in force, or those of another revision, one at a time: each takes an engine of its own."""
        if question.subject is None or question.revision in ("", regime.rules.revision):
            present = None if question.subject is None else regime
            yield _Rules(regime.registry, regime.engine, regime.time_dependent, present)
            return
        if self._older.locked():
            raise EntenteError(Reason.LIMIT_EXCEEDED, "one replay under an older revision at a time")
        async with self._older:
            revision = await self._revision(question.revision)
            try:
                registry = await asyncio.to_thread(parse_registry, revision)
                async with self._open_engine(revision) as engine:
                    yield _Rules(registry, engine, revision.time_dependent)
            except RulebookRefused:
                raise EntenteError(Reason.REVISION_NOT_FOUND, question.revision) from None

    async def _revision(self, revision_id: str) -> Revision:
        try:
            revision = await self._revisions.get(revision_id)
        except ValueError:
            revision = None
        except StorageUnavailable:
            raise EntenteError(Reason.STORAGE_UNAVAILABLE) from None
        if revision is None:
            raise EntenteError(Reason.REVISION_NOT_FOUND, revision_id)
        return revision

    def _seen(self, rules: _Rules, question: ReplayQuestion, subject: SubjectClass) -> _Seen:
        clock = self._clock if question.at_ms is None else StandingClock(question.at_ms, self._clock)
        decider = Decider(rules.engine, clock, time_dependent=rules.time_dependent, limits=_LIMITS)
        views, discloser = RecordViews(rules.registry), Discloser(rules.registry, self._keys)
        lens = Lens(question.topic, subject, decider, views, discloser)
        return _Seen(Preparer(clock), lens)

    async def _chunks(self, question: ReplayQuestion) -> AsyncIterator[Chunk]:
        """From the start to the end that the topic has now; what is gone meanwhile is left out."""
        topic = question.topic
        try:
            end = await self._log.end_positions(topic)
            positions = await self._start(question)
            while any(at < last for at, last in zip(positions, end, strict=True)):
                try:
                    chunk = await self._log.read(
                        topic, positions, max_records=CHUNK_RECORDS, max_bytes=CHUNK_BYTES, wait_s=0
                    )
                except PositionExpired as expired:
                    positions = tuple(map(max, positions, expired.earliest))
                    continue
                if chunk.next_positions == positions:
                    return
                positions = chunk.next_positions
                records = tuple(each for each in chunk.records if _is_wanted(each, end, question))
                yield Chunk(records, positions)
        except StorageUnavailable:
            raise EntenteError(Reason.STORAGE_UNAVAILABLE) from None

    async def _start(self, question: ReplayQuestion) -> Positions:
        if question.since_ms is None:
            return await self._log.start_positions(question.topic)
        return await self._log.positions_at(question.topic, question.since_ms)


class _Whole:
    """Shows records as they are stored, but for those that were withdrawn."""

    async def shown(self, order: Order[Regime], chunk: Chunk) -> list[ReplayedRecord]:
        return [
            ReplayedRecord(r.partition, r.offset, r.recorded_ms, whole=r.body)
            for r in chunk.records
            if not _is_withdrawn(order.judge, r)
        ]

    async def close(self) -> None:
        return None


class _Seen:
    """Shows what one class would have received, by the very code that delivers."""

    def __init__(self, preparer: Preparer, lens: Lens) -> None:
        self._preparer = preparer
        self._lens = lens

    async def shown(self, order: Order[Regime], chunk: Chunk) -> list[ReplayedRecord]:
        """Raises EntenteError POLICY_UNAVAILABLE if there is no decision for some record."""
        for _ in range(TRIES):
            prepared = Prepared(Standing((0,) * len(chunk.next_positions)), order)
            await self._preparer.prepare(self._lens, chunk, Budget(_UNLIMITED, _UNLIMITED), prepared)
            if not prepared.stalled:
                return self._delivered(chunk, prepared)
            await asyncio.sleep(PAUSE_S)
        raise EntenteError(Reason.POLICY_UNAVAILABLE)

    def _delivered(self, chunk: Chunk, prepared: Prepared) -> list[ReplayedRecord]:
        times = {(record.partition, record.offset): record.recorded_ms for record in chunk.records}
        places = [(partition, offset) for partition, offset, _ in prepared.account.places]
        return [
            ReplayedRecord(*place, times[place], delivery=delivery)
            for place, delivery in zip(places, prepared.deliveries, strict=True)
        ]

    async def close(self) -> None:
        await self._lens.decider.close()


def _is_wanted(record: StoredRecord, end: Positions, question: ReplayQuestion) -> bool:
    since, before = question.since_ms, question.before_ms
    return (
        record.offset < end[record.partition]
        and (since is None or record.recorded_ms >= since)
        and (before is None or record.recorded_ms < before)
    )


def _check(question: ReplayQuestion) -> None:
    subject = question.subject
    if subject is None:
        if question.revision or question.at_ms is not None:
            raise EntenteError(Reason.REQUEST_INVALID, "revision and at belong to seen_by")
    elif not subject.agency or not subject.purpose or not all(subject.roles):
        raise EntenteError(Reason.REQUEST_INVALID, "seen_by needs an agency, a purpose and no empty role")


def _is_withdrawn(judge: Judge, record: StoredRecord) -> bool:
    if not judge.withdraws_anything:
        return False
    try:
        named, _ = fingerprint(record.body)
    except DecodeError:
        return False  # not stored by an exchange, and so by no name that could be withdrawn
    return judge.is_withdrawn(named)
