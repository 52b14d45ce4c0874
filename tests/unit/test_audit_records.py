"""A record topic replayed: whole for auditors, or by the very rules and code that deliver; and nothing is moved by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from broker.core.audit import records
from broker.core.audit.records import RecordReplay, ReplayedRecord, ReplayQuestion
from broker.errors import EntenteError, RulebookRefused
from broker.model.decision import Decision, Effect
from broker.model.principal import SubjectClass
from broker.model.record import LogTopic, Positions
from broker.model.rulebook import Revision, revision_id
from broker.ports.policy_engine import PolicyEngine
from protos.entente.v1 import exchange_pb2
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.fakes.auditing import AUDITOR, RELEASE, WITHHOLD, AuditEngine, person, readings, ruled
from tests.fakes.delivery import TOPIC, FixedKeys, World, label_of, owner_of, registry

READER = SubjectClass("consumer", ("reader",), (), "work")
NOTICE = Decision(Effect.NOTICE)
FILES = {"manifest.yaml": b"time_dependent: false\n"}
OLDER = Revision(revision_id(FILES), FILES, time_dependent=False)


def by_owner(owner: str, label: str) -> Decision:
    """Alpha releases, gamma notices, what is red is withheld."""
    if label == "red":
        return WITHHOLD
    return {"alpha": RELEASE, "gamma": NOTICE}.get(owner, WITHHOLD)


class Rulebooks:
    """One older revision."""

    async def get(self, revision_id: str) -> Revision | None:
        if revision_id == "sha256:broken":
            raise ValueError("it is another one")
        return OLDER if revision_id == OLDER.id else None

    async def list(self) -> Sequence[str]:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


class Archive:
    """An exchange's record topic, and who may replay it."""

    def __init__(self, partitions: int = 1) -> None:
        self.world = World(partitions)
        self.log = self.world.log
        cast(Any, self.log).positions_at = self.positions_at
        self.engine, self.older = AuditEngine(), AuditEngine(OLDER.id)
        self.engine.answer = self.older.answer = by_owner
        self.open_engines: list[str] = []
        self.refused = False
        clock, ledger, none = self.world.clock, self.world.ledger, cast(Any, None)
        self.topics = {TOPIC: LogTopic(TOPIC, partitions, b"i" * 16)}
        self.in_force = ruled(self.engine, clock, topics=self.topics)
        self.replays = RecordReplay(
            readings=readings(none, none, ledger=ledger, clock=clock, present=self.in_force),
            log=self.log,
            in_force=self.in_force,
            revisions=Rulebooks(),
            open_engine=self.open_engine,
            keys=FixedKeys(),
            clock=clock,
        )

    async def positions_at(self, topic: str, time_ms: int) -> Positions:
        rows = self.log.records
        return tuple(next((r.offset for r in row if r.recorded_ms >= time_ms), len(row)) for row in rows)

    @asynccontextmanager
    async def open_engine(self, revision: Revision) -> AsyncIterator[PolicyEngine]:
        if self.refused:
            raise RulebookRefused(("too old",))
        self.open_engines.append(revision.id)
        try:
            yield self.older
        finally:
            self.open_engines.remove(revision.id)

    async def fill(self) -> None:
        """One record of each owner and label, a second apart."""
        for owner in ("alpha", "beta", "gamma"):
            for label in ("green", "red"):
                await self.world.store(owner, f"{owner}-{label}", label=label)
                self.world.clock.advance(1)

    async def replay(self, role: str = "auditor", **question: Any) -> list[ReplayedRecord]:
        asked = ReplayQuestion(**{"topic": TOPIC, **question})
        found: list[ReplayedRecord] = []
        async with aclosing(self.replays.replay(person(role=role), asked)) as parts:
            async for part in parts:
                found += part
        return found

    def reads(self) -> list[Any]:
        """What the ledger says about readings."""
        return [entry.body["query"] for entry in self.world.ledger.of("ledger_read")]


@pytest.fixture
async def archive() -> Archive:
    archive = Archive()
    await archive.fill()
    return archive


