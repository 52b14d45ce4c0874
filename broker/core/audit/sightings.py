"""Who saw a record, and what an agency saw."""

from __future__ import annotations

from broker.model.audit import Reception, Sightings
from broker.ports.audit_index import AuditIndex


async def who_saw(index: AuditIndex, source: str, record_id: str) -> Sightings:
    """Everybody who was handed the record, or a notice of it, in the order of time. Raises StorageUnavailable."""
    raise NotImplementedError


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
    raise NotImplementedError
