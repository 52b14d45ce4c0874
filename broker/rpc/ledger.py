"""The Ledger service."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from google.protobuf.timestamp_pb2 import Timestamp

from broker.core.audit.desk import AuditDesk, EntriesQuestion, Part
from broker.core.audit.holders import HolderDesk
from broker.core.audit.proofs import ReceiverPart, RecordPart
from broker.core.audit.records import RecordReplay, ReplayQuestion
from broker.core.audit.seen import SightingsDesk
from broker.errors import EntenteError, Reason
from broker.model.principal import SubjectClass
from broker.rpc import ledger_messages as shown
from broker.rpc.call import Call
from broker.rpc.quotas import Quotas
from broker.rpc.times import milliseconds
from protos.entente.v1 import ledger_pb2

RECEIPTS_MOST = 100


class LedgerServicer:
    """Translates between protobuf and what the desks find."""

    def __init__(
        self,
        *,
        desk: AuditDesk,
        sightings: SightingsDesk,
        holders: HolderDesk,
        records: RecordReplay,
        quotas: Quotas,
        slow_reader_s: float,
        message_bytes: int,
    ) -> None:
        self._desk = desk
        self._sightings = sightings
        self._holders = holders
        self._records = records
        self._quotas = quotas
        self._slow_reader_s = slow_reader_s
        self._message_bytes = message_bytes

    async def get_checkpoint(self, call: Call) -> None:
        """Ledger.GetCheckpoint."""
        ledger_pb2.GetCheckpointRequest.FromString(call.request)
        checkpoints = [
            ledger_pb2.LedgerCheckpoint(instance=instance, note=note.decode())
            for instance, note in await self._desk.checkpoints()
        ]
        call.response = ledger_pb2.GetCheckpointResponse(checkpoints=checkpoints).SerializeToString()

    async def list_entries(self, call: Call) -> None:
        """Ledger.ListEntries."""
        request = ledger_pb2.ListEntriesRequest.FromString(call.request)
        question = EntriesQuestion(
            instance=request.instance,
            kinds=tuple(request.kinds),
            since_ms=_time(request, "since"),
            before_ms=_time(request, "until"),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        page = await self._desk.entries(call.caller, question)
        call.response = ledger_pb2.ListEntriesResponse(
            entries=[shown.entry(each) for each in page.entries], next_page_token=page.next_token
        ).SerializeToString()

    async def who_saw(self, call: Call) -> None:
        """Ledger.WhoSaw."""
        request = ledger_pb2.WhoSawRequest.FromString(call.request)
        page = await self._sightings.who_saw(
            call.caller, request.source, request.id, page_size=request.page_size, token=request.page_token
        )
        call.response = ledger_pb2.WhoSawResponse(
            publications=[shown.publication(each, page) for each in page.publications],
            sightings=[shown.sighting(each, page) for each in page.sightings],
            complete=page.complete,
            next_page_token=page.next_token,
        ).SerializeToString()

    async def what_saw(self, call: Call) -> None:
        """Ledger.WhatSaw."""
        request = ledger_pb2.WhatSawRequest.FromString(call.request)
        page = await self._sightings.what_saw(
            call.caller,
            request.agency,
            request.topic,
            zone_minutes=request.zone_minutes,
            page_size=request.page_size,
            token=request.page_token,
        )
        call.response = ledger_pb2.WhatSawResponse(
            receptions=[shown.reception(each) for each in page.receptions], next_page_token=page.next_token
        ).SerializeToString()

    async def prove_entry(self, call: Call) -> None:
        """Ledger.ProveEntry."""
        request = ledger_pb2.ProveEntryRequest.FromString(call.request)
        proof = await self._desk.prove(call.caller, request.instance, request.index, _part(request))
        call.response = ledger_pb2.ProveEntryResponse(proof=proof).SerializeToString()

    async def check_receipts(self, call: Call) -> None:
        """Ledger.CheckReceipts."""
        request = ledger_pb2.CheckReceiptsRequest.FromString(call.request)
        if not 1 <= len(request.receipts) <= RECEIPTS_MOST:
            raise EntenteError(Reason.REQUEST_INVALID, f"receipts are not 1 to {RECEIPTS_MOST}")
        answers = await self._holders.check(call.caller, request.receipts)
        call.response = ledger_pb2.CheckReceiptsResponse(
            receipts=[shown.receipt(each) for each in answers]
        ).SerializeToString()

    async def replay_records(self, call: Call) -> None:
        """Ledger.ReplayRecords."""
        with self._quotas.stream(call.caller.agency):
            message = await call.read() or b""
            if len(message) > self._message_bytes:
                raise EntenteError(Reason.MESSAGE_TOO_LARGE, str(self._message_bytes))
            question = _replay_question(ledger_pb2.ReplayRecordsRequest.FromString(message))
            async with aclosing(self._records.replay(call.caller, question)) as parts:
                async for part in parts:
                    response = shown.replayed(part)
                    try:
                        async with asyncio.timeout(self._slow_reader_s):
                            await call.write(response.SerializeToString())
                    except TimeoutError:
                        raise EntenteError(Reason.CONSUMER_TOO_SLOW, f"{self._slow_reader_s:g}") from None


def _part(request: ledger_pb2.ProveEntryRequest) -> Part | None:
    match request.WhichOneof("part"):
        case "subscription":
            part = request.subscription
            return ReceiverPart(part.subject, part.subscription, part.stream or None)
        case "record":
            return RecordPart(request.record.source, request.record.id)
        case _:
            return None


def _replay_question(request: ledger_pb2.ReplayRecordsRequest) -> ReplayQuestion:
    subject = None
    if request.HasField("seen_by"):
        seen_by = request.seen_by
        roles = tuple(sorted(set(seen_by.roles)))
        attributes = tuple(sorted(seen_by.attributes.items()))
        subject = SubjectClass(seen_by.agency, roles, attributes, seen_by.purpose)
    return ReplayQuestion(
        topic=request.topic,
        since_ms=_time(request, "since"),
        before_ms=_time(request, "until"),
        limit=request.limit,
        subject=subject,
        revision=request.revision,
        at_ms=_time(request, "at"),
    )


def _time(request: ledger_pb2.ListEntriesRequest | ledger_pb2.ReplayRecordsRequest, name: str) -> int | None:
    """Milliseconds of a field that may be absent."""
    if name not in {field.name for field, _ in request.ListFields()}:
        return None
    time: Timestamp = getattr(request, name)
    return milliseconds(time)
