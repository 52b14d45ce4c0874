"""The service Ledger on a running exchange: who may read what, and that reading is evidence itself."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

import grpc
import pytest

from broker.core.audit.proofs import check
from broker.core.audit.trust import read_keys
from broker.core.checkpoint.checkpoint import open_checkpoint
from broker.core.ledger.handed_out import root_under
from protos.entente.v1 import ledger_pb2
from protos.entente.v1.exchange_pb2 import START_POSITION_LATEST
from tests.integration.exchange.failure import Failure, failure_in, failure_of
from tests.integration.exchange.live import Caller, Live
from tests.integration.exchange.records import crash, unique
from tests.integration.exchange.rulebooks import ALERTS, alert, with_alerts

pytestmark = [pytest.mark.opa, pytest.mark.asyncio(loop_scope="session")]
RULEBOOK = with_alerts
LATEST = {"position": START_POSITION_LATEST}
Ask = Callable[[Caller], Awaitable[Any]]


async def list_entries(caller: Caller, **question: Any) -> list[ledger_pb2.LedgerEntry]:
    """All pages."""
    found: list[ledger_pb2.LedgerEntry] = []
    request = ledger_pb2.ListEntriesRequest(**question)
    while True:
        page = await caller.ledger.ListEntries(request, metadata=caller.metadata, timeout=20)
        found += page.entries
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def who_saw(caller: Caller, source: str = "//ems/x", record_id: str = "1") -> ledger_pb2.WhoSawResponse:
    request = ledger_pb2.WhoSawRequest(source=source, id=record_id)
    return await caller.ledger.WhoSaw(request, metadata=caller.metadata, timeout=20)


async def what_saw(caller: Caller, agency: str = "ems") -> ledger_pb2.WhatSawResponse:
    request = ledger_pb2.WhatSawRequest(agency=agency)
    return await caller.ledger.WhatSaw(request, metadata=caller.metadata, timeout=20)


async def prove(caller: Caller, index: int = 0, **part: Any) -> bytes:
    request = ledger_pb2.ProveEntryRequest(instance="broker", index=index, **part)
    return (await caller.ledger.ProveEntry(request, metadata=caller.metadata, timeout=20)).proof


async def replay(
    caller: Caller, topic: str = "crash-reports", **question: Any
) -> list[ledger_pb2.ReplayedRecord]:
    """Every record; raises Failure."""
    found: list[ledger_pb2.ReplayedRecord] = []
    call = caller.ledger.ReplayRecords(
        ledger_pb2.ReplayRecordsRequest(topic=topic, **question), metadata=caller.metadata, timeout=30
    )
    try:
        async for response in call:
            found += response.records
    except grpc.aio.AioRpcError as error:
        raise failure_of(error) from None
    return found


async def replay_failure(caller: Caller, **question: Any) -> Failure:
    with pytest.raises(Failure) as failed:
        await replay(caller, **question)
    return failed.value


async def check_receipts(caller: Caller, *receipts: bytes) -> list[ledger_pb2.CheckedReceipt]:
    """Once checkpoints cover what is there."""
    request = ledger_pb2.CheckReceiptsRequest(receipts=receipts)
    while True:
        answer = await caller.ledger.CheckReceipts(request, metadata=caller.metadata, timeout=20)
        if all(each.standing != ledger_pb2.RECEIPT_STANDING_PENDING for each in answer.receipts):
            return list(answer.receipts)


def parts(entry: ledger_pb2.LedgerEntry) -> dict[str, Any]:
    return {part.name: json.loads(part.content) for part in entry.parts}


# ---- who may ----

GUARDED: dict[str, Ask] = {
    "entries": list_entries,
    "who saw": who_saw,
    "what saw": what_saw,
    "prove": prove,
}


@pytest.mark.parametrize("ask", GUARDED.values(), ids=GUARDED)
@pytest.mark.parametrize("name", ["ems", "highway-patrol"])
async def test_ordinary_callers_read_nothing(live: Live, name: str, ask: Ask) -> None:
    caller = live.caller(name)
    failure = await failure_in(ask(caller))
    failure.check_shape()
    assert (failure.reason, failure.code) == ("AUDIT_DENIED", grpc.StatusCode.PERMISSION_DENIED)
    refused = live.ledger("call_refused")[-1]
    assert failure.info is not None
    assert refused["call"]["reference"] == failure.info.metadata["reference"]
    assert refused["call"]["reason"] == "AUDIT_DENIED"
    scopes = {decision["input"]["scope"]: decision["output"] for decision in refused["decisions"]}
    assert scopes.keys() == {"exchange", "agency"}
    assert all(output["reasons"] == ["not-entitled"] for output in scopes.values())


@pytest.mark.parametrize("ask", GUARDED.values(), ids=GUARDED)
async def test_exchange_administrators_are_no_auditors(live: Live, ask: Ask) -> None:
    caller = live.caller("auditor-1", roles=["exchange-admin"], subject="admin-1")
    assert (await failure_in(ask(caller))).reason == "AUDIT_DENIED"


@pytest.mark.parametrize("name", ["ems", "ems-admin", "highway-patrol-admin"])
async def test_record_topics_are_for_auditors_only(live: Live, name: str) -> None:
    for topic in ("crash-reports", "vulnerabilities", "no-such-topic"):
        failure = await replay_failure(live.caller(name), topic=topic)
        failure.check_shape()
        assert failure.reason == "AUDIT_DENIED"
        assert topic not in failure.message


@pytest.mark.parametrize("ask", [*GUARDED.values(), replay], ids=[*GUARDED, "replay"])
async def test_nobody_without_a_token(live: Live, ask: Ask) -> None:
    caller = Caller(live, live.caller("ems").person, live.channel, ())
    try:
        failure = await failure_in(ask(caller))
    except Failure as raised:
        failure = raised
    assert failure.reason == "TOKEN_MISSING"


async def test_a_token_may_not_make_an_auditor_of_another_agency(live: Live) -> None:
    caller = live.caller("ems", roles=["auditor"])
    assert (await failure_in(list_entries(caller))).reason == "CLAIM_NOT_PERMITTED"


# ---- checkpoints ----


async def test_everybody_gets_checkpoints_that_verify(live: Live) -> None:
    caller = live.caller("partner-cert")
    before = len(live.ledger("ledger_read"))
    answer = await caller.ledger.GetCheckpoint(
        ledger_pb2.GetCheckpointRequest(), metadata=caller.metadata, timeout=20
    )
    (checkpoint,) = answer.checkpoints
    keys = read_keys((live.directory / "keys" / "ledger.vkey").read_text())
    named = [key.named("development/broker") for key in keys]
    opened, _ = open_checkpoint(checkpoint.note.encode(), named)
    assert (checkpoint.instance, opened.origin) == ("broker", "development/broker")
    assert opened.size > 0
    assert len(live.ledger("ledger_read")) == before


# ---- entries ----


async def test_auditors_read_the_whole_ledger_and_the_ledger_says_so(live: Live) -> None:
    auditor = live.caller("auditor-1")
    found = await list_entries(auditor, page_size=5)
    assert [entry.index for entry in found] == list(range(len(found)))
    assert found[0].kind == "configuration"
    assert all("rules" in parts(entry) for entry in found)
    reading = parts(found[-1]) if found[-1].kind == "ledger_read" else live.ledger("ledger_read")[-1]
    assert reading["who"]["subject"] == "auditor-1"
    assert reading["query"]["method"] == "ListEntries"
    assert [entry.kind for entry in await list_entries(auditor, kinds=["configuration"])] == ["configuration"]


async def test_administrators_read_their_part(live: Live) -> None:
    """A crash report for ems: the owner's administrator sees who got it, the reader's that its paramedic read something."""
    record = crash('{"a": 1}', id=unique())
    async with live.caller("ems").stream("crash-reports", subscription=unique("s"), **LATEST) as stream:
        await stream.opened()
        await live.caller("highway-patrol").publish_all("crash-reports", record)
        assert await stream.ids(1) == [record.id]

    owners = await list_entries(live.caller("highway-patrol-admin"))
    (published,) = [e for e in owners if e.kind == "publish" and record.id in str(parts(e))]
    (row,) = parts(published)["records"]
    assert set(row) == {"source", "id", "type", "labels", "duplicate"}
    (delivered,) = [e for e in owners if e.kind == "delivery" and record.id in str(parts(e)["places"])]
    shown = parts(delivered)
    assert shown["class"] == {"topic": "crash-reports", "agency": "ems", "purpose": "emergency-response"}
    assert shown["places"] == [{"source": record.source, "id": record.id, "decision": 0}]
    assert shown["decisions"][0]["output"]["effect"] == "release"
    assert "paramedic" not in str(shown)

    readers = await list_entries(live.caller("ems-admin"))
    shown = parts(next(e for e in readers if e.index == delivered.index))
    assert set(shown) == {"class", "receivers", "count"}
    assert [each["subject"] for each in shown["receivers"]] == ["paramedic-1"]
    assert not [e for e in readers if "highway-patrol" in str(parts(e)) and e.kind != "ledger_read"]
    assert not [e for e in await list_entries(live.caller("transport-admin")) if e.index == delivered.index]


async def test_two_publishers_of_one_topic_learn_nothing_of_each_other(live: Live) -> None:
    mine, other = alert("highway-patrol", "mine"), alert("transport", "other")
    async with live.caller("ems").stream(ALERTS, **LATEST) as stream:
        await stream.opened()
        await live.caller("highway-patrol").publish_all(ALERTS, mine)
        await live.caller("transport").publish_all(ALERTS, other)
        await stream.deliveries(2)
    for name, own, hidden in (("highway-patrol", mine, other), ("transport", other, mine)):
        seen = str([parts(e) for e in await list_entries(live.caller(f"{name}-admin"))])
        assert own.id in seen
        assert hidden.id not in seen
        assert "'partition'" not in seen and "'offset'" not in seen and "'rules'" not in seen


async def test_questions_that_make_no_sense(live: Live) -> None:
    auditor = live.caller("auditor-1")
    for question in ({"kinds": ["no-such-kind"]}, {"page_token": "x"}, {"page_token": "AAAA"}):
        failure = await failure_in(list_entries(auditor, **question))
        failure.check_shape()
        assert failure.reason == "REQUEST_INVALID"


# ---- record topics ----


async def test_an_auditor_replays_what_was_stored_and_what_somebody_saw(live: Live) -> None:
    auditor, ems = live.caller("auditor-1"), live.caller("ems")
    records = [alert("highway-patrol", f"text {number}") for number in range(3)]
    async with ems.stream(ALERTS, **LATEST) as stream:
        await stream.opened()
        await live.caller("highway-patrol").publish_all(ALERTS, *records)
        received = {delivery.record.id: delivery for delivery in await stream.deliveries(3)}

    whole = {each.whole.id: each for each in await replay(auditor, ALERTS)}
    assert [whole[record.id].whole.text_data for record in records] == [r.text_data for r in records]
    assert "recordedtime" in whole[records[0].id].whole.attributes

    seen_by = ledger_pb2.ReplaySubject(
        agency="ems", roles=["paramedic"], attributes={"clearance": "red"}, purpose="emergency-response"
    )
    seen = {each.delivery.record.id: each for each in await replay(auditor, ALERTS, seen_by=seen_by)}
    assert {name: seen[name].delivery for name in received} == received
    assert all(each.place == whole[name].place for name, each in seen.items())
    stranger = ledger_pb2.ReplaySubject(agency="cyber-centre", roles=["analyst"], purpose="cyber-defence")
    assert await replay(auditor, ALERTS, seen_by=stranger) == []
    assert await replay(auditor, ALERTS, seen_by=seen_by, limit=1)
    reading = live.ledger("ledger_read")[-1]
    assert reading["query"]["method"] == "ReplayRecords"
    assert reading["query"]["about"]["seen_by"]["agency"] == "ems"


async def test_replays_that_cannot_be(live: Live) -> None:
    auditor = live.caller("auditor-1")
    seen_by = ledger_pb2.ReplaySubject(agency="ems", roles=["paramedic"], purpose="emergency-response")
    assert (await replay_failure(auditor, topic="no-such-topic")).reason == "TOPIC_NOT_FOUND"
    unknown = await replay_failure(auditor, seen_by=seen_by, revision="sha256:0")
    assert unknown.reason == "REVISION_NOT_FOUND"
    assert (await replay_failure(auditor, revision="sha256:0")).reason == "REQUEST_INVALID"
    nobody = ledger_pb2.ReplaySubject(agency="ems")
    assert (await replay_failure(auditor, seen_by=nobody)).reason == "REQUEST_INVALID"


# ---- who saw, what saw ----


async def delivered_crash(live: Live, **labels: str) -> Any:
    """A crash report that ems, transport and (as a notice) the cyber centre receive; ems acknowledges it."""
    record = crash('{"a": 1}', **labels)
    ems, transport, cyber = (live.caller(name) for name in ("ems", "transport", "cyber-centre"))
    async with (
        ems.stream("crash-reports", subscription=unique("s"), **LATEST) as first,
        transport.stream("crash-reports", **LATEST) as second,
        cyber.stream("crash-reports", **LATEST) as third,
    ):
        for stream in (first, second, third):
            await stream.opened()
        await live.caller("highway-patrol").publish_all("crash-reports", record)
        batch = await first.next("batch")
        await first.acknowledge(batch.cursor)
        await second.deliveries(1)
        await third.deliveries(1)
    return record


async def test_an_auditor_learns_who_saw_a_record(live: Live) -> None:
    record = await delivered_crash(live)
    found = await who_saw(live.caller("auditor-1"), record.source, record.id)
    (publication,) = found.publications
    assert (publication.owner, publication.topic) == ("highway-patrol", "crash-reports")
    assert publication.HasField("place")
    by_agency = {each.agency: each for each in found.sightings}
    assert by_agency.keys() == {"ems", "transport", "cyber-centre"}
    ems = by_agency["ems"]
    assert (ems.subject, ems.acknowledged) == ("paramedic-1", True)
    assert ems.revision == live.ready.revision
    assert ems.place == publication.place
    assert json.loads(ems.treatments)["pii"] == {"kind": "keep"}
    assert by_agency["cyber-centre"].effect == 2
    assert not by_agency["transport"].acknowledged
    assert len(ems.entry.leaf_hash) == 32
    assert found.complete


async def test_the_owner_s_administrator_learns_which_agencies_saw_it(live: Live) -> None:
    record = await delivered_crash(live)
    found = await who_saw(live.caller("highway-patrol-admin"), record.source, record.id)
    assert {each.agency for each in found.sightings} == {"ems", "transport", "cyber-centre"}
    for each in found.sightings:
        assert (each.subject, each.token, each.subscription, each.stream, each.ended) == ("",) * 5
        assert (each.revision, each.engine) == ("", "")
        assert not each.HasField("place")
        assert set(json.loads(each.decision)["input"]["subject"]) == {"agency", "purpose"}
        assert each.purpose and each.treatments
    assert not found.publications[0].HasField("place")


async def test_others_records_are_like_missing_ones(live: Live) -> None:
    """Also those that one's own people received: nothing is looked up, so it takes no other time either."""
    record = await delivered_crash(live)
    for name in ("ems-admin", "transport-admin"):
        caller = live.caller(name)
        hidden = await who_saw(caller, record.source, record.id)
        missing = await who_saw(caller, record.source, unique("never"))
        nobody = await who_saw(caller, "//no-such-agency/x", "1")
        assert hidden == missing == nobody == ledger_pb2.WhoSawResponse()


