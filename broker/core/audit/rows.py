"""What the index's tables hold of an entry: made here when they are written, and again when they are verified.

Parts are handed on as they are stored, in canonical form: what the tables hold besides is read off them by SQLite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from broker.core.audit.forms import FORMS
from broker.core.audit.opening import Opened, parse

Row = tuple[Any, ...]
"""The entry's index, then the columns as TABLES has them; texts are the bytes of canonical JSON."""

TABLES: dict[str, tuple[str, ...]] = {
    "entries": ("epoch", "kind", "time_ms", "leaf_hash", "opened", "rules", "who"),
    "concerns": ("agency",),
    "records": ("n", "content", "topic", "partition", "offset", "source", "id"),
    "deliveries": ("class", "count", "receivers", "handed_out", "content"),
    "released": ("places",),
    "decided": ("decisions", "handed_out"),
    "openings": ("content",),
    "closings": ("content", "ending"),
    "moves": ("content", "move"),
    "acknowledgements": ("n", "content", "stream"),
}
"""By table what its rows are made from.

`released` has a row for each run of places, and `decided` one for each of several decisions; `handed_out` has, for each
decision, how many records were handed out by it.
"""

INTERNED = {
    ("entries", "rules"): "rules",
    ("entries", "who"): "people",
    ("deliveries", "class"): "classes",
    ("decided", "decisions"): "decisions",
}
"""By table and column the table that holds its distinct texts."""

_NOTHING = b"[]"
_REMEMBERED = 4_096
_TOPIC = FORMS["publish"].at["call"] + 1
"""Where a publication's form has the topic that it finds in a plain call."""
_CLASS, _COUNT, _DECISIONS, _PLACES = (
    FORMS["delivery"].at[name] for name in ("class", "count", "decisions", "places")
)


class _Decisions(NamedTuple):
    """What a part `decisions` says. nothing_handed_out: a nought for each."""

    content: bytes
    owners: list[str]
    nothing_handed_out: tuple[int, ...]


