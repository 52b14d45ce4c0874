"""Reading the ledger through the exchange, for auditors, for agencies' administrators, and for holders of receipts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from connectors.calls import Caller
from connectors.cloudevents import to_timestamp
from protos.entente.v1 import ledger_pb2

if TYPE_CHECKING:
    from protos.entente.v1.ledger_pb2_grpc import LedgerAsyncStub

RECEIPTS_A_CALL = 100
"""The most receipts that one call looks up."""


class Auditing:
    """The service Ledger as the caller may use it; every method raises EntenteClientError."""

    def __init__(self, stub: LedgerAsyncStub, caller: Caller) -> None:
        self._stub = stub
        self._caller = caller

    async def checkpoints(self) -> list[ledger_pb2.LedgerCheckpoint]:
        """The newest signed checkpoint of each instance."""
        request = ledger_pb2.GetCheckpointRequest()
        return list((await self._caller.unary(self._stub.GetCheckpoint, request)).checkpoints)

    async def entries(
        self,
        *,
        instance: str = "",
        kinds: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncIterator[ledger_pb2.LedgerEntry]:
        """Entries by instance and index, page by page."""
        request = ledger_pb2.ListEntriesRequest(instance=instance, kinds=kinds)
        if since is not None:
            request.since.CopyFrom(to_timestamp(since))
        if until is not None:
            request.until.CopyFrom(to_timestamp(until))
        while True:
            page = await self._caller.unary(self._stub.ListEntries, request)
            for entry in page.entries:
                yield entry
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def who_saw(self, source: str, record_id: str) -> ledger_pb2.WhoSawResponse:
        """Who was handed a record, all pages in one."""
        request = ledger_pb2.WhoSawRequest(source=source, id=record_id)
        found = await self._caller.unary(self._stub.WhoSaw, request)
        while found.next_page_token:
            request.page_token = found.next_page_token
            page = await self._caller.unary(self._stub.WhoSaw, request)
            found.sightings.extend(page.sightings)
            found.next_page_token = page.next_page_token
        return found

    async def what_saw(
        self, agency: str, topic: str = "", zone_minutes: int = 0
    ) -> list[ledger_pb2.AgencyReception]:
        """What an agency received, all pages in one."""
        request = ledger_pb2.WhatSawRequest(agency=agency, topic=topic, zone_minutes=zone_minutes)
        found: list[ledger_pb2.AgencyReception] = []
        while True:
            page = await self._caller.unary(self._stub.WhatSaw, request)
            found += page.receptions
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def prove(
        self,
        instance: str,
        index: int,
        *,
        subscription: ledger_pb2.SubscriptionPart | None = None,
        record: ledger_pb2.RecordPart | None = None,
    ) -> bytes:
        """A proof of an entry or of a part of it, as a file's content."""
        request = ledger_pb2.ProveEntryRequest(
            instance=instance, index=index, subscription=subscription, record=record
        )
        return (await self._caller.unary(self._stub.ProveEntry, request)).proof

    async def check_receipts(self, receipts: Sequence[bytes]) -> list[ledger_pb2.CheckedReceipt]:
        """What the ledger says to each of the caller's receipts, up to RECEIPTS_A_CALL, in order."""
        request = ledger_pb2.CheckReceiptsRequest(receipts=receipts)
        return list((await self._caller.unary(self._stub.CheckReceipts, request)).receipts)

    async def replay(
        self, request: ledger_pb2.ReplayRecordsRequest
    ) -> AsyncIterator[ledger_pb2.ReplayedRecord]:
        """The records of a topic as the request asks for them."""
        call = self._stub.ReplayRecords(request, metadata=await self._caller.metadata())
        with self._caller.reading(call):
            async for response in call:
                for record in response.records:
                    yield record