async def test_what_agencies_saw(live: Live) -> None:
    await delivered_crash(live)
    whole = (await what_saw(live.caller("auditor-1"), "ems")).receptions
    crashes = [each for each in whole if each.topic == "crash-reports"]
    assert crashes and all(json.loads(each.labels)["dataclassification"] == "amber" for each in crashes)

    owner = (await what_saw(live.caller("highway-patrol-admin"), "ems")).receptions
    assert {each.owner for each in owner} == {"highway-patrol"}
    assert all(each.labels and not each.handed_out for each in owner)

    reader = (await what_saw(live.caller("ems-admin"), "ems")).receptions
    assert {each.topic for each in reader} >= {"crash-reports"}
    assert not any(each.labels or each.entries for each in reader)
    assert sum(each.records for each in reader) == sum(each.records for each in whole)

    for agency in ("partner-cert", "no-such-agency"):
        assert not (await what_saw(live.caller("highway-patrol-admin"), agency)).receptions


# ---- proofs and receipts ----


async def newest(live: Live, kind: str, caller: Caller) -> int:
    """The index of the newest entry of a kind, once a checkpoint covers it."""
    index = (await list_entries(caller, kinds=[kind]))[-1].index
    while True:
        answer = await caller.ledger.GetCheckpoint(
            ledger_pb2.GetCheckpointRequest(), metadata=caller.metadata, timeout=20
        )
        if answer.checkpoints and int(answer.checkpoints[0].note.splitlines()[1]) > index:
            return index


