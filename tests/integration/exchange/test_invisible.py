"""What is withheld leaves no trace (design rule 6), and two owners of one type never share a verdict."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from protos.entente.v1 import catalog_pb2, exchange_pb2
from protos.entente.v1.exchange_pb2 import START_POSITION_LATEST, Credit
from tests.integration.exchange.live import Live
from tests.integration.exchange.records import unique
from tests.integration.exchange.rulebooks import ALERTS, alert, with_alerts

pytestmark = [pytest.mark.opa, pytest.mark.asyncio(loop_scope="session")]
RULEBOOK = with_alerts
LATEST = {"position": START_POSITION_LATEST}
CURSOR_BYTES, RECEIPT_BYTES = 294, 142


async def test_two_owners_of_one_type_never_share_a_verdict(live: Live) -> None:
    """One topic, one type, one label set, one reader: the one owner keeps the text, the other masks it."""
    async with live.caller("ems").stream(ALERTS, **LATEST) as stream:
        await stream.opened()
        for agency in ("highway-patrol", "transport") * 2:
            await live.caller(agency).publish_all(ALERTS, alert(agency, f"text of {agency}"))
        found = await stream.deliveries(4)
    for delivery in found:
        document = orjson.loads(delivery.record.text_data)
        assert "new" not in document
        if delivery.record.source.startswith("//highway-patrol/"):
            assert document == {"text": "text of highway-patrol", "name": "name of text of highway-patrol"}
            assert list(delivery.disclosure.masked) == []
            assert list(delivery.disclosure.obligations) == []
        else:
            assert set(document) == {"text"}
            assert "transport" not in document["text"]
            assert list(delivery.disclosure.masked) == ["operational"]
            assert list(delivery.disclosure.obligations) == ["call-back"]
    assert len({d.record.source for d in found}) == 2


async def test_the_other_owner_does_not_read_what_it_has_no_agreement_for(live: Live) -> None:
    """Each of the two publishers may subscribe to the topic, and receives its own records only."""
    async with live.caller("transport").stream(ALERTS, **LATEST) as stream:
        await stream.opened()
        await live.caller("highway-patrol").publish_all(ALERTS, alert("highway-patrol", "x"))
        mine = alert("transport", "y")
        await live.caller("transport").publish_all(ALERTS, mine)
        (delivery,) = await stream.deliveries(1)
    assert delivery.record.id == mine.id
    assert delivery.record.text_data == mine.text_data


async def test_withheld_records_make_no_difference_in_what_is_seen(live: Live) -> None:
    """The same two records with and without fifty withheld ones between: the same messages but for cursors and ids."""
    seen = []
    for hidden in (0, 50):
        async with live.caller("partner-cert").stream(ALERTS, **LATEST) as stream:
            await stream.opened()
            names = [unique("same"), unique("same")]
            await live.caller("highway-patrol").publish_all(ALERTS, alert("highway-patrol", "a", id=names[0]))
            shapes = [_shape(await stream.next("batch"), names)]
            for _ in range(hidden // 25):
                records = [alert("highway-patrol", "hidden", "amber") for _ in range(25)]
                await live.caller("highway-patrol").publish_all(ALERTS, *records)
            await live.caller("highway-patrol").publish_all(ALERTS, alert("highway-patrol", "b", id=names[1]))
            shapes.append(_shape(await stream.next("batch"), names))
            seen.append(shapes)
            kinds = [m.WhichOneof("message") for m in stream.seen]
            assert [kind for kind in kinds if kind != "heartbeat"] == ["opened", "batch", "batch"]
            assert {len(_cursor(m)) for m in stream.seen} == {CURSOR_BYTES}
            assert len({_cursor(m) for m in stream.seen}) == len(stream.seen)
            assert len({m.batch.receipt for m in stream.seen if m.HasField("batch")}) == 2
    assert seen[0] == seen[1]


def _shape(batch: exchange_pb2.Batch, names: list[str]) -> bytes:
    """The batch without its cursor and receipt and with its ids made alike: everything else that a subscriber sees."""
    bare = exchange_pb2.Batch()
    bare.CopyFrom(batch)
    assert [d.record.id in names for d in bare.deliveries] == [True]
    bare.deliveries[0].record.id = "id"
    assert len(bare.receipt) == RECEIPT_BYTES
    bare.cursor = bare.receipt = b""
    return bare.SerializeToString(deterministic=True)


def _cursor(message: exchange_pb2.SubscribeResponse) -> bytes:
    kind = message.WhichOneof("message")
    assert kind is not None
    return bytes(getattr(message, kind).cursor)


async def test_one_to_whom_all_is_withheld_still_advances(live: Live) -> None:
    """Its heartbeats' cursor moves past what it was not to see, so that after a restart it does not read that again."""
    name = unique("s")
    async with live.caller("partner-cert").stream(ALERTS, subscription=name, **LATEST) as stream:
        await stream.opened()
        amber = [alert("highway-patrol", f"{n}", "amber") for n in range(20)]
        await live.caller("highway-patrol").publish_all(ALERTS, *amber)
        green = alert("highway-patrol", "visible")
        await live.caller("highway-patrol").publish_all(ALERTS, green)
        assert await stream.ids(1) == [green.id]
        more = [alert("highway-patrol", f"{n}", "amber") for n in range(20)]
        await live.caller("highway-patrol").publish_all(ALERTS, *more)
        await stream.next("heartbeat")
        cursor = (await stream.next("heartbeat")).cursor
        assert len(cursor) == CURSOR_BYTES
        await stream.acknowledge(cursor)
    last = alert("highway-patrol", "last")
    await live.caller("highway-patrol").publish_all(ALERTS, last)
    async with live.caller("partner-cert").stream(ALERTS, subscription=name) as stream:
        assert await stream.ids(1) == [last.id]
    resumed = [e["move"] for e in live.ledger("moved") if e["stream"]["subscription"] == name][-1]
    deliveries = [e for e in live.ledger("delivery") if e["class"]["agency"] == "partner-cert"]
    assert resumed["to"][0] > deliveries[-2]["places"][0][1]


