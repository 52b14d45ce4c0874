"""What the Ledger service answers, as protobuf messages."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from broker.core.audit.holders import CheckedReceipt
from broker.core.audit.records import ReplayedRecord
from broker.core.audit.seen import SightingsPage
from broker.core.audit.view import ShownEntry
from broker.model.audit import Publication, Reception, Sighting
from protos.entente.v1 import exchange_pb2, ledger_pb2
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent


def entry(shown: ShownEntry) -> ledger_pb2.LedgerEntry:
    """An entry as far as it is shown."""
    leaf = shown.leaf
    message = ledger_pb2.LedgerEntry(
        instance=leaf.instance,
        epoch=leaf.epoch,
        index=leaf.index,
        kind=leaf.kind,
        leaf_hash=shown.leaf_hash,
        parts=[
            ledger_pb2.LedgerPart(name=part.name, content=_json(part.value), reduced=part.reduced)
            for part in shown.parts
        ],
        erased=shown.erased,
    )
    message.time.FromMilliseconds(leaf.time_ms)
    return message


def publication(found: Publication, page: SightingsPage) -> ledger_pb2.RecordPublication:
    """That a record was stored."""
    message = ledger_pb2.RecordPublication(
        source=found.source,
        id=found.id,
        type=found.type,
        owner=found.owner,
        labels=_json(found.labels),
        topic=found.topic,
        place=_place(found.partition, found.offset) if page.whole else None,
        duplicate=found.duplicate,
        entry=_entry(found.instance, found.index, page.hashes[found.instance, found.index]),
    )
    message.time.FromMilliseconds(found.time_ms)
    return message


def sighting(found: Sighting, page: SightingsPage) -> ledger_pb2.RecordSighting:
    """That somebody was handed a record."""
    message = ledger_pb2.RecordSighting(
        agency=found.agency,
        subject=found.subject,
        token=found.token,
        certificate=found.certificate or "",
        purpose=found.purpose,
        subscription=found.subscription,
        stream=found.stream,
        effect=_effect(found.effect),
        treatments=_json(found.treatments),
        decision=_json(found.decision),
        revision=found.revision,
        engine=found.engine,
        topic=found.topic,
        place=_place(found.partition, found.offset) if page.whole else None,
        acknowledged=found.acknowledged,
        ended=found.ended or "",
        entry=_entry(found.instance, found.index, page.hashes[found.instance, found.index]),
    )
    message.time.FromMilliseconds(found.time_ms)
    if found.acknowledged_ms is not None:
        message.acknowledge_time.FromMilliseconds(found.acknowledged_ms)
    return message


def reception(found: Reception) -> ledger_pb2.AgencyReception:
    """What an agency received in a day, of one kind."""
    message = ledger_pb2.AgencyReception(
        day=found.day,
        topic=found.topic,
        purpose=found.purpose,
        type=found.type,
        owner=found.owner,
        labels=_json(found.labels) if found.labels else "",
        effect=_effect(found.effect),
        records=found.records,
        handed_out=found.handed_out,
        entries=found.entries,
    )
    message.first_time.FromMilliseconds(found.first_ms)
    message.last_time.FromMilliseconds(found.last_ms)
    return message


def receipt(checked: CheckedReceipt) -> ledger_pb2.CheckedReceipt:
    """What the ledger says to a receipt."""
    message = ledger_pb2.CheckedReceipt(
        standing=ledger_pb2.ReceiptStanding.Value(f"RECEIPT_STANDING_{checked.standing.name}"),
        proofs=checked.proofs,
        digest_keys=checked.digest_keys,
    )
    if (place := checked.place) is not None:
        message.entry.CopyFrom(_entry(place.instance, place.index, place.leaf_hash))
    return message


def replayed(records: Sequence[ReplayedRecord]) -> ledger_pb2.ReplayRecordsResponse:
    """Some replayed records."""
    return ledger_pb2.ReplayRecordsResponse(records=[_replayed(record) for record in records])


def _replayed(record: ReplayedRecord) -> ledger_pb2.ReplayedRecord:
    message = ledger_pb2.ReplayedRecord(place=_place(record.partition, record.offset))
    message.recorded_time.FromMilliseconds(record.recorded_ms)
    if record.whole is not None:
        message.whole.CopyFrom(CloudEvent.FromString(record.whole))
    if record.delivery is not None:
        message.delivery.CopyFrom(exchange_pb2.Batch.FromString(record.delivery).deliveries[0])
    return message


def _place(partition: int, offset: int) -> ledger_pb2.LogPlace:
    return ledger_pb2.LogPlace(partition=partition, offset=offset)


def _entry(instance: str, index: int, leaf_hash: bytes) -> ledger_pb2.EntryPlace:
    return ledger_pb2.EntryPlace(instance=instance, index=index, leaf_hash=leaf_hash)


def _effect(name: str) -> exchange_pb2.Effect.ValueType:
    return exchange_pb2.Effect.Value(f"EFFECT_{name.upper()}")


def _json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