def keys_of(live: Live) -> Any:
    return read_keys((live.directory / "keys" / "ledger.vkey").read_text())


async def test_proofs_hold_for_whoever_has_the_key(live: Live) -> None:
    record = await delivered_crash(live)
    auditor = live.caller("auditor-1")
    index = await newest(live, "delivery", auditor)
    whole = check(await prove(auditor, index), keys_of(live))
    assert whole.whole and whole.signed_by and whole.index == index

    entry = await newest(live, "publish", auditor)
    part = ledger_pb2.RecordPart(source=record.source, id=record.id)
    own = check(await prove(live.caller("highway-patrol-admin"), entry, record=part), keys_of(live))
    assert set(own.parts) == {"records"}


async def test_an_administrator_s_proofs_are_of_its_own_part(live: Live) -> None:
    name = unique("s")
    async with live.caller("ems").stream("crash-reports", subscription=name, **LATEST) as stream:
        await stream.opened()
        record = crash('{"a": 1}')
        await live.caller("highway-patrol").publish_all("crash-reports", record)
        await stream.deliveries(1)
    auditor = live.caller("auditor-1")
    index = await newest(live, "delivery", auditor)
    part = ledger_pb2.SubscriptionPart(subject="paramedic-1", subscription=name)
    shown = check(await prove(live.caller("ems-admin"), index, subscription=part), keys_of(live))
    assert set(shown.parts) == {"class", "count", "receivers"}
    row = ledger_pb2.RecordPart(source=record.source, id=record.id)
    published = await newest(live, "publish", auditor)
    for caller, at, wanted in (
        ("ems-admin", index, {}),
        ("highway-patrol-admin", index, {"subscription": part}),
        ("transport-admin", index, {"subscription": part}),
        ("ems-admin", published, {"record": row}),
        ("transport-admin", published, {"record": row}),
        ("ems-admin", 0, {"subscription": part}),
        ("ems-admin", 10**9, {"subscription": part}),
        ("auditor-1", 10**9, {}),
        ("auditor-1", 2**63, {}),
    ):
        failure = await failure_in(prove(live.caller(caller), at, **wanted))
        failure.check_shape()
        assert failure.reason == "ENTRY_NOT_FOUND", (caller, at)
        assert failure.message.replace(str(at), "0") == (
            "Ledger entry 'broker/0' may not be read by this caller, or it might not exist."
        )