class Rows:
    """Collects rows by table, in the order of the entries."""

    def __init__(self) -> None:
        self.tables: dict[str, list[Row]] = {table: [] for table in TABLES}
        self._decisions: dict[bytes, _Decisions] = {}
        self._concerned: dict[tuple[bytes, bytes], list[str]] = {}
        self._agencies: dict[bytes, str] = {}
        self._kinds: dict[str, Callable[[Opened], None]] = {
            "acknowledged": self._acknowledged,
            "delivery": self._delivery,
            "engine_fault": self._engine_fault,
            "moved": self._moved,
            "publish": self._publish,
            "refused_aggregate": self._refused_aggregate,
            "stream_closed": self._stream_closed,
            "stream_opened": self._stream_opened,
        }

    def add(self, entry: Opened) -> None:
        """One entry; of one that is not documented as it is, only that it is there."""
        kind, index, tables = entry.kind, entry.index, self.tables
        rules = who = None
        if entry.taken is not None:
            at = entry.form.at
            rules = entry.taken[at["rules"]]
            who = entry.taken[at["who"]] if "who" in at else None
            try:
                entry.shared("rules")  # a text that is no JSON fits in no table
                if who is not None:
                    tables["concerns"].append((index, self._agency(who)))
                self._kinds.get(kind, self._other)(entry)
            except (LookupError, TypeError, ValueError, AttributeError):
                self._forget(index)
                rules = who = None
        opened = int(entry.taken is not None)
        row = (index, entry.epoch, kind, entry.time_ms, entry.leaf_hash, opened, rules, who)
        tables["entries"].append(row)

    def add_unreadable(self, index: int, leaf_hash: bytes) -> None:
        """An entry that is not what it should be: only its leaf's hash, on which the tree is built all the same."""
        self.tables["entries"].append((index, 0, "", 0, leaf_hash, 0, None, None))

    def _forget(self, index: int) -> None:
        for rows in self.tables.values():
            while rows and rows[-1][0] == index:
                rows.pop()

    def _agency(self, content: bytes) -> str:
        """Of `who` or a class."""
        agency = self._agencies.get(content)
        if agency is None:
            if len(self._agencies) >= _REMEMBERED:
                self._agencies.clear()
            agency = self._agencies[content] = parse(content)["agency"]
        return agency

    def _known(self, content: bytes) -> _Decisions:
        known = self._decisions.get(content)
        if known is None:
            if len(self._decisions) >= _REMEMBERED:
                self._decisions.clear()
            decisions = parse(content)
            owners = [owner for each in decisions if (owner := _owner(each)) is not None]
            known = self._decisions[content] = _Decisions(content, owners, (0,) * len(decisions))
        return known

    def _decide(self, entry: Opened) -> None:
        """Decisions by which nothing was handed out."""
        known = self._known(entry.content("decisions"))
        if known.nothing_handed_out:
            self.tables["decided"].append((entry.index, known.content, known.nothing_handed_out))

    def _publish(self, entry: Opened) -> None:
        index, topic, places = entry.index, topic_of(entry), orjson.loads(entry.content("stored"))
        rows = []
        for n, (content, place) in enumerate(zip(entry.items(), places, strict=True)):
            row = orjson.loads(content)
            partition, offset = (None, None) if place is None else place
            rows.append((index, n, content, topic, partition, offset, row.get("source"), row.get("id")))
        self.tables["records"].extend(rows)
        self._decide(entry)

    def _delivery(self, entry: Opened) -> None:
        index, tables, taken = entry.index, self.tables, entry.taken or ()
        of, places, known = taken[_CLASS], taken[_PLACES], self._known(taken[_DECISIONS])
        handed_out, receivers = int(taken[_COUNT]), b"[%b]" % b",".join(entry.items())
        row = (index, of, handed_out, len(entry.listed), entry.handed_out, receivers)
        tables["deliveries"].append(row)
        if places != _NOTHING:
            tables["released"].append((index, places))
        tables["concerns"].extend([(index, agency) for agency in self._concerned_by(of, known)])
        counts = _counted(places, len(known.nothing_handed_out))
        if counts:
            tables["decided"].append((index, known.content, counts))

    def _concerned_by(self, of: bytes, known: _Decisions) -> list[str]:
        """The receivers' agency, and the owners of what they were handed, sorted."""
        key = of, known.content
        concerned = self._concerned.get(key)
        if concerned is None:
            if len(self._concerned) >= _REMEMBERED:
                self._concerned.clear()
            concerned = self._concerned[key] = sorted({self._agency(of), *known.owners})
        return concerned

    def _engine_fault(self, entry: Opened) -> None:
        self.tables["concerns"].append((entry.index, self._agency(entry.content("class"))))

    def _stream_opened(self, entry: Opened) -> None:
        self.tables["openings"].append((entry.index, entry.content("stream")))
        self._decide(entry)

    def _stream_closed(self, entry: Opened) -> None:
        self.tables["closings"].append((entry.index, entry.content("stream"), entry.content("end")))

    def _moved(self, entry: Opened) -> None:
        self.tables["moves"].append((entry.index, entry.content("stream"), entry.content("move")))

    def _acknowledged(self, entry: Opened) -> None:
        index, items = entry.index, entry.items()
        rows = [parse(item) for item in items]
        agencies = sorted({row["agency"] for row in rows})
        streams = [row["stream"] for row in rows]
        self.tables["acknowledgements"].extend(
            [(index, n, *each) for n, each in enumerate(zip(items, streams, strict=True))]
        )
        self.tables["concerns"].extend([(index, agency) for agency in agencies])

    def _refused_aggregate(self, entry: Opened) -> None:
        agency = entry.value("refused").get("agency")
        if agency is not None:
            self.tables["concerns"].append((entry.index, agency))

    def _other(self, entry: Opened) -> None:
        if "decisions" in entry.form.at:
            self._decide(entry)


def topic_of(entry: Opened) -> str:
    """That of a publish call; each has a reference of its own, so that hardly any two are the same."""
    found = None if entry.taken is None else entry.taken[_TOPIC]
    topic: str = entry.value("call")["topic"] if found is None else found.decode()
    return topic


def _owner(decision: dict[str, Any]) -> str | None:
    """Of the record that a decision, or the notice of a withdrawal, is about; None if it is about none."""
    if "withdrawal" in decision:
        owner: str = decision["withdrawal"]["owner"]
        return owner
    agency: str | None = decision["input"].get("record", {}).get("agency")
    return agency


def _counted(runs: bytes, decisions: int) -> tuple[int, ...]:
    """How many records each decision handed out. Raises ValueError, LookupError or TypeError for what are no runs."""
    counts = [0] * decisions
    for _, _, number, *several in orjson.loads(runs):
        (count,) = several or (1,)
        counts[number] += count
    return tuple(counts)
