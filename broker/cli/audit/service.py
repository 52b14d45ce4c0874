"""The ledger as the exchange's own service Ledger shows it to the caller: in the same values as it is read from files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.cli.command import call
from broker.cli.settings import Given

if TYPE_CHECKING:
    from broker.cli.audit.who_saw import Evidence
    from broker.core.audit.proofs import PublisherPart, ReceiverPart, RecordPart
    from broker.model.audit import Publication, Reception, Sighting
    from broker.model.ledger import JsonValue
    from protos.entente.v1 import ledger_pb2

HIDDEN = -1
"""A partition or offset that the caller may not see."""


def ask_who_saw(given: Given, source: str, record_id: str) -> Evidence:
    """As far as the caller may know. Raises CommandFailed."""
    from broker.cli.audit.who_saw import Evidence
    from broker.model.audit import Sightings

    found = call(given, lambda client: client.ledger.who_saw(source, record_id))
    notes = call(given, lambda client: client.ledger.checkpoints())
    publications = tuple(_publication(each) for each in found.publications)
    sightings = tuple(_sighting(each) for each in found.sightings)
    hashes = {(e.entry.instance, e.entry.index): e.entry.leaf_hash for e in found.publications}
    hashes |= {(e.entry.instance, e.entry.index): e.entry.leaf_hash for e in found.sightings}
    checkpoints = {
        each.instance: each.note.encode()
        for each in notes
        if any(instance == each.instance for instance, _ in hashes)
    }
    return Evidence(Sightings(publications, sightings, found.complete), hashes, checkpoints, _exchange(notes))


def ask_what_saw(given: Given, agency: str, topic: str | None, zone_minutes: int) -> list[Reception]:
    """As far as the caller may know. Raises CommandFailed."""
    found = call(given, lambda client: client.ledger.what_saw(agency, topic or "", zone_minutes))
    return [_reception(each) for each in found]


def ask_proof(
    given: Given, instance: str, index: int, part: ReceiverPart | RecordPart | PublisherPart | None
) -> bytes:
    """The proof that the exchange makes. Raises CommandFailed."""
    from broker.core.audit.proofs import ReceiverPart, RecordPart
    from protos.entente.v1 import ledger_pb2

    subscription = record = None
    if isinstance(part, ReceiverPart):
        subscription = ledger_pb2.SubscriptionPart(
            subject=part.subject, subscription=part.subscription, stream=part.stream or ""
        )
    elif isinstance(part, RecordPart):
        record = ledger_pb2.RecordPart(source=part.source, id=part.id)
    return call(
        given,
        lambda client: client.ledger.prove(instance, index, subscription=subscription, record=record),
    )


def _publication(each: ledger_pb2.RecordPublication) -> Publication:
    from broker.model.audit import Publication

    partition, offset = _place(each)
    return Publication(
        source=each.source,
        id=each.id,
        type=each.type,
        owner=each.owner,
        labels=_object(each.labels),
        topic=each.topic,
        partition=partition,
        offset=offset,
        duplicate=each.duplicate,
        instance=each.entry.instance,
        index=each.entry.index,
        time_ms=each.time.ToMilliseconds(),
    )


def _sighting(each: ledger_pb2.RecordSighting) -> Sighting:
    from broker.model.audit import Sighting

    partition, offset = _place(each)
    acknowledged = each.HasField("acknowledge_time")
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
        treatments=_object(each.treatments),
        decision=_object(each.decision),
        revision=each.revision,
        engine=each.engine,
        topic=each.topic,
        partition=partition,
        offset=offset,
        acknowledged=each.acknowledged,
        acknowledged_ms=each.acknowledge_time.ToMilliseconds() if acknowledged else None,
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
        labels=_object(each.labels),
        effect=_effect(each.effect),
        records=each.records,
        handed_out=each.handed_out,
        entries=each.entries,
        first_ms=each.first_time.ToMilliseconds(),
        last_ms=each.last_time.ToMilliseconds(),
    )


def _place(each: ledger_pb2.RecordPublication | ledger_pb2.RecordSighting) -> tuple[int, int]:
    return (each.place.partition, each.place.offset) if each.HasField("place") else (HIDDEN, HIDDEN)


def _effect(effect: int) -> str:
    from protos.entente.v1 import exchange_pb2

    return exchange_pb2.Effect.Name(effect).removeprefix("EFFECT_").lower()  # type: ignore[arg-type]


def _object(text: str) -> dict[str, JsonValue]:
    """A JSON object; what the exchange leaves out is empty."""
    import json

    value = json.loads(text) if text else {}
    return value if isinstance(value, dict) else {}


def _exchange(notes: list[ledger_pb2.LedgerCheckpoint]) -> str:
    """The exchange's name as its checkpoints' origins have it; "" without any."""
    for each in notes:
        return each.note.partition("\n")[0].removesuffix(f"/{each.instance}")
    return ""