async def test_holders_look_up_their_receipts(live: Live) -> None:
    """What was handed out is under the entry's root, by the holder's own hashes of it; and for nobody else."""
    ems, publisher = live.caller("ems"), live.caller("highway-patrol")
    records = [alert("highway-patrol", f"text {number}") for number in range(3)]
    async with ems.stream(ALERTS, **LATEST) as stream:
        await stream.opened()
        results = await publisher.publish(ALERTS, *records)
        batches = [await stream.next("batch")]
        while sum(len(batch.deliveries) for batch in batches) < 3:
            batches.append(await stream.next("batch"))
    for batch in batches:
        (checked,) = await check_receipts(ems, batch.receipt)
        assert checked.standing == ledger_pb2.RECEIPT_STANDING_LOGGED
        contents = [sha256(each.SerializeToString(deterministic=True)).digest() for each in batch.deliveries]
        root = root_under(checked.digest_keys, contents)
        (proof,) = checked.proofs
        shown = check(proof, keys_of(live))
        assert set(shown.parts) == {"class", "count", "receivers"}
        assert shown.leaf_hash == checked.entry.leaf_hash
        whole = await list_entries(live.caller("auditor-1"), kinds=["delivery"])
        (entry,) = [parts(each) for each in whole if each.index == checked.entry.index]
        assert entry["handed_out"] == root.hex()

    receipts = {result.accepted.receipt for result in results}
    answers = await check_receipts(publisher, *receipts, b"", b"x" * 40, batches[0].receipt)
    assert answers[0].standing == ledger_pb2.RECEIPT_STANDING_LOGGED
    (proof,) = answers[0].proofs
    own = check(proof, keys_of(live)).parts
    assert set(own) == {"call", "who", "records"}
    rows: Any = own["records"]
    assert {row["id"] for row in rows} == {record.id for record in records}
    assert len(answers[0].digest_keys) == 3
    unknown = ledger_pb2.CheckedReceipt(standing=ledger_pb2.RECEIPT_STANDING_UNKNOWN)
    assert answers[1:] == [unknown] * 3
    for other in (ems, live.caller("ems", subject="paramedic-2"), live.caller("auditor-1")):
        assert await check_receipts(other, *receipts) == [unknown] * len(receipts)


async def test_too_many_receipts_at_once(live: Live) -> None:
    for count in (0, 101):
        failure = await failure_in(check_receipts(live.caller("ems"), *([b"x"] * count)))
        assert failure.reason == "REQUEST_INVALID"
