"""The tables and views of an index of ledgers, which auditors may ask with any SQLite program.

An entry is named by one number: its instance's number times 2^40, plus its index in that instance's tree. `rules`, `people`,
`classes` and `decisions` hold each distinct part once, as the canonical JSON that the ledger commits to; their other
columns are read off that. Positions, labels and treatments are JSON.
"""

from __future__ import annotations

from broker.adapters.sqlite.files import Schema
from broker.core.ledger.runs import RUN_PLACES

ENTRY_BITS = 40


def _read(text: str, columns: str) -> str:
    """Columns that are read off a text: `name`, or `name=path` in it; with a `#` whole numbers."""
    found = []
    for column in columns.split():
        name, _, path = column.rstrip("#").partition("=")
        kind = "INTEGER" if column.endswith("#") else "TEXT"
        found.append(f"    {name} {kind} AS (json_extract({text}, '$.{path or name}')) VIRTUAL")
    return ",\n".join(found)


def _interned(table: str, columns: str) -> str:
    return f"""
CREATE TABLE {table} (
    number INTEGER PRIMARY KEY,
    content TEXT NOT NULL UNIQUE,
{_read("content", columns)}
) STRICT;
"""


_STREAM = _read("content", "stream topic purpose subscription epoch#")
_TABLES = f"""
CREATE TABLE instances (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    origin TEXT NOT NULL,      -- as checkpoints name it
    first INTEGER NOT NULL,    -- index of the first entry that is here
    next INTEGER NOT NULL,     -- index of the entry that would follow the last one
    base BLOB NOT NULL,        -- frontier of the tree before the first entry, 32 bytes each
    tail_size INTEGER NOT NULL, -- of an export that was cut: the size of a larger tree, and the subtrees
    tail BLOB NOT NULL,        -- that follow the last entry up to there; else 0 and nothing
    store INTEGER NOT NULL,    -- where reading goes on: the reader's own count, and the epoch there
    epoch INTEGER NOT NULL,
    checkpoints INTEGER NOT NULL, -- how many there are, and from which place in the store to read on
    next_checkpoint INTEGER NOT NULL
) STRICT;

CREATE TABLE entries (
    entry INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    kind TEXT NOT NULL,        -- '' if the entry could not be read
    time_ms INTEGER NOT NULL,  -- since 1970
    leaf_hash BLOB NOT NULL,
    opened INTEGER NOT NULL,   -- 0 if its openings were erased
    rules INTEGER REFERENCES rules (number),
    who INTEGER REFERENCES people (number)
) STRICT;
CREATE INDEX entries_by_kind ON entries (kind, entry);
CREATE INDEX entries_erased ON entries (entry) WHERE opened = 0;

-- agencies that an entry concerns: as owners of the records, or with their people
CREATE TABLE concerns (
    entry INTEGER NOT NULL,
    agency TEXT NOT NULL,
    PRIMARY KEY (entry, agency)
) STRICT, WITHOUT ROWID;
CREATE INDEX concerns_by_agency ON concerns (agency, entry);

-- rows of publish entries; without partition and offset if it was refused
CREATE TABLE records (
    entry INTEGER NOT NULL,
    n INTEGER NOT NULL,
    content TEXT NOT NULL,     -- the row as it was committed to
    topic TEXT NOT NULL,
    partition INTEGER,
    offset INTEGER,
    source TEXT,               -- these two and the columns below are read off the row
    id TEXT,
{_read("content", "type labels duplicate# refused decision#")},
    PRIMARY KEY (entry, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX records_by_name ON records (source, id);
CREATE INDEX records_by_place ON records (topic, partition, offset);

CREATE TABLE deliveries (
    entry INTEGER PRIMARY KEY,
    class INTEGER NOT NULL REFERENCES classes (number),
    count INTEGER NOT NULL,    -- records and notices handed out to each receiver
    receivers INTEGER NOT NULL,
    handed_out BLOB NOT NULL,  -- Merkle root over what was handed out
    content TEXT NOT NULL      -- the receivers as they were committed to, a JSON list
) STRICT;
CREATE INDEX deliveries_by_class ON deliveries (class, entry);

-- places handed out by a delivery, in order: in runs of `count` offsets, at most {RUN_PLACES}
CREATE TABLE released (
    entry INTEGER NOT NULL,
    n INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    decision INTEGER NOT NULL, -- decided.n
    count INTEGER NOT NULL,
    PRIMARY KEY (entry, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX released_by_place ON released (partition, offset, entry);

-- decisions that an entry holds; handed_out: how many records a delivery handed out by it
CREATE TABLE decided (
    entry INTEGER NOT NULL,
    n INTEGER NOT NULL,
    decision INTEGER NOT NULL REFERENCES decisions (number),
    handed_out INTEGER NOT NULL,
    PRIMARY KEY (entry, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX decided_by_decision ON decided (decision, entry);

-- stream_opened and stream_closed entries
CREATE TABLE openings (
    entry INTEGER PRIMARY KEY,
    content TEXT NOT NULL,
{_STREAM}
) STRICT;
CREATE INDEX openings_by_stream ON openings (stream);
CREATE TABLE closings (
    entry INTEGER PRIMARY KEY,
    content TEXT NOT NULL,
    ending TEXT NOT NULL,
{_read("content", "stream")},
{_read("ending", "cause")}
) STRICT;
CREATE INDEX closings_by_stream ON closings (stream);

-- where streams began or were moved, and, without a stream, subscriptions that a call moved
CREATE TABLE moves (
    entry INTEGER PRIMARY KEY,
    content TEXT NOT NULL,
    move TEXT NOT NULL,
{_STREAM},
{_read("move", "came_from=from came_to=to cause")}
) STRICT;
CREATE INDEX moves_by_subscription ON moves (subscription, epoch);

CREATE TABLE acknowledgements (
    entry INTEGER NOT NULL,
    n INTEGER NOT NULL,
    content TEXT NOT NULL,
    stream TEXT NOT NULL,      -- this and the columns below are read off the content
{_read("content", "agency subject topic subscription epoch# positions=to")},
    PRIMARY KEY (entry, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX acknowledgements_by_stream ON acknowledgements (stream, entry);

-- signed checkpoints (C2SP signed notes) of each instance's tree
CREATE TABLE checkpoints (
    place INTEGER PRIMARY KEY,
    instance INTEGER NOT NULL REFERENCES instances (number),
    size INTEGER NOT NULL,     -- -1 if it cannot be read
    note TEXT NOT NULL,
    frontier BLOB NOT NULL
) STRICT;
CREATE INDEX checkpoints_by_size ON checkpoints (instance, size, place);

-- roots of complete subtrees of 2^level leaves, level 8, 16, 24 and so on: number n begins at leaf n * 2^level
CREATE TABLE subtrees (
    instance INTEGER NOT NULL REFERENCES instances (number),
    level INTEGER NOT NULL,
    number INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (instance, level, number)
) STRICT, WITHOUT ROWID;

-- from where a reader reaches entries quickly
CREATE TABLE points (
    entry INTEGER PRIMARY KEY,
    store INTEGER NOT NULL,
    epoch INTEGER NOT NULL
) STRICT;
"""

