"""Who saw a record, and what an agency saw."""

from __future__ import annotations

from broker.model.audit import EntryQuery, Reception, Sightings
from broker.ports.audit_index import AuditIndex


async def who_saw(index: AuditIndex, source: str, record_id: str) -> Sightings:
    """Everybody who was handed the record, or a notice of it, in the order of time. Raises StorageUnavailable."""
    publications = await index.publications(source, record_id)
    sightings = await index.sightings(source, record_id)
    return Sightings(tuple(publications), tuple(sightings), await _is_complete(index))


async def what_saw(
    index: AuditIndex,
    agency: str,
    topic: str | None = None,
    zone_minutes: int = 0,
    owner: str | None = None,
) -> list[Reception]:
    """What an agency received, ordered by day, topic, purpose, type and labels. Raises StorageUnavailable.

    zone_minutes: where days begin, in minutes east of UTC. owner: only this owner's records.
    """
    return list(await index.receptions(agency, topic, zone_minutes, owner))


async def _is_complete(index: AuditIndex) -> bool:
    """Whether nothing can be missing: all instances from their first entry, and no entry without its openings."""
    for covered in await index.coverage():
        if covered.begin:
            return False
        erased = EntryQuery(covered.instance, opened=False, limit=1)
        if await index.entries(erased):
            return False
    return True
