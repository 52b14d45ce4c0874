"""How an exchange ends: draining, what the ledger holds afterwards, and that a payload is nowhere but in the records."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import secrets
import sqlite3
from pathlib import Path

import grpc
import pytest

from broker.core.ledger.runs import places_of
from protos.entente.v1 import catalog_pb2
from protos.entente.v1.exchange_pb2 import Ack, Credit, PreviewPublishRequest
from tests.integration.exchange.failure import failure_in
from tests.integration.exchange.live import Live, running_live
from tests.integration.exchange.records import event, unique
from tests.integration.exchange.rulebooks import ALERT_TYPE, ALERTS, alert, with_alerts

pytestmark = [pytest.mark.opa, pytest.mark.asyncio(loop_scope="session")]


async def test_draining_tells_streams_and_ends_those_that_stay(tmp_path: Path, opa_binary: Path) -> None:
    directory = tmp_path / "exchange"
    leave = asyncio.Event()
    ended = asyncio.Event()

    async def serve() -> None:
        async with running_live(directory, opa_binary, limits={"drain_s": 1.0}) as live:
            started.set_result(live)
            await leave.wait()
            # The exchange drains as soon as this block is left; the client's channel is closed by the test's end.
        ended.set()

    started: asyncio.Future[Live] = asyncio.get_running_loop().create_future()
    server = asyncio.ensure_future(serve())
    live = await started
    ca = (directory / "tls/ca.pem").read_bytes()
    async with grpc.aio.secure_channel(live.ready.tls_address, grpc.ssl_channel_credentials(ca)) as channel:
        live.channel = channel
        caller = live.caller("ems")
        async with caller.stream("crash-reports") as leaving, caller.stream("crash-reports") as staying:
            await leaving.opened()
            await staying.opened()
            leave.set()
            for stream in (leaving, staying):
                draining = await stream.next("draining")
                assert draining.grace_ms == 1_000
            leaving.call.cancel()
            async with caller.stream("crash-reports") as late:
                assert (await late.failure()).reason in ("DRAINING", "")
            failure = await staying.failure()
            failure.check_shape()
            assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        await ended.wait()
    await server
    causes = sorted(entry["end"]["cause"] for entry in live.ledger("stream_closed"))
    assert causes == ["DRAINING", "cancelled"]
    assert len(live.ledger("stream_opened")) == 2


def written_keys(directory: Path) -> list[tuple[str, bytes]]:
    """Each key of the exchange by the name of its file, in the forms in which it could stand somewhere."""
    found = []
    for path in sorted(directory.glob("*.keys")):
        for each in json.loads(path.read_text()):
            key = base64.b64decode(each["key"])
            texts = (base64.b64encode(key), base64.urlsafe_b64encode(key))
            found += [
                (path.name, form) for form in (key, key.hex().encode(), *(t.rstrip(b"=") for t in texts))
            ]
    return found


async def test_the_ledger_and_the_logs_hold_no_payload(
    tmp_path: Path, opa_binary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Unique tokens in every part of a record and of requests, good and refused; then every file but the records is read.

    Nor do these files or the records hold any key of the exchange.
    """
    caplog.set_level(logging.DEBUG)
    rulebook = with_alerts(tmp_path / "rulebook")
    secret = {
        name: f"{name}{secrets.token_hex(12)}"
        for name in ("text", "name", "new", "refused", "broken", "masked", "preview", "key")
    }
    async with running_live(tmp_path / "exchange", opa_binary, rulebook=rulebook) as live:
        publisher = live.caller("highway-patrol")
        data = {"text": secret["text"], "name": secret["name"], "new": secret["new"]}
        labels = {"partitionkey": "one"}
        good = event(ALERT_TYPE, "//highway-patrol/desk", data, **labels)
        keyed = event(ALERT_TYPE, "//highway-patrol/desk", {"text": "x"}, partitionkey=secret["key"])
        label = event(
            ALERT_TYPE, "//highway-patrol/desk", {"text": secret["refused"]}, dataclassification="x"
        )
        broken = event(ALERT_TYPE, "//highway-patrol/desk", f'{{"text": "{secret["broken"]}"', **labels)
        results = await publisher.publish(ALERTS, good, keyed, label, broken)
        assert [r.refused.reason for r in results] == ["", "", "LABEL_INVALID", "CONTENT_INVALID"]
        await live.caller("transport").publish_all(ALERTS, alert("transport", secret["masked"]))
        shown = event(ALERT_TYPE, "//highway-patrol/desk", {"text": secret["preview"]}, **labels)
        request = PreviewPublishRequest(topic=ALERTS, records=[shown])
        preview = await publisher.exchange.PreviewPublish(request, metadata=publisher.metadata)
        assert secret["preview"] in str(preview.previews[0].parties)
        async with live.caller("ems").stream(ALERTS, subscription=unique("s")) as stream:
            first = (await stream.deliveries(3))[0]
            assert secret["text"] in first.record.text_data
            assert secret["new"] not in first.record.text_data
            cursor = stream.seen[-1].batch.cursor or stream.seen[-1].heartbeat.cursor
            await stream.acknowledge(cursor)
            await stream.send(ack=Ack(cursor=secret["key"].encode()))
            await stream.failure()
        token = live.token("ems")
    kept = sorted(path for path in (live.directory / "data").rglob("*") if path.is_file())
    assert {path.name for path in kept} >= {"ledger.db", "records.db", "subscriptions.db"}
    stored = b"".join(path.read_bytes() for path in kept if path.name.startswith("records.db"))
    assert secret["text"].encode() in stored
    assert secret["refused"].encode() not in stored
    keys = written_keys(live.directory / "keys")
    assert {name for name, _ in keys} >= {"cursor.keys", "digest.keys", "ledger.keys", "receipt.keys"}
    for path in kept:
        assert not [name for name, key in keys if key in path.read_bytes()], path.name
        if not path.name.startswith("records.db"):
            content = path.read_bytes()
            assert not [name for name, value in secret.items() if value.encode() in content], path.name
            assert token.encode() not in content
            assert token.rpartition(".")[2].encode() not in content
    logged = "\n".join(f"{r.getMessage()} {r.exc_text or ''} {r.args!r}" for r in caplog.records)
    assert caplog.records
    assert not [name for name, value in secret.items() if value in logged]
    assert token not in logged
    assert not [name for name, key in keys if key in logged.encode()]