async def test_an_expired_record_is_delivered_no_more(live: Live) -> None:
    """Its expiry lies seconds ahead when it is published; it is read again until a stream gets the next one alone."""
    caller = live.caller("ems")
    async with caller.stream(ALERTS, **LATEST) as stream:
        start = (await stream.opened()).cursor
        expiry = (datetime.now(UTC) + timedelta(seconds=4)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        passing, lasting = alert("highway-patrol", "p", expirytime=expiry), alert("highway-patrol", "l")
        await live.caller("highway-patrol").publish_all(ALERTS, passing, lasting)
        assert await stream.ids(2) == [passing.id, lasting.id]
        while datetime.now(UTC) < datetime.fromisoformat(expiry):
            await stream.next("heartbeat")
    async with caller.stream(ALERTS, cursor=start) as stream:
        assert await stream.ids(1) == [lasting.id]


async def test_agreements_that_have_not_begun_or_have_ended_release_nothing(live: Live) -> None:
    """To the cyber centre, the one owner's agreement begins in the far future; the other's has ended."""
    caller = live.caller("cyber-centre")
    answer = await caller.catalog.CanI(
        catalog_pb2.CanIRequest(action=catalog_pb2.ACTION_SUBSCRIBE, topic=ALERTS, purpose="cyber-defence"),
        metadata=caller.metadata,
    )
    for agency in ("highway-patrol", "transport"):
        await live.caller(agency).publish_all(ALERTS, alert(agency, "x"))
    async with caller.stream(ALERTS, credit=Credit(records=1_000)) as stream:
        if answer.permitted:
            await stream.opened()
            messages = await stream.beats(3)
            assert {m.WhichOneof("message") for m in messages} == {"heartbeat"}
        else:
            assert (await stream.failure()).reason == "TOPIC_NOT_FOUND"


async def test_an_agreement_without_history_covers_what_comes_after_its_beginning(live: Live) -> None:
    async with live.caller("partner-cert").stream(ALERTS, **LATEST) as stream:
        await stream.opened()
        record = alert("highway-patrol", "after")
        await live.caller("highway-patrol").publish_all(ALERTS, record)
        assert await stream.ids(1) == [record.id]
