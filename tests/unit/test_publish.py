"""The publish use case without I/O: what is stored is accounted for, whatever becomes of the caller."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import orjson
import pytest

from broker.core import publication
from broker.core.cursor import CursorCodec
from broker.core.decide import Question, Ruling
from broker.core.evidence import Evidence
from broker.core.ledger.entry_secret import EntrySecret
from broker.core.ledger.handed_out import content_digest as salted
from broker.core.ledger.handed_out import derive_secret, item_keys
from broker.core.ledger.receipt import RECEIPT_BYTES, ReceiptCodec
from broker.core.publication import Attempt
from broker.core.publish import Accepted, Outcome, Publisher
from broker.core.questions import publish_question
from broker.core.record.admission import Candidate, Kind
from broker.core.record.fingerprint import content_digest
from broker.errors import EntenteError, Reason, StorageUnavailable
from broker.model.decision import Decision
from broker.model.labels import Labels
from broker.model.record import Appended, AppendResult, IdReused, NewRecord
from broker.ports.record_log import RecordLog
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.fakes.clock import TurnedClock
from tests.fakes.delivery import (
    RELEASE,
    TOPIC,
    TYPE,
    WITHHOLD,
    FixedKeys,
    MemoryLedger,
    ScriptedDecider,
    World,
    registry,
)
from tests.fakes.regimes import RULES, in_force


class AppendOnly:
    """The append of a RecordLog; `failure` is raised instead, `hold` makes it wait."""

    def __init__(self) -> None:
        self.records: dict[bytes, tuple[int, bytes]] = {}
        self.failure: StorageUnavailable | None = None
        self.hold: asyncio.Event | None = None
        self.asked = asyncio.Event()

    async def append(self, topic: str, records: Sequence[NewRecord]) -> Sequence[AppendResult]:
        """See RecordLog."""
        self.asked.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.failure is not None:
            raise self.failure
        return [self._add(record) for record in records]

    def _add(self, record: NewRecord) -> AppendResult:
        known = self.records.get(record.identity)
        if known is None:
            self.records[record.identity] = (len(self.records), record.digest)
            return Appended(0, len(self.records) - 1)
        return Appended(0, known[0], duplicate=True) if known[1] == record.digest else IdReused()


@dataclass
class Desk:
    """A publisher and what stands behind it."""

    publisher: Publisher
    log: AppendOnly
    ledger: MemoryLedger
    decider: ScriptedDecider
    clock: TurnedClock

    async def publish(self, *events: CloudEvent) -> list[Outcome]:
        """As agency alpha."""
        principal = World().principal("p-1", "alpha")
        return await self.publisher.publish(principal, TOPIC, events, "ref-1")


@pytest.fixture
async def desk() -> Desk:
    log, ledger, decider, clock = AppendOnly(), MemoryLedger(), ScriptedDecider(), TurnedClock()
    present = in_force(decider, clock=clock)
    publisher = Publisher(
        in_force=present,
        log=cast(RecordLog, log),
        evidence=Evidence(ledger, clock, present),
        codec=CursorCodec(FixedKeys()),
        keys=FixedKeys(),
        clock=clock,
    )
    return Desk(publisher, log, ledger, decider, clock)


def event(record_id: str, text: str = "1") -> CloudEvent:
    made = CloudEvent(id=record_id, source="//alpha/x", spec_version="1.0", type=TYPE, text_data=text)
    made.attributes["dataclassification"].ce_string = "green"
    return made


def rows(desk: Desk) -> list[Any]:
    """What the ledger says of records and where they are, of all publish entries."""
    bodies = [cast(dict[str, Any], entry.body) for entry in desk.ledger.entries]
    return [
        {**row, "offset": place and place[1]}
        for body in bodies
        for row, place in zip(body["records"], body["stored"], strict=True)
    ]


async def test_the_ledger_names_each_record_and_its_place(desk: Desk) -> None:
    outcomes = await desk.publish(event("1"), event("2"), event("1"), event("1", "2"), event("3", "{"))
    shown = [o.duplicate if isinstance(o, Accepted) else o.reason for o in outcomes]
    assert shown == [False, False, True, Reason.ID_REUSED, Reason.CONTENT_INVALID]
    assert [(row.get("id"), row.get("offset"), row.get("refused")) for row in rows(desk)] == [
        ("1", 0, None),
        ("2", 1, None),
        ("1", 0, None),
        ("1", None, "ID_REUSED"),
        (None, None, "CONTENT_INVALID"),
    ]


@pytest.mark.parametrize("during", ["append", "ledger"])
async def test_a_caller_that_hangs_up_does_not_keep_its_record_out_of_the_ledger(
    desk: Desk, during: str
) -> None:
    hold = asyncio.Event()
    slow = desk.log if during == "append" else desk.ledger
    slow.hold = hold
    call = asyncio.ensure_future(desk.publish(event("1")))
    await slow.asked.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    hold.set()
    await desk.publisher.settle()
    assert len(desk.log.records) == 1
    assert [(row["id"], row["offset"]) for row in rows(desk)] == [("1", 0)]


async def test_without_the_ledger_nothing_is_acknowledged_and_a_repetition_is_a_duplicate(desk: Desk) -> None:
    desk.ledger.failures = 1
    with pytest.raises(EntenteError) as caught:
        await desk.publish(event("1"))
    assert caught.value.reason is Reason.LEDGER_UNAVAILABLE
    (outcome,) = await desk.publish(event("1"))
    assert isinstance(outcome, Accepted)
    assert outcome.duplicate


@pytest.mark.parametrize(("full", "reason"), [(False, "STORAGE_UNAVAILABLE"), (True, "STORAGE_FULL")])
async def test_a_log_that_cannot_be_written(desk: Desk, full: bool, reason: str) -> None:
    desk.log.failure = StorageUnavailable("scripted", full=full)
    with pytest.raises(EntenteError) as caught:
        await desk.publish(event("1"))
    assert caught.value.reason.name == reason
    assert desk.ledger.entries == []


async def test_without_a_decision_nothing_is_stored(desk: Desk) -> None:
    answers: list[Decision | None] = [RELEASE, None]

    def answer(question: Question) -> Decision | None:
        labels = cast(dict[str, Any], question.item.get("record", {})).get("labels", {})
        return answers[1] if labels.get("datacategory") == "odd" else answers[0]

    desk.decider.answer = answer
    odd = event("2")
    odd.attributes["datacategory"].ce_string = "odd"
    with pytest.raises(EntenteError) as caught:
        await desk.publish(event("1"), odd)
    assert caught.value.reason is Reason.POLICY_UNAVAILABLE
    assert desk.log.records == {}
    answers[1] = replace(WITHHOLD)
    first, second = await desk.publish(event("1"), odd)
    assert isinstance(first, Accepted)
    assert isinstance(second, EntenteError)
    assert second.reason is Reason.PUBLISH_DENIED
    assert len(desk.log.records) == 1


async def test_who_is_permitted_nothing_is_told_that_there_is_no_topic(desk: Desk) -> None:
    desk.decider.answer = lambda _: WITHHOLD
    with pytest.raises(EntenteError) as hidden:
        await desk.publish(event("1"))
    principal = World().principal("p-1", "alpha")
    with pytest.raises(EntenteError) as missing:
        await desk.publisher.publish(principal, "u", [event("1")], "ref-1")
    assert hidden.value.reason is missing.value.reason is Reason.TOPIC_NOT_FOUND
    assert str(hidden.value).replace("'t'", "'u'") == str(missing.value)
    assert desk.log.records == {}


async def test_a_record_that_has_expired_is_refused(desk: Desk) -> None:
    record = event("1")
    record.attributes["expirytime"].ce_timestamp.FromMilliseconds(desk.clock.now_ms())
    (outcome,) = await desk.publish(record)
    assert isinstance(outcome, EntenteError)
    assert outcome.reason is Reason.RECORD_EXPIRED
    # The caller is given the same reference, so that an administrator can look its refusals up.
    assert [entry.body["call"] for entry in desk.ledger.entries] == [{"topic": TOPIC, "reference": "ref-1"}]


def one_entry(desk: Desk) -> Any:
    """The body of the only entry."""
    (entry,) = desk.ledger.entries
    return entry.body


def receipts(outcomes: Sequence[Outcome]) -> list[bytes]:
    """Of what was stored, in order."""
    return [outcome.receipt for outcome in outcomes if isinstance(outcome, Accepted)]


async def test_each_row_names_its_decision_and_salts_its_digest(desk: Desk) -> None:
    odd = event("3")
    odd.attributes["datacategory"].ce_string = "odd"
    outcomes = await desk.publish(event("1"), event("2"), event("4", "{"), odd)
    body = one_entry(desk)
    assert [row.get("decision") for row in body["records"]] == [0, 0, None, 1]
    asked = [decision["input"]["record"]["labels"].get("datacategory") for decision in body["decisions"]]
    assert asked == ["", "odd"]
    assert {decision["output"]["effect"] for decision in body["decisions"]} == {"release"}
    assert body["decisions"][0]["input"]["subject"]["id"] == "p-1"
    receipt = ReceiptCodec(FixedKeys()).open(receipts(outcomes)[0], "alpha", "p-1")
    assert (receipt.place.instance, receipt.place.index) == ("broker", 0)
    assert receipt.secret == derive_secret(b"k" * 32, base64.b64decode(body["digest"]["nonce"]))
    keys = item_keys(receipt.secret, 4)
    shown = [row.get("digest") for row in body["records"]]
    assert shown == [
        salted(keys[0], content_digest(event("1"))).hex(),
        salted(keys[1], content_digest(event("2"))).hex(),
        None,
        salted(keys[3], content_digest(odd)).hex(),
    ]


async def test_all_records_of_a_call_have_one_receipt_and_calls_different_ones(desk: Desk) -> None:
    first = receipts(await desk.publish(event("1"), event("2"), event("3", "{")))
    again = receipts(await desk.publish(event("1"), event("2")))
    assert (len(first), len(set(first))) == (2, 1)
    assert (len(again), len(set(again))) == (2, 1)
    assert first[0] != again[0]
    assert {len(receipt) for receipt in first + again} == {RECEIPT_BYTES}


async def test_equal_contents_have_different_digests_each_time(desk: Desk) -> None:
    """Else whoever can guess a content could look for it in the ledger."""
    await desk.publish(event("1", "7"), event("2", "7"))
    await desk.publish(event("1", "7"))
    digests = [row["digest"] for row in rows(desk)]
    assert len(set(digests)) == 3


async def test_a_decision_that_forbids_is_in_the_ledger_with_the_row_it_refused(desk: Desk) -> None:
    def answer(question: Question) -> Decision:
        labels = cast(dict[str, Any], question.item.get("record", {})).get("labels", {})
        return WITHHOLD if labels.get("datacategory") == "odd" else RELEASE

    desk.decider.answer = answer
    odd = event("1")
    odd.attributes["datacategory"].ce_string = "odd"
    await desk.publish(odd)
    body = one_entry(desk)
    (row,) = body["records"]
    assert (row["refused"], row["decision"], "digest" in row) == ("PUBLISH_DENIED", 0, False)
    assert body["decisions"][0]["output"]["reasons"] == ["scripted"]


async def test_who_is_refused_the_topic_carries_the_decisions_for_the_ledger_only(desk: Desk) -> None:
    desk.decider.answer = lambda _: WITHHOLD
    with pytest.raises(EntenteError) as hidden:
        await desk.publish(event("1"))
    actions = [cast(Any, decision).value["input"]["action"] for decision in hidden.value.decisions]
    assert actions == ["publish", "subscribe"]
    for shown in (str(hidden.value), hidden.value.detail, repr(hidden.value.metadata), repr(hidden.value)):
        assert "scripted" not in shown


async def test_a_call_too_large_for_one_entry_has_several(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publication, "ENTRY_BYTES", 2_500)
    events = [event(str(number)) for number in range(7)]
    outcomes = await desk.publish(*events)
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert [row["id"] for row in rows(desk)] == [str(number) for number in range(7)]
    assert len(desk.ledger.entries) > 1
    codec = ReceiptCodec(FixedKeys())
    places = [codec.open(receipt, "alpha", "p-1").place.index for receipt in receipts(outcomes)]
    counts = [len(cast(list[Any], entry.body["records"])) for entry in desk.ledger.entries]
    assert places == [index for index, count in enumerate(counts) for _ in range(count)]


def test_what_one_entry_may_take_bounds_even_the_longest_labels() -> None:
    """Labels as long as the limits permit, all different: stored must mean accounted for."""
    owner = World().principal("p-1", "alpha")
    attempts = []
    for number in range(300):
        released = tuple(f"agency-{number}-{n}" + "x" * 40 for n in range(80))
        labels = Labels("green", releasableto=released)
        question = publish_question(owner, TOPIC, registry().record_types[TYPE], labels)
        kind = Kind.of(registry().record_types[TYPE], labels)
        candidate = Candidate(event("i" * 1_000), kind, bytes(16))
        attempts.append(Attempt(candidate, ruling=Ruling.of(question, RELEASE, RULES)))
    parts = list(publication.entries_of(attempts))
    assert [attempt for part in parts for attempt in part] == attempts
    secret = EntrySecret.fresh(FixedKeys())
    for part in parts:
        body = publication.publish_body(owner, TOPIC, "ref-1", part, secret, RULES)
        assert len(orjson.dumps(body)) < 1.5 * publication.ENTRY_BYTES
