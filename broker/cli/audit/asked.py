"""What the exchange itself answers about its ledger, as the same values that reading an export gives.

It answers as far as the caller may see: an auditor everything, an agency's administrators their part. What they may not
see is empty, or absent.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.core.audit.holders import CheckedReceipt
    from broker.core.audit.proofs import ReceiverPart, RecordPart
    from broker.core.ledger.leaf import Leaf
    from broker.model.audit import Publication, Reception, Sighting, Sightings
    from broker.model.ledger import EncodedEntry
    from connectors.client import Client
    from protos.entente.v1 import ledger_pb2

Hashes = dict[tuple[str, int], bytes]
"""Leaf hashes by instance and index."""

HIDDEN = -1
"""A partition or offset that the caller may not see."""


async def checkpoints(client: Client) -> dict[str, bytes]:
    """Each instance's newest signed checkpoint, by instance."""
    return {each.instance: each.note.encode() for each in await client.ledger.checkpoints()}


async def who_saw(client: Client, source: str, record_id: str) -> tuple[Sightings, Hashes]:
    """Who was handed a record, and the hashes of the entries that say so."""
    from broker.model.audit import Sightings

    found = await client.ledger.who_saw(source, record_id)
    hashes = {
        (each.entry.instance, each.entry.index): each.entry.leaf_hash
        for rows in (found.publications, found.sightings)
        for each in rows
    }
    publications = tuple(_publication(each) for each in found.publications)
    return Sightings(publications, tuple(_sighting(each) for each in found.sightings), found.complete), hashes


async def what_saw(client: Client, agency: str, topic: str | None, zone_minutes: int) -> list[Reception]:
    """What an agency received."""
    return [_reception(each) for each in await client.ledger.what_saw(agency, topic or "", zone_minutes)]


async def prove(client: Client, instance: str, index: int, part: ReceiverPart | RecordPart | None) -> bytes:
    """A proof as a file's content."""
    from broker.core.audit.proofs import ReceiverPart, RecordPart
    from protos.entente.v1 import ledger_pb2

    match part:
        case ReceiverPart():
            chosen = ledger_pb2.SubscriptionPart(
                subject=part.subject, subscription=part.subscription, stream=part.stream or ""
            )
            return await client.ledger.prove(instance, index, subscription=chosen)
        case RecordPart():
            record = ledger_pb2.RecordPart(source=part.source, id=part.id)
            return await client.ledger.prove(instance, index, record=record)
    return await client.ledger.prove(instance, index)


async def check_receipts(client: Client, receipts: Sequence[bytes]) -> list[CheckedReceipt]:
    """What the exchange says to the caller's own receipts, in order; no more than a call takes."""
    return [_receipt(each) for each in await client.ledger.check_receipts(receipts)]


def entry_object(entry: ledger_pb2.LedgerEntry) -> dict[str, Any]:
    """An entry, as far as it is shown, as an object."""
    from broker.cli.audit.times import format_ms

    return {
        "entry": f"{entry.instance}/{entry.index}",
        "epoch": entry.epoch,
        "kind": entry.kind,
        "time": format_ms(entry.time.ToMilliseconds()),
        "leaf_hash": entry.leaf_hash.hex(),
        "erased": entry.erased,
        "parts": {part.name: json.loads(part.content) for part in entry.parts},
        "reduced": [part.name for part in entry.parts if part.reduced],
    }


def as_entry(leaf: Leaf, encoded: EncodedEntry, parts: dict[str, Any]) -> dict[str, Any]:
    """An entry that was read, as the same object."""
    from broker.cli.audit.times import format_ms
    from broker.core.merkle.hashing import leaf_hash

    return {
        "entry": f"{leaf.instance}/{leaf.index}",
        "epoch": leaf.epoch,
        "kind": leaf.kind,
        "time": format_ms(leaf.time_ms),
        "leaf_hash": leaf_hash(encoded.leaf).hex(),
        "erased": not encoded.openings,
        "parts": parts,
        "reduced": [],
    }


def _receipt(each: ledger_pb2.CheckedReceipt) -> CheckedReceipt:
    from broker.core.audit.holders import CheckedReceipt, Standing
    from broker.model.ledger import Place
    from protos.entente.v1 import ledger_pb2

    numbers = {
        ledger_pb2.ReceiptStanding.Value(f"RECEIPT_STANDING_{standing.name}"): standing
        for standing in Standing
    }
    entry = each.entry
    return CheckedReceipt(
        numbers.get(each.standing, Standing.UNKNOWN),
        Place(entry.instance, 0, entry.index, entry.leaf_hash) if each.HasField("entry") else None,
        tuple(each.proofs),
        tuple(each.digest_keys),
    )


def _publication(each: ledger_pb2.RecordPublication) -> Publication:
    from broker.model.audit import Publication

    return Publication(
        source=each.source,
        id=each.id,
        type=each.type,
        owner=each.owner,
        labels=_json(each.labels),
        topic=each.topic,
        partition=each.place.partition if each.HasField("place") else HIDDEN,
        offset=each.place.offset if each.HasField("place") else HIDDEN,
        duplicate=each.duplicate,
        instance=each.entry.instance,
        index=each.entry.index,
        time_ms=each.time.ToMilliseconds(),
    )


def _sighting(each: ledger_pb2.RecordSighting) -> Sighting:
    from broker.model.audit import Sighting

    acknowledged_ms = each.acknowledge_time.ToMilliseconds() if each.HasField("acknowledge_time") else None
    return Sighting(
        time_ms=each.time.ToMilliseconds(),
        agency=each.agency,
        subject=each.subject,
        token=each.token,
        certificate=each.certificate or None,
        purpose=each.purpose,
        subscription=each.subscription,
        stream=each.stream,
        effect=_effect(each.effect),
        treatments=_json(each.treatments),
        decision=_json(each.decision),
        revision=each.revision,
        engine=each.engine,
        topic=each.topic,
        partition=each.place.partition if each.HasField("place") else HIDDEN,
        offset=each.place.offset if each.HasField("place") else HIDDEN,
        acknowledged=each.acknowledged,
        acknowledged_ms=acknowledged_ms,
        ended=each.ended or None,
        instance=each.entry.instance,
        index=each.entry.index,
    )


def _reception(each: ledger_pb2.AgencyReception) -> Reception:
    from broker.model.audit import Reception

    return Reception(
        day=each.day,
        topic=each.topic,
        purpose=each.purpose,
        type=each.type,
        owner=each.owner,
        labels=_json(each.labels),
        effect=_effect(each.effect),
        records=each.records,
        handed_out=each.handed_out,
        entries=each.entries,
        first_ms=each.first_time.ToMilliseconds(),
        last_ms=each.last_time.ToMilliseconds(),
    )


def _effect(value: Any) -> str:
    from protos.entente.v1 import exchange_pb2

    return exchange_pb2.Effect.Name(value).removeprefix("EFFECT_").lower()


def _json(text: str) -> dict[str, Any]:
    value = json.loads(text) if text else {}
    return value if isinstance(value, dict) else {}
