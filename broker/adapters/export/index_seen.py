"""Questions to an index: records and who was handed them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import orjson

from broker.adapters.export.schema import ENTRY_BITS
from broker.core.ledger.runs import RUN_PLACES
from broker.model.audit import Publication, Reception, Sighting

_PLACES_AT_ONCE = 200
_PUBLICATIONS = f"""
SELECT r.source, r.id, r.type, p.agency, r.labels, r.topic, r.partition, r.offset, r.duplicate,
    i.name, r.entry - (i.number << {ENTRY_BITS}), e.time_ms
FROM records r
JOIN entries e ON e.entry = r.entry
JOIN instances i ON i.number = r.entry >> {ENTRY_BITS}
JOIN people p ON p.number = e.who
WHERE r.source = ? AND r.id = ? AND r.partition IS NOT NULL
ORDER BY e.time_ms, r.entry, r.n
"""  # noqa: S608 - a constant
_SIGHTINGS = f"""
SELECT e.time_ms, k.agency, v.subject, v.token, v.certificate, k.purpose, v.subscription, v.stream, v.epoch,
    d.content, u.revision, u.engine, rel.entry, i.name, rel.entry - (i.number << {ENTRY_BITS}),
    (SELECT c.cause FROM closings c WHERE c.stream = v.stream)
FROM released rel
JOIN deliveries del ON del.entry = rel.entry
JOIN classes k ON k.number = del.class
JOIN decided x ON x.entry = rel.entry AND x.n = rel.decision
JOIN decisions d ON d.number = x.decision
JOIN receivers v ON v.entry = rel.entry
JOIN entries e ON e.entry = rel.entry
JOIN instances i ON i.number = rel.entry >> {ENTRY_BITS}
JOIN rules u ON u.number = e.rules
WHERE rel.partition = ?1 AND rel.offset BETWEEN ?2 - {RUN_PLACES - 1} AND ?2 AND ?2 < rel.offset + rel.count
    AND k.topic = ?3
ORDER BY e.time_ms, rel.entry, v.n
"""  # noqa: S608 - a constant
# The order of the joins is fixed: with an owner, only that owner's decisions lead to anything, so that the time that it
# takes says nothing of what others handed out.
_RECEPTIONS = """
SELECT date((e.time_ms + ?) / 1000, 'unixepoch') AS day, k.topic, k.purpose, d.record_type, d.owner, d.labels, d.effect,
    sum(x.handed_out), sum(x.handed_out * del.receivers), count(*), min(e.time_ms), max(e.time_ms)