@pytest.fixture(autouse=True)
def known_rulebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every revision registers the same; retries need no pause."""
    monkeypatch.setattr(records, "parse_registry", lambda _: registry())
    monkeypatch.setattr(records, "PAUSE_S", 0)


def ids(found: Sequence[ReplayedRecord]) -> list[str]:
    """Of whole records and of deliveries; a notice is one without."""
    return [
        CloudEvent.FromString(record.whole).id if record.whole is not None else delivery_of(record).record.id
        for record in found
    ]


def delivery_of(record: ReplayedRecord) -> exchange_pb2.Delivery:
    assert record.delivery is not None
    (delivery,) = exchange_pb2.Batch.FromString(record.delivery).deliveries
    return delivery


ALL = [f"{owner}-{label}" for owner in ("alpha", "beta", "gamma") for label in ("green", "red")]


async def test_auditors_get_the_records_as_they_are_stored(archive: Archive) -> None:
    found = await archive.replay()
    assert ids(found) == ALL
    assert [record.whole for record in found] == [stored.body for stored in archive.log.records[0]]
    assert [(record.partition, record.offset) for record in found] == [(0, n) for n in range(6)]
    assert [record.recorded_ms for record in found] == [r.recorded_ms for r in archive.log.records[0]]
    assert [query["method"] for query in archive.reads()] == ["ReplayRecords"]


@pytest.mark.parametrize("role", ["exchange-admin", "agency-admin", ""])
async def test_others_get_nothing_and_learn_nothing_of_topics(archive: Archive, role: str) -> None:
    for topic in (TOPIC, "no-such-topic"):
        with pytest.raises(EntenteError) as refused:
            await archive.replay(role, topic=topic)
        assert (refused.value.reason.name, refused.value.detail) == ("AUDIT_DENIED", "")
    assert archive.log.reads == 0
    assert archive.reads() == []


async def test_evidence_first(archive: Archive) -> None:
    archive.world.ledger.failures = 1
    with pytest.raises(EntenteError) as refused:
        await archive.replay()
    assert refused.value.reason.name == "LEDGER_UNAVAILABLE"
    assert archive.log.reads == 0


async def test_a_principal_sees_what_a_stream_would_have_brought(archive: Archive) -> None:
    """The same records, to a stream of the same class under the same decisions: the same bytes, in the same order."""
    world = archive.world
    world.decider.answer = lambda question: by_owner(owner_of(question), label_of(question))
    stream = world.session(records=10)
    outgoing = await asyncio.wait_for(stream.next(), 10)
    assert outgoing is not None
    received = list(exchange_pb2.SubscribeResponse.FromString(outgoing.message).batch.deliveries)
    await world.close()

    found = await archive.replay(subject=READER)
    assert [delivery_of(record) for record in found] == received
    assert [(record.partition, record.offset) for record in found] == [(0, 0), (0, 4)]
    assert delivery_of(found[0]).disclosure.obligations == ["keep-quiet"]
    assert delivery_of(found[1]).WhichOneof("content") == "notice"


async def test_nothing_but_the_reading_is_in_the_ledger(archive: Archive) -> None:
    await archive.replay(subject=READER)
    assert [entry.kind for entry in archive.world.ledger.entries] == ["ledger_read"]
    (query,) = archive.reads()
    assert query["about"]["seen_by"] == {
        "agency": "consumer",
        "roles": ["reader"],
        "attributes": {},
        "purpose": "work",
    }


async def test_times_and_limits(archive: Archive) -> None:
    times = [stored.recorded_ms for stored in archive.log.records[0]]
    assert ids(await archive.replay(since_ms=times[2])) == ALL[2:]
    assert ids(await archive.replay(before_ms=times[2])) == ALL[:2]
    assert ids(await archive.replay(since_ms=times[1], before_ms=times[4])) == ALL[1:4]
    assert ids(await archive.replay(limit=2)) == ALL[:2]
    assert ids(await archive.replay(limit=1, subject=READER)) == ["alpha-green"]
    assert ids(await archive.replay(since_ms=times[-1] + 1)) == []


async def test_it_ends_where_the_topic_ended_when_it_began(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "CHUNK_RECORDS", 2)
    found = []
    async with aclosing(archive.replays.replay(AUDITOR, ReplayQuestion(TOPIC))) as parts:
        async for part in parts:
            found += part
            await archive.world.store("alpha", f"later-{len(found)}")
    assert ids(found) == ALL


async def test_what_is_gone_meanwhile_is_left_out(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "CHUNK_RECORDS", 2)
    found = []
    async with aclosing(archive.replays.replay(AUDITOR, ReplayQuestion(TOPIC))) as parts:
        async for part in parts:
            found += part
            archive.log.start = [5]
    assert ids(found) == [*ALL[:2], ALL[5]]


async def test_expiry_is_judged_at_the_moment_that_was_asked_for(archive: Archive) -> None:
    now_ms = archive.world.clock.now_ms()
    expires = datetime.fromtimestamp(now_ms / 1000 + 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    await archive.world.store("alpha", "short-lived", expirytime=expires)
    archive.world.clock.advance(3600)
    assert ids(await archive.replay(subject=READER)) == ["alpha-green", ""]
    assert ids(await archive.replay(subject=READER, at_ms=now_ms)) == ["alpha-green", "", "short-lived"]


async def test_no_decision_is_asked_again_and_never_taken_for_one(archive: Archive) -> None:
    archive.engine.silent = 2
    assert ids(await archive.replay(subject=READER)) == ["alpha-green", ""]
    archive.engine.silent = 10_000
    with pytest.raises(EntenteError) as failed:
        await archive.replay(subject=READER)
    assert failed.value.reason.name == "POLICY_UNAVAILABLE"


async def test_an_older_revision_runs_in_an_engine_of_its_own(archive: Archive) -> None:
    archive.older.answer = lambda owner, label: RELEASE if owner == "beta" else WITHHOLD
    assert ids(await archive.replay(subject=READER, revision=OLDER.id)) == ["beta-green", "beta-red"]
    assert archive.open_engines == []
    assert ids(await archive.replay(subject=READER, revision=archive.engine.revision)) == ["alpha-green", ""]


async def test_one_older_revision_at_a_time(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "CHUNK_RECORDS", 1)
    question = ReplayQuestion(TOPIC, subject=READER, revision=OLDER.id)
    async with aclosing(archive.replays.replay(AUDITOR, question)) as parts:
        await anext(parts)
        assert archive.open_engines == [OLDER.id]
        with pytest.raises(EntenteError) as refused:
            await archive.replay(subject=READER, revision=OLDER.id)
        assert refused.value.reason.name == "LIMIT_EXCEEDED"
        assert ids(await archive.replay(subject=READER)) == ["alpha-green", ""]
    assert archive.open_engines == []
    assert len(await archive.replay(subject=READER, revision=OLDER.id)) == 2


@pytest.mark.parametrize("revision", ["sha256:unknown", "sha256:broken", OLDER.id])
async def test_a_revision_that_cannot_be_had(archive: Archive, revision: str) -> None:
    archive.refused = True
    with pytest.raises(EntenteError) as failed:
        await archive.replay(subject=READER, revision=revision)
    assert failed.value.reason.name == "REVISION_NOT_FOUND"
    archive.refused = False
    assert len(await archive.replay(subject=READER, revision=OLDER.id)) == 2


@pytest.mark.parametrize(
    "question",
    [
        {"revision": OLDER.id},
        {"at_ms": 1},
        {"subject": replace(READER, agency="")},
        {"subject": replace(READER, purpose="")},
        {"subject": replace(READER, roles=("reader", ""))},
        {"subject": READER, "revision": "x" * 20_000},
    ],
)
async def test_questions_that_make_no_sense(archive: Archive, question: dict[str, Any]) -> None:
    with pytest.raises(EntenteError) as refused:
        await archive.replay(**question)
    assert refused.value.reason.name == "REQUEST_INVALID"
    assert archive.reads() == []


async def test_a_topic_that_there_is_not(archive: Archive) -> None:
    with pytest.raises(EntenteError) as refused:
        await archive.replay(topic="nope")
    assert refused.value.reason.name == "TOPIC_NOT_FOUND"


async def test_a_log_that_cannot_be_read(archive: Archive) -> None:
    archive.log.broken = True
    with pytest.raises(EntenteError) as failed:
        await archive.replay()
    assert failed.value.reason.name == "STORAGE_UNAVAILABLE"
