"""Publishing over the wire: duplicates, forgeries, labels, and what each refusal says."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import grpc
import pytest

from protos.entente.v1 import exchange_pb2
from protos.entente.v1.exchange_pb2 import PublishRequest, PublishStreamRequest, PublishStreamResponse
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.integration.exchange.failure import failure_in
from tests.integration.exchange.live import Live
from tests.integration.exchange.records import CRASH_TYPE, crash, event, unique, vulnerability
from tests.integration.exchange.rulebooks import ALERTS, alert, with_alerts

pytestmark = [pytest.mark.opa, pytest.mark.asyncio(loop_scope="session")]
RULEBOOK = with_alerts
POSITION_BYTES = 294


async def test_a_record_again_is_a_duplicate_at_its_first_position(live: Live) -> None:
    record = alert("transport", "once")
    first, second = [(await live.caller("transport").publish(ALERTS, record))[0].accepted for _ in range(2)]
    assert (first.duplicate, second.duplicate) == (False, True)
    assert len(first.position) == len(second.position) == POSITION_BYTES
    assert first.position != second.position
    published = live.ledger("publish")[-2:]
    assert published[0]["stored"] == published[1]["stored"]


async def test_a_duplicate_within_one_call(live: Live) -> None:
    record = alert("transport", "twice")
    results = await live.caller("transport").publish(ALERTS, record, record)
    assert [r.accepted.duplicate for r in results] == [False, True]


async def test_the_same_id_with_other_content_is_refused(live: Live) -> None:
    record = alert("transport", "one")
    other = CloudEvent()
    other.CopyFrom(record)
    other.text_data = '{"text": "another"}'
    results = await live.caller("transport").publish(ALERTS, record, other, alert("transport", "third"))
    assert [r.refused.reason for r in results] == ["", "ID_REUSED", ""]


async def test_the_same_id_of_another_source_is_another_record(live: Live) -> None:
    name = unique()
    for agency in ("transport", "highway-patrol"):
        (result,) = await live.caller(agency).publish(ALERTS, alert(agency, "x", id=name))
        assert result.accepted.duplicate is False


def changed(change: Callable[[CloudEvent], object]) -> CloudEvent:
    record = alert("transport", "good")
    change(record)
    return record


def attribute(name: str, value: str) -> CloudEvent:
    return changed(lambda e: setattr(e.attributes[name], "ce_string", value))


def without(name: str) -> CloudEvent:
    return changed(lambda e: e.attributes.pop(name))


def instant(name: str, seconds: int) -> CloudEvent:
    return changed(lambda e: setattr(e.attributes[name].ce_timestamp, "seconds", seconds))


def number_label() -> CloudEvent:
    return changed(lambda e: setattr(e.attributes["dataclassification"], "ce_integer", 5))


REFUSED = {
    "source of another agency": (changed(lambda e: setattr(e, "source", "//ems/x")), "SOURCE_FORGED"),
    "source of a longer name": (changed(lambda e: setattr(e, "source", "//transporter/x")), "SOURCE_FORGED"),
    "source without a path": (changed(lambda e: setattr(e, "source", "//transport")), "SOURCE_FORGED"),
    "source with a scheme": (changed(lambda e: setattr(e, "source", "https://transport/x")), "SOURCE_FORGED"),
    "source in upper case": (changed(lambda e: setattr(e, "source", "//TRANSPORT/x")), "SOURCE_FORGED"),
    "recordedtime": (attribute("recordedtime", "2026-01-01T00:00:00Z"), "ATTRIBUTE_RESERVED"),
    "recordedtime as a timestamp": (instant("recordedtime", 5), "ATTRIBUTE_RESERVED"),
    "authid": (attribute("authid", "highway-patrol/officer-1"), "ATTRIBUTE_RESERVED"),
    "source as an attribute too": (attribute("source", "//ems/x"), "RECORD_INVALID"),
    "id as an attribute too": (attribute("id", "x"), "RECORD_INVALID"),
    "attribute in upper case": (attribute("Dataclassification", "green"), "RECORD_INVALID"),
    "no classification": (without("dataclassification"), "LABEL_INVALID"),
    "empty classification": (attribute("dataclassification", ""), "LABEL_INVALID"),
    "classification in upper case": (attribute("dataclassification", "GREEN"), "LABEL_INVALID"),
    "classification with a space": (attribute("dataclassification", "green "), "LABEL_INVALID"),
    "unknown classification": (attribute("dataclassification", "purple"), "LABEL_INVALID"),
    "two classifications": (attribute("dataclassification", "green,red"), "LABEL_INVALID"),
    "classification as a number": (number_label(), "LABEL_INVALID"),
    "purpose twice": (attribute("purposes", "cyber-defence,cyber-defence"), "LABEL_INVALID"),
    "empty purpose": (attribute("purposes", "cyber-defence,"), "LABEL_INVALID"),
    "no purpose at all": (attribute("purposes", ""), "LABEL_INVALID"),
    "unknown purpose": (attribute("purposes", "curiosity"), "LABEL_INVALID"),
    "purpose in upper case": (attribute("purposes", "Cyber-Defence"), "LABEL_INVALID"),
    "purposes with a space": (attribute("purposes", "cyber-defence, law-enforcement"), "LABEL_INVALID"),
    "unknown regulation": (attribute("dataregulation", "cjis"), "LABEL_INVALID"),
    "unknown category": (attribute("datacategory", "x"), "LABEL_INVALID"),
    "releasable to what is no name": (attribute("releasableto", "EMS!"), "LABEL_INVALID"),
    "expired": (instant("expirytime", 1_000), "RECORD_EXPIRED"),
    "expiry that is no time": (attribute("expirytime", "tomorrow"), "RECORD_INVALID"),
    "expiry beyond the calendar": (attribute("expirytime", "9999-12-31T23:59:59-23:59"), "RECORD_INVALID"),
    "expiry on no day": (attribute("expirytime", "2026-02-30T00:00:00Z"), "RECORD_INVALID"),
    "time beyond the calendar": (instant("time", 2**60), "RECORD_INVALID"),
    "unknown type": (changed(lambda e: setattr(e, "type", "no.such.v1")), "RECORD_TYPE_NOT_FOUND"),
    "type of another topic": (changed(lambda e: setattr(e, "type", CRASH_TYPE)), "RECORD_TYPE_NOT_FOUND"),
    "no id": (changed(lambda e: setattr(e, "id", "")), "RECORD_INVALID"),
    "id of two lines": (changed(lambda e: setattr(e, "id", "a\nb")), "RECORD_INVALID"),
    "specversion": (changed(lambda e: setattr(e, "spec_version", "0.3")), "RECORD_INVALID"),
    "no JSON": (changed(lambda e: setattr(e, "text_data", "{")), "CONTENT_INVALID"),
    "no data": (changed(lambda e: e.ClearField("text_data")), "CONTENT_INVALID"),
    "duplicate keys": (changed(lambda e: setattr(e, "text_data", '{"a":1,"a":2}')), "CONTENT_INVALID"),
    "a number that loses": (changed(lambda e: setattr(e, "text_data", "1e999")), "CONTENT_INVALID"),
    "too deep": (changed(lambda e: setattr(e, "text_data", "[" * 100 + "]" * 100)), "CONTENT_INVALID"),
    "other content type": (attribute("datacontenttype", "text/plain"), "CONTENT_INVALID"),
    "packed data": (changed(lambda e: e.proto_data.Pack(CloudEvent(id="x"))), "RECORD_INVALID"),
    "too large": (changed(lambda e: setattr(e, "text_data", f'"{"x" * (1 << 20)}"')), "RECORD_TOO_LARGE"),
    "long attribute": (attribute("x", "y" * 5_000), "RECORD_INVALID"),
    "long partition key": (attribute("partitionkey", "y" * 300), "RECORD_INVALID"),
}


@pytest.mark.parametrize(("record", "reason"), REFUSED.values(), ids=REFUSED)
async def test_a_bad_record_is_refused_and_its_neighbours_are_not(
    live: Live, record: CloudEvent, reason: str
) -> None:
    before, after = alert("transport", "before"), alert("transport", "after")
    results = await live.caller("transport").publish(ALERTS, before, record, after)
    assert [r.refused.reason for r in results] == ["", reason, ""]
    message = results[1].refused.message
    assert message.isprintable()
    assert 0 < len(message) < 500


async def test_who_may_only_read_is_denied_each_record(live: Live) -> None:
    (result,) = await live.caller("ems").publish(
        "crash-reports", event(CRASH_TYPE, "//ems/x", {}, dataclassification="amber")
    )
    assert result.refused.reason == "RECORD_TYPE_NOT_FOUND"


async def test_unknown_protobuf_fields_do_not_reach_anybody(live: Live) -> None:
    """Field 99 of the event and of the request, with a token that would be seen."""
    token = secrets.token_hex(16).encode()
    extra = b"\x9a\x06" + bytes([len(token)]) + token
    record = alert("transport", "extra")
    request = PublishRequest(
        topic=ALERTS, records=[CloudEvent.FromString(record.SerializeToString() + extra)]
    )
    message = request.SerializeToString() + extra
    assert message.count(token) == 2
    caller = live.caller("transport")
    async with caller.stream(ALERTS, position=exchange_pb2.START_POSITION_LATEST) as stream:
        await stream.opened()
        publish = caller.channel.unary_unary("/entente.v1.Exchange/Publish")
        await publish(message, metadata=caller.metadata)
        (delivery,) = await stream.deliveries(1)
    assert delivery.record.id == record.id
    assert token not in delivery.SerializeToString()
    for path in sorted((live.directory / "data").iterdir()):
        assert token not in path.read_bytes()


async def test_a_publishing_stream_answers_in_order(live: Live) -> None:
    caller = live.caller("transport")
    call = caller.exchange.PublishStream(metadata=caller.metadata, timeout=20)
    for number in range(5):
        records = [alert("transport", f"{number}-{n}") for n in range(number + 1)]
        await call.write(PublishStreamRequest(topic=ALERTS, records=records))
    answers: list[int] = []
    for _ in range(5):
        answer = await call.read()
        assert isinstance(answer, PublishStreamResponse)
        answers.append(len([r for r in answer.results if r.accepted.position]))
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert answers == [1, 2, 3, 4, 5]


async def test_a_publishing_stream_ends_at_a_topic_that_it_may_not_use(live: Live) -> None:
    caller = live.caller("transport")
    call = caller.exchange.PublishStream(metadata=caller.metadata, timeout=20)
    await call.write(PublishStreamRequest(topic=ALERTS, records=[alert("transport", "kept")]))
    answer = await call.read()
    assert isinstance(answer, PublishStreamResponse)
    assert answer.results[0].accepted.position
    await call.write(PublishStreamRequest(topic="vulnerabilities", records=[alert("transport", "lost")]))

    async def rest() -> None:
        while await call.read() is not grpc.aio.EOF:
            pass

    failure = await failure_in(rest())
    failure.check_shape()
    assert failure.reason == "TOPIC_NOT_FOUND"


async def test_a_preview_shows_each_party_and_stores_nothing(live: Live) -> None:
    caller = live.caller("highway-patrol")
    request = exchange_pb2.PreviewPublishRequest(
        topic="crash-reports", records=[crash('{"new": 1}'), crash("{", dataclassification="amber")]
    )
    before = len(live.ledger("publish"))
    shown, refused = (await caller.exchange.PreviewPublish(request, metadata=caller.metadata)).previews
    effects = {party.agency: exchange_pb2.Effect.Name(party.effect) for party in shown.parties}
    assert effects == {
        "ems": "EFFECT_RELEASE",
        "transport": "EFFECT_RELEASE",
        "cyber-centre": "EFFECT_NOTICE",
    }
    assert list(shown.unreviewed_paths) == ["$['new']"] or list(shown.unreviewed_paths) == ["$.new"]
    assert refused.refusal.reason == "CONTENT_INVALID"
    assert len(live.ledger("publish")) == before


async def test_order_per_partition_key_is_kept(live: Live) -> None:
    caller = live.caller("cyber-centre")
    async with caller.stream("vulnerabilities") as stream:
        await stream.opened()
        names = [f"CVE-{number}" for number in range(30)]
        for start in range(0, 30, 7):
            batch = [vulnerability(name, partitionkey="same") for name in names[start : start + 7]]
            await caller.publish_all("vulnerabilities", *batch)
        found = await stream.deliveries(30)
    assert [d.record.attributes["subject"].ce_string for d in found] == names