FROM {tables}
JOIN entries e ON e.entry = del.entry
WHERE k.agency = ? AND x.handed_out > 0 AND d.record_type IS NOT NULL{conditions}
GROUP BY day, k.topic, k.purpose, d.record_type, d.owner, d.labels, d.effect
ORDER BY day, k.topic, k.purpose, d.record_type, d.owner, d.labels, d.effect
"""
_BY_CLASS = """classes k CROSS JOIN deliveries del ON del.class = k.number
CROSS JOIN decided x ON x.entry = del.entry CROSS JOIN decisions d ON d.number = x.decision"""
_BY_OWNER = """decisions d CROSS JOIN decided x ON x.decision = d.number
CROSS JOIN deliveries del ON del.entry = x.entry CROSS JOIN classes k ON k.number = del.class"""


def find_publications(connection: sqlite3.Connection, source: str, record_id: str) -> list[Publication]:
    """See AuditIndex.publications."""
    rows = connection.execute(_PUBLICATIONS, (source, record_id)).fetchall()
    return [_publication(*row) for row in rows]


def find_sightings(connection: sqlite3.Connection, source: str, record_id: str) -> list[Sighting]:
    """See AuditIndex.sightings."""
    places = connection.execute(
        "SELECT DISTINCT topic, partition, offset FROM records"
        " WHERE source = ? AND id = ? AND partition IS NOT NULL",
        (source, record_id),
    ).fetchall()
    found = []
    for topic, partition, offset in places:
        for row in connection.execute(_SIGHTINGS, (partition, offset, topic)).fetchall():
            found.append(_sighting(connection, row, topic, partition, offset))
    return sorted(found, key=lambda sighting: (sighting.time_ms, sighting.instance, sighting.index))


def find_names(
    connection: sqlite3.Connection, topic: str, places: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], tuple[str, str]]:
    """See AuditIndex.names."""
    found: dict[tuple[int, int], tuple[str, str]] = {}
    for begin in range(0, len(places), _PLACES_AT_ONCE):
        some = places[begin : begin + _PLACES_AT_ONCE]
        marks = ", ".join(["(?, ?)"] * len(some))
        rows = connection.execute(
            "SELECT r.partition, r.offset, r.source, r.id"  # noqa: S608 - marks only
            f" FROM (VALUES {marks}) w CROSS JOIN records r"
            " WHERE r.topic = ? AND r.partition = w.column1 AND r.offset = w.column2",
            (*(number for place in some for number in place), topic),
        )
        found |= {(partition, offset): (source, name) for partition, offset, source, name in rows}
    return found


def find_receptions(
    connection: sqlite3.Connection, agency: str, topic: str | None, zone_minutes: int, owner: str | None
) -> list[Reception]:
    """See AuditIndex.receptions."""
    values: list[object] = [zone_minutes * 60_000, agency]
    conditions = ""
    for column, value in (("k.topic", topic), ("d.owner", owner)):
        if value is not None:
            conditions += f" AND {column} = ?"
            values.append(value)
    tables = _BY_CLASS if owner is None else _BY_OWNER
    query = _RECEPTIONS.format(tables=tables, conditions=conditions)
    return [_reception(*row) for row in connection.execute(query, values).fetchall()]


def _publication(
    source: str, name: str, kind: str, owner: str, labels: str, topic: str, partition: int, *rest: Any
) -> Publication:
    offset, duplicate, *entry = rest
    where = (topic, partition, offset, bool(duplicate))
    return Publication(source, name, kind, owner, _object(labels), *where, *entry)


def _reception(
    day: str, topic: str, purpose: str, kind: str, owner: str, labels: str, *rest: Any
) -> Reception:
    return Reception(day, topic, purpose, kind, owner, _object(labels), *rest)


def _sighting(
    connection: sqlite3.Connection, row: tuple[Any, ...], topic: str, partition: int, offset: int
) -> Sighting:
    time_ms, agency, subject, token, certificate, purpose, subscription, stream, epoch = row[:9]
    content, revision, engine, entry, instance, index, ended = row[9:]
    decision = orjson.loads(content)
    acknowledged_ms = _acknowledged_ms(connection, stream, partition, offset)
    return Sighting(
        time_ms=time_ms,
        agency=agency,
        subject=subject,
        token=token,
        certificate=certificate,
        purpose=purpose,
        subscription=subscription,
        stream=stream,
        effect=str(decision["output"]["effect"]),
        treatments=decision["output"].get("treatments", {}),
        decision=decision,
        revision=revision,
        engine=engine,
        topic=topic,
        partition=partition,
        offset=offset,
        acknowledged=acknowledged_ms is not None
        or _went_on(connection, (agency, subject, subscription, epoch), partition, offset, entry),
        acknowledged_ms=acknowledged_ms,
        ended=ended,
        instance=instance,
        index=index,
    )


def _acknowledged_ms(connection: sqlite3.Connection, stream: str, partition: int, offset: int) -> int | None:
    """When a stream's acknowledged position first lay beyond a place; positions only grow, so the first is searched for."""
    path = f"$[{partition}]"

    def at(query: str, *values: object) -> tuple[int, int] | None:
        found = connection.execute(
            f"SELECT entry, json_extract(positions, ?) FROM acknowledgements WHERE stream = ? {query}",  # noqa: S608
            (path, stream, *values),
        ).fetchone()
        return None if found is None else (found[0], found[1] if isinstance(found[1], int) else 0)

    first, last = at("ORDER BY entry LIMIT 1"), at("ORDER BY entry DESC LIMIT 1")
    if first is None or last is None or last[1] <= offset:
        return None
    low, high = first[0], last[0]  # the entry that is looked for lies between these two, inclusive
    while low < high:
        middle = (low + high) // 2
        found = at("AND entry <= ? ORDER BY entry DESC LIMIT 1", middle)
        if found is not None and found[1] > offset:
            high = found[0]
        else:
            following = at("AND entry > ? ORDER BY entry LIMIT 1", middle)
            low = high if following is None else following[0]
    (time_ms,) = connection.execute("SELECT time_ms FROM entries WHERE entry = ?", (low,)).fetchone()
    return int(time_ms)


def _went_on(
    connection: sqlite3.Connection,
    whose: tuple[str, str, str, int],
    partition: int,
    offset: int,
    entry: int,
) -> bool:
    """Whether the subscription's next stream went on from beyond a place: what was acknowledged last may have no entry."""
    agency, subject, subscription, epoch = whose
    if not subscription:
        return False
    found = connection.execute(
        "SELECT json_extract(m.came_from, ?) FROM moves m JOIN entries e ON e.entry = m.entry"
        " JOIN people p ON p.number = e.who WHERE m.subscription = ? AND m.epoch > ? AND m.entry != ?"
        " AND p.agency = ? AND p.subject = ? AND m.came_from IS NOT NULL ORDER BY m.epoch LIMIT 1",
        (f"$[{partition}]", subscription, epoch, entry, agency, subject),
    ).fetchone()
    return found is not None and isinstance(found[0], int) and found[0] > offset


def _object(text: str | None) -> dict[str, Any]:
    value = orjson.loads(text) if text else {}
    return value if isinstance(value, dict) else {}