async def test_every_delivery_and_every_refusal_is_in_the_ledger(tmp_path: Path, opa_binary: Path) -> None:
    rulebook = with_alerts(tmp_path / "rulebook")
    async with running_live(tmp_path / "exchange", opa_binary, rulebook=rulebook) as live:
        ems = live.caller("ems")
        await live.caller("highway-patrol").publish_all(
            ALERTS, *(alert("highway-patrol", str(n)) for n in range(7))
        )
        await live.caller("transport").publish_all(ALERTS, *(alert("transport", str(n)) for n in range(5)))
        async with ems.stream(ALERTS, credit=Credit(records=3)) as stream:
            await stream.deliveries(3)
            await stream.send(credit=Credit(records=100))
            await stream.deliveries(9)
        entries = live.ledger("delivery")
        released = sorted(tuple(row[:2]) for entry in entries for row in places_of(entry["places"]))
        assert released == [(0, offset) for offset in range(12)]
        for entry in entries:
            assert [r["subject"] for r in entry["receivers"]] == ["paramedic-1"]
            assert entry["class"]["agency"] == "ems"
            rules = {"revision": live.ready.revision, "engine": live.ready.engine, "overlays": 0}
            assert entry["rules"] == rules
            for _, offset, decision in places_of(entry["places"]):
                owner = "highway-patrol" if offset < 7 else "transport"
                assert entry["decisions"][decision]["input"]["record"]["agency"] == owner
                assert entry["decisions"][decision]["output"]["effect"] == "release"
        refusals = {}
        for name, call in {
            "TOPIC_NOT_FOUND": ems.publish("no-such-topic", alert("ems", "x")),
            "REQUEST_INVALID": ems.publish("crash-reports"),
        }.items():
            failure = await failure_in(call)
            assert failure.info is not None
            refusals[failure.info.metadata["reference"]] = name
        refused = live.ledger("call_refused")
        assert {e["call"]["reference"]: e["call"]["reason"] for e in refused} == refusals
        for metadata in [(), (("authorization", "Bearer x"),)]:
            for _ in range(20):
                await failure_in(ems.catalog.WhoAmI(catalog_pb2.WhoAmIRequest(), metadata=metadata))
        assert live.ledger("refused_aggregate") == []
    refused = [entry["refused"] for entry in live.ledger("refused_aggregate")]
    assert {each["reason"]: each["count"] for each in refused} == {"TOKEN_MISSING": 20, "TOKEN_INVALID": 20}
    assert {each["peer"] for each in refused} <= {"ipv4:127.0.0.1", "ipv6:[::1]"}


