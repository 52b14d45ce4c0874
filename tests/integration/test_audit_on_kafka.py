"""Two instances of one exchange on Kafka: either answers for the ledgers of both, and looks up the other's receipts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from protos.entente.v1 import exchange_pb2, ledger_pb2
from protos.entente.v1.ledger_pb2_grpc import LedgerStub
from tests.services.broker import BrokerProcess, vulnerability

pytestmark = [pytest.mark.kafka, pytest.mark.opa, pytest.mark.slow]

Pair = tuple[BrokerProcess, BrokerProcess]


@pytest.fixture(scope="module")
def pair(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The first keeps its index in a directory of its own, the second for this run only."""
    root = tmp_path_factory.mktemp("pair")
    first = BrokerProcess(root / "first", kafka=kafka_bootstrap)
    second = BrokerProcess.beside(first, root / "second")
    first.change({"backend": {**first._backend_with(), "data_dir": "data"}})
    try:
        for each in (first, second):
            each.start()
        yield first, second
    finally:
        for each in (first, second):
            each.stop()


async def listed(broker: BrokerProcess) -> list[tuple[str, int, str]]:
    """Instance, index and kind of every entry, as this broker lists them."""
    found = []
    request = ledger_pb2.ListEntriesRequest(page_size=20)
    async with broker.channel() as channel:
        while True:
            page = await LedgerStub(channel).ListEntries(
                request, metadata=broker.metadata("auditor-1"), timeout=60
            )
            found += [(each.instance, each.index, each.kind) for each in page.entries]
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token


async def published(broker: BrokerProcess, name: str) -> exchange_pb2.PublishAcknowledgement:
    async with broker.channel() as channel:
        (result,) = await broker.publish(channel, [vulnerability(name)])
        return result.accepted


async def test_either_instance_answers_for_both(pair: Pair) -> None:
    first, second = pair
    receipts = [(await published(first, "on-first")).receipt, (await published(second, "on-second")).receipt]
    for broker in pair:
        found = await listed(broker)
        for instance in ("broker", "second"):
            own = [(index, kind) for name, index, kind in found if name == instance]
            assert [index for index, _ in own] == list(range(len(own)))
            assert "publish" in [kind for _, kind in own]
        async with broker.channel() as channel:
            request = ledger_pb2.WhoSawRequest(source="//cyber-centre/test", id="on-second")
            stub, metadata = LedgerStub(channel), broker.metadata("auditor-1")
            seen = await stub.WhoSaw(request, metadata=metadata, timeout=60)
            assert [each.entry.instance for each in seen.publications] == ["second"]
            asked = ledger_pb2.CheckReceiptsRequest(receipts=receipts)
            metadata = broker.metadata("cyber-centre")
            pending = True
            while pending:
                answer = await stub.CheckReceipts(asked, metadata=metadata, timeout=60)
                pending = any(
                    each.standing == ledger_pb2.RECEIPT_STANDING_PENDING for each in answer.receipts
                )
            assert [each.standing for each in answer.receipts] == [ledger_pb2.RECEIPT_STANDING_LOGGED] * 2
            assert [each.entry.instance for each in answer.receipts] == ["broker", "second"]
    assert [each.name for each in (first.directory / "data" / "audit-index").glob("*.sqlite")] == [
        "broker.sqlite"
    ]


async def test_the_index_outlives_its_broker_and_goes_on(pair: Pair) -> None:
    first, _ = pair
    before = await listed(first)
    index = first.directory / "data" / "audit-index" / "broker.sqlite"
    mode, inode = index.stat().st_mode, index.stat().st_ino
    assert (mode & 0o077, index.parent.stat().st_mode & 0o077) == (0, 0)
    assert first.stop() == 0
    first.start()
    after = await listed(first)
    assert index.stat().st_ino == inode
    assert set(after) > set(before)