_VIEWS = f"""
CREATE VIEW ledger AS
SELECT i.name AS instance, e.entry - (i.number << 40) AS idx, e.epoch, e.kind,
    strftime('%Y-%m-%dT%H:%M:%fZ', e.time_ms / 1000.0, 'unixepoch') AS time, e.time_ms,
    p.agency, p.subject, p.token, r.revision, r.engine, e.opened, lower(hex(e.leaf_hash)) AS leaf_hash, e.entry
FROM entries e
JOIN instances i ON i.number = e.entry >> 40
LEFT JOIN rules r ON r.number = e.rules
LEFT JOIN people p ON p.number = e.who;

CREATE VIEW receivers AS
SELECT d.entry, r.key AS n, r.value AS content, json_extract(r.value, '$.subject') AS subject,
    json_extract(r.value, '$.token') AS token, json_extract(r.value, '$.certificate') AS certificate,
    json_extract(r.value, '$.subscription') AS subscription, json_extract(r.value, '$.epoch') AS epoch,
    json_extract(r.value, '$.stream') AS stream
FROM deliveries d, json_each(d.content) r;

CREATE VIEW streams AS
SELECT o.stream, p.agency, p.subject, o.topic, o.purpose, o.subscription, o.epoch, i.name AS instance,
    o.entry - (i.number << 40) AS opened_idx, e.time_ms AS opened_ms,
    c.entry - (i.number << 40) AS closed_idx, f.time_ms AS closed_ms, c.cause
FROM openings o
JOIN instances i ON i.number = o.entry >> 40
JOIN entries e ON e.entry = o.entry
JOIN people p ON p.number = e.who
LEFT JOIN closings c ON c.stream = o.stream
LEFT JOIN entries f ON f.entry = c.entry;

-- everybody who was handed a record or a notice of it; ask it with source and id
CREATE VIEW who_saw AS
SELECT rec.source, rec.id, l.time, l.time_ms, k.agency, v.subject, v.token, v.certificate, k.purpose,
    v.subscription, v.stream, d.effect, d.treatments, d.content AS decision, k.topic, rec.partition, rec.offset,
    coalesce((
        SELECT json_extract(a.positions, '$[' || rec.partition || ']') > rec.offset
        FROM acknowledgements a WHERE a.stream = v.stream ORDER BY a.entry DESC LIMIT 1
    ), 0) AS acknowledged,
    (SELECT c.cause FROM closings c WHERE c.stream = v.stream) AS ended,
    l.revision, l.engine, l.instance, l.idx
FROM (SELECT DISTINCT source, id, topic, partition, offset FROM records WHERE partition IS NOT NULL) rec
JOIN released rel ON rel.partition = rec.partition
    AND rel.offset BETWEEN rec.offset - {RUN_PLACES - 1} AND rec.offset AND rec.offset < rel.offset + rel.count
JOIN deliveries del ON del.entry = rel.entry
JOIN classes k ON k.number = del.class AND k.topic = rec.topic
JOIN decided x ON x.entry = rel.entry AND x.n = rel.decision
JOIN decisions d ON d.number = x.decision
JOIN receivers v ON v.entry = rel.entry
JOIN ledger l ON l.entry = rel.entry;

-- what agencies received, by day in UTC; ask it with agency
CREATE VIEW what_saw AS
SELECT k.agency, date(e.time_ms / 1000, 'unixepoch') AS day, k.topic, k.purpose, d.record_type AS type,
    d.owner, d.labels, d.effect, sum(x.handed_out) AS records, sum(x.handed_out * del.receivers) AS handed_out,
    count(*) AS entries
FROM classes k
JOIN deliveries del ON del.class = k.number
JOIN decided x ON x.entry = del.entry AND x.handed_out > 0
JOIN decisions d ON d.number = x.decision
JOIN entries e ON e.entry = del.entry
GROUP BY k.agency, day, k.topic, k.purpose, type, d.owner, d.labels, d.effect;

CREATE VIEW coverage AS
SELECT i.name AS instance, i.origin, i.first, i.next,
    (SELECT l.time FROM ledger l WHERE l.entry = (i.number << 40) + i.first) AS first_time,
    (SELECT l.time FROM ledger l WHERE l.entry = (i.number << 40) + i.next - 1) AS last_time
FROM instances i;
"""  # noqa: S608 - a constant

SCHEMA = Schema(
    version=1,
    sql="".join(
        (
            _interned("rules", "revision engine"),
            _interned("people", "agency subject token certificate roles attributes"),
            _interned("classes", "topic agency purpose roles attributes"),
            "CREATE INDEX classes_by_agency ON classes (agency);",
            _interned(
                "decisions",
                "action=input.action effect=output.effect treatments=output.treatments"
                " record_type=input.record.type owner=input.record.agency labels=input.record.labels",
            ),
            "CREATE INDEX decisions_by_owner ON decisions (owner);",
            _TABLES,
            _VIEWS,
        )
    ),
)