async def test_an_exchange_that_starts_again_resumes_and_knows_what_it_stored(
    tmp_path: Path, opa_binary: Path
) -> None:
    rulebook = with_alerts(tmp_path / "rulebook")
    records = [alert("highway-patrol", str(n)) for n in range(4)]
    async with running_live(tmp_path / "exchange", opa_binary, rulebook=rulebook) as live:
        await live.caller("highway-patrol").publish_all(ALERTS, *records)
        async with live.caller("ems").stream(ALERTS, subscription="s", credit=Credit(records=2)) as stream:
            await stream.deliveries(2)
            await stream.acknowledge(stream.seen[-1].batch.cursor)
        async with live.caller("ems").stream(ALERTS, credit=Credit()) as stream:
            cursor = (await stream.opened()).cursor
    async with running_live(tmp_path / "exchange", opa_binary) as live:
        results = await live.caller("highway-patrol").publish(ALERTS, *records)
        assert [r.accepted.duplicate for r in results] == [True] * 4
        async with live.caller("ems").stream(ALERTS, subscription="s") as stream:
            assert await stream.ids(2) == [record.id for record in records[2:]]
        async with live.caller("ems").stream(ALERTS, cursor=cursor) as stream:
            assert await stream.ids(4) == [record.id for record in records]


async def test_cursors_and_subscriptions_of_a_topic_that_was_made_anew_are_refused(
    tmp_path: Path, opa_binary: Path
) -> None:
    """The records are gone and the topic's name stands for another one: an old place in it would be a wrong place."""
    async with (
        running_live(tmp_path / "exchange", opa_binary) as live,
        live.caller("ems").stream("crash-reports", subscription="s") as named,
        live.caller("ems").stream("crash-reports") as unnamed,
    ):
        await named.opened()
        cursor = (await unnamed.opened()).cursor
    for path in sorted((live.directory / "data").glob("records.db*")):
        path.unlink()
    async with running_live(tmp_path / "exchange", opa_binary) as live:
        for opening in ({"cursor": cursor}, {"subscription": "s"}):
            async with live.caller("ems").stream("crash-reports", **opening) as stream:
                failure = await stream.failure()
            failure.check_shape()
            assert failure.reason == "CURSOR_INVALID"
        async with live.caller("ems").stream("crash-reports", subscription="t") as stream:
            await stream.opened()


async def test_the_data_files_are_sound_after_the_end(tmp_path: Path, opa_binary: Path) -> None:
    async with running_live(tmp_path / "exchange", opa_binary) as live:
        await failure_in(live.caller("ems").publish("no-such-topic"))
    for path in sorted((live.directory / "data").glob("*.db")):
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
