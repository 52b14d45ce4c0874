"""Receipts that a client keeps: a line for each batch and publish call, written before anything is handed on."""

from __future__ import annotations

import base64
import json
import resource
import signal
import stat
from pathlib import Path
from typing import Any

import grpc
import pytest

from connectors.errors import EntenteClientError
from connectors.publishing import cut
from connectors.receipts import ReceiptFile, TopicReceipts, delivery_digest, record_digest
from connectors.retry import Retry
from protos.entente.v1 import exchange_pb2
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.services.exchange import Script, running_exchange
from tests.unit.test_client_calls import client, record

# grpc.aio keeps to one event loop a process.
pytestmark = pytest.mark.asyncio(loop_scope="session")

QUICK = Retry(attempts=4, first_s=0.01, longest_s=0.02)


def lines(path: Path) -> list[dict[str, Any]]:
    """What the file holds, with each receipt decoded."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    for line in found:
        assert (line["agency"], line["subject"], line["topic"]) == ("ems", "p-1", "t")
        line["receipt"] = base64.b64decode(line["receipt"])
    return found


def published(*records: CloudEvent) -> list[list[str]]:
    """What a line says of records that were accepted."""
    return [[each.source, each.id, record_digest(each).hex()] for each in records]


async def test_a_line_for_each_batch_with_the_digest_of_each_delivery(tmp_path: Path) -> None:
    kept = tmp_path / "receipts.jsonl"
    script = Script(log=[record(number) for number in range(5)], batch_size=3, notices={"4"})
    received = []
    async with (
        running_exchange(script) as endpoint,
        client(endpoint) as exchange,
        exchange.subscribe("t", "p", limit=5, receipts=kept) as stream,
    ):
        async for delivery in stream:
            received.append(delivery)
            told = sum(len(line["contents"]) for line in lines(kept))
            assert told >= len(received), "it is in the file before it is handed on"
    assert {delivery.receipt for delivery in received} == {b"of batch 3", b"of batch 5"}
    found = lines(kept)
    assert [(line["kind"], line["receipt"]) for line in found] == [
        ("delivery", b"of batch 3"),
        ("delivery", b"of batch 5"),
    ]
    messages = [
        exchange_pb2.Delivery(record=each.record, notice=each.notice, disclosure=each.disclosure)
        for each in received
    ]
    contents = [content for line in found for content in line["contents"]]
    assert contents == [delivery_digest(message).hex() for message in messages]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert script.calls["WhoAmI"] == 1


async def test_what_comes_again_after_a_reconnect_has_lines_of_its_own(tmp_path: Path) -> None:
    kept = tmp_path / "receipts.jsonl"
    script = Script(log=[record(number) for number in range(6)], batch_size=2, break_after=[2])
    async with (
        running_exchange(script) as endpoint,
        client(endpoint) as exchange,
        exchange.subscribe("t", "p", limit=6, reconnect=QUICK, receipts=kept) as stream,
    ):
        assert len([delivery async for delivery in stream]) == 6
    assert len(script.opens) == 2
    assert sum(len(line["contents"]) for line in lines(kept)) >= 6


async def test_a_line_for_each_publish_call_with_what_was_accepted(tmp_path: Path) -> None:
    kept = tmp_path / "receipts.jsonl"
    bare = record(9)
    del bare.attributes["dataclassification"]
    async with running_exchange(Script()) as endpoint, client(endpoint) as exchange:
        await exchange.publish("t", [record(1), bare, record(2)], receipts=kept)
        batches = cut([record(3), record(4)], max_records=1)
        async for outcomes in exchange.publish_stream("t", batches, receipts=kept):
            assert lines(kept)[-1]["contents"] == published(record(int(outcomes[0].id)))
    assert [(line["kind"], line["receipt"], line["contents"]) for line in lines(kept)] == [
        ("publish", b"of a call", published(record(1), record(2))),
        ("publish", b"of a call", published(record(3))),
        ("publish", b"of a call", published(record(4))),
    ]


async def test_without_the_option_nobody_is_asked() -> None:
    script = Script()
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        (outcome,) = await exchange.publish("t", [record(1)])
    assert outcome.receipt == b"of a call"
    assert "WhoAmI" not in script.calls


async def test_a_file_that_cannot_be_opened_stops_it_before_anything_is_sent(tmp_path: Path) -> None:
    script = Script()
    missing = tmp_path / "missing" / "receipts.jsonl"
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        with pytest.raises(FileNotFoundError):
            await exchange.publish("t", [record(1)], receipts=missing)
        with pytest.raises(FileNotFoundError):
            async for _ in exchange.publish_stream("t", [[record(1)]], receipts=missing):
                pass
        with pytest.raises(FileNotFoundError):
            async with exchange.subscribe("t", "p", receipts=missing):
                pass
    assert script.log == []
    assert script.opens == []


async def test_a_file_that_is_full_hands_nothing_on_that_is_not_in_it() -> None:
    script = Script(log=[record(1)])
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        with pytest.raises(OSError, match="No space left") as full:
            async with exchange.subscribe("t", "p", receipts=Path("/dev/full")) as stream:
                async for _ in stream:
                    raise AssertionError("it was handed on")
        assert full.value.filename == "/dev/full"


async def test_receipts_are_for_whoever_the_exchange_says_the_caller_is(tmp_path: Path) -> None:
    """Without an answer nothing is published: a line without a holder could not be checked."""
    script = Script()
    script.refusals.append((grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED"))
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        with pytest.raises(EntenteClientError):
            await exchange.publish("t", [record(1)], receipts=tmp_path / "receipts.jsonl")
    assert script.log == []


class Holding:
    """Whoever the exchange says the caller is, without an exchange; counts how often it was asked."""

    agency, subject = "ems", "p-1"

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self) -> Holding:
        self.asked += 1
        return self


def batch(number: int) -> exchange_pb2.Batch:
    """A batch of one record."""
    delivery = exchange_pb2.Delivery(record=record(number))
    return exchange_pb2.Batch(deliveries=[delivery], receipt=b"of batch %d" % number)


async def test_a_client_that_keeps_receipts_keeps_all_but_those_that_have_a_file_of_their_own(
    tmp_path: Path,
) -> None:
    kept, own = tmp_path / "receipts.jsonl", tmp_path / "own.jsonl"
    script = Script(log=[record(7)])
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        exchange.keep_receipts(kept)
        await exchange.publish("t", [record(1)])
        await exchange.publish("t", [record(2)], receipts=own)
        async for _ in exchange.publish_stream("t", [[record(3)]]):
            pass
        async with exchange.subscribe("t", "p", limit=1) as stream:
            assert [each.record.id async for each in stream if each.record is not None] == ["7"]
    told = [(line["kind"], line["contents"]) for line in lines(kept)]
    assert told[:2] == [("publish", published(record(1))), ("publish", published(record(3)))]
    assert [kind for kind, _ in told[2:]] == ["delivery"]
    assert [line["contents"] for line in lines(own)] == [published(record(2))]


async def test_two_files_hold_the_newest_receipts_within_their_bound(tmp_path: Path) -> None:
    kept, before = tmp_path / "receipts.jsonl", tmp_path / "receipts.jsonl.1"
    holding, most_bytes = Holding(), 2_000
    file = ReceiptFile(kept, holding, most_bytes=most_bytes)
    first, second = TopicReceipts(file, "t", shared=True), TopicReceipts(file, "t", shared=True)
    await first.open()
    await second.open()
    for number in range(40):
        (first, second)[number % 2].add_batch(batch(number))
        first.close()
        assert sum(path.stat().st_size for path in (kept, before) if path.exists()) <= most_bytes
    file.close()
    found = [line["receipt"] for path in (before, kept) for line in lines(path)]
    assert found == [b"of batch %d" % number for number in range(40 - len(found), 40)]
    assert len(lines(before)) >= 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in (kept, before)} == {0o600}
    assert holding.asked == 1


async def test_a_line_that_was_not_finished_is_taken_back(tmp_path: Path) -> None:
    kept = tmp_path / "receipts.jsonl"
    for torn in ("", '{"ag', '{"agency":"' + "x" * 200_000):
        file = ReceiptFile(kept, Holding())
        topic = TopicReceipts(file, "t")
        await topic.open()
        topic.add_batch(batch(1))
        topic.close()
        with kept.open("a") as end:
            end.write(torn)
    await topic.open()
    topic.close()
    assert [line["receipt"] for line in lines(kept)] == [b"of batch 1"] * 3


@pytest.mark.parametrize("content", ["a token", "line\nanother"])
async def test_a_file_of_something_else_is_left_as_it_is(tmp_path: Path, content: str) -> None:
    other = tmp_path / "other"
    other.write_text(content)
    with pytest.raises(OSError, match="something else than receipts"):
        await ReceiptFile(other, Holding()).open()
    assert other.read_text() == content


async def test_a_disk_that_is_full_leaves_whole_lines_only(tmp_path: Path) -> None:
    kept = tmp_path / "receipts.jsonl"
    topic = TopicReceipts(ReceiptFile(kept, Holding()), "t")
    await topic.open()
    topic.add_batch(batch(1))
    before, limits = kept.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before + 20, limits[1]))
        with pytest.raises(OSError, match=r"receipts\.jsonl"):
            topic.add_batch(batch(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert kept.stat().st_size == before
    topic.add_batch(batch(3))
    topic.close()
    assert [line["receipt"] for line in lines(kept)] == [b"of batch 1", b"of batch 3"]
