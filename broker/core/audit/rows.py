"""What the index's tables hold of an entry: made here when they are written, and again when they are verified.

Parts are handed on as they are stored, in canonical form: what the tables hold besides is read off them by SQLite.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from broker.core.audit.opening import PARTS, Opened, parse

Row = tuple[Any, ...]
"""The entry's index, then the columns as TABLES has them; texts are the bytes of canonical JSON."""

TABLES: dict[str, tuple[str, ...]] = {
    "entries": ("epoch", "kind", "time_ms", "leaf_hash", "opened", "rules", "who"),
    "concerns": ("agency",),
    "records": ("n", "content", "topic", "partition", "offset"),
    "deliveries": ("class", "count", "receivers", "handed_out", "content"),
    "released": ("places",),
    "decided": ("decisions", "handed_out"),
    "openings": ("content",),
    "closings": ("content", "ending"),
    "moves": ("content", "move"),
    "acknowledgements": ("n", "content"),
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
_ERASED: list[bytes] = []
_RULES = {kind: names.index("rules") - len(names) for kind, names in PARTS.items()}
"""By kind where the rules stand in the openings, from the end: only what stands before them can be a list of many."""

_RULES_CONTENT = slice(len('["rules",'), -1)
_WHO_CONTENT = slice(len('["who",'), -1)


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
        self._kinds: dict[str, Callable[[Opened, list[bytes]], None]] = {
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
        opened, kind, index = entry.opened, entry.kind, entry.index
        if opened is None:
            self.tables["entries"].append(
                (index, entry.epoch, kind, entry.time_ms, entry.leaf_hash, 0, None, None)
            )
            return
        rules, who = opened[_RULES[kind]][_RULES_CONTENT], None
        try:
            if PARTS[kind][-1] == "who":
                who = opened[-1][_WHO_CONTENT]
                self.tables["concerns"].append((index, self._agency(opened[-1])))
            make = self._kinds.get(kind, self._other)
            make(entry, opened)
        except (LookupError, TypeError, ValueError, AttributeError):
            self._forget(index)
        row = (index, entry.epoch, kind, entry.time_ms, entry.leaf_hash, 1, rules, who)
        self.tables["entries"].append(row)

    def add_unreadable(self, index: int, leaf_hash: bytes) -> None:
        """An entry that is not what it should be: only its leaf's hash, on which the tree is built all the same."""
        self.tables["entries"].append((index, 0, "", 0, leaf_hash, 0, None, None))

    def _forget(self, index: int) -> None:
        for rows in self.tables.values():
            while rows and rows[-1][0] == index:
                rows.pop()

    def _agency(self, opening: bytes) -> str:
        """Of `who` or a class."""
        agency = self._agencies.get(opening)
        if agency is None:
            if len(self._agencies) >= _REMEMBERED:
                self._agencies.clear()
            agency = self._agencies[opening] = parse(opening)[1]["agency"]
        return agency

    def _known(self, opening: bytes) -> _Decisions:
        known = self._decisions.get(opening)
        if known is None:
            if len(self._decisions) >= _REMEMBERED:
                self._decisions.clear()
            decisions = parse(opening)[1]
            owners = [owner for each in decisions if (owner := _owner(each)) is not None]
            content = opening[len('["decisions",') : -1]
            known = self._decisions[opening] = _Decisions(content, owners, (0,) * len(decisions))
        return known

    def _decide(self, index: int, opening: bytes) -> None:
        """Decisions by which nothing was handed out."""
        known = self._known(opening)
        if known.content != _NOTHING:
            self.tables["decided"].append((index, known.content, known.nothing_handed_out))

    def _publish(self, entry: Opened, opened: list[bytes]) -> None:
        _, call, decisions, _, *records, _, stored, _ = opened
        index, tables = entry.index, self.tables
        _, places = orjson.loads(stored)
        topic = topic_of(call)
        begin = len('["records",')
        tables["records"].extend(
            [
                (index, n, row[begin:-1], topic, *(place or (None, None)))
                for n, (row, place) in enumerate(zip(records, places, strict=True))
            ]
        )
        self._decide(index, decisions)

    def _delivery(self, entry: Opened, opened: list[bytes]) -> None:
        _, of, _, count, decisions, _, places, *receivers, _ = opened
        index, tables = entry.index, self.tables
        known = self._known(decisions)
        handed_out = int(count[len('["count",') : -1])
        begin = len('["receivers",')
        named = b"[%b]" % b",".join([row[begin:-1] for row in receivers])
        group = of[len('["class",') : -1]
        tables["deliveries"].append((index, group, handed_out, len(receivers), entry.handed_out, named))
        runs = places[len('["places",') : -1]
        if runs != _NOTHING:
            tables["released"].append((index, runs))
        key = (of, decisions)
        concerned = self._concerned.get(key)
        if concerned is None:
            if len(self._concerned) >= _REMEMBERED:
                self._concerned.clear()
            concerned = self._concerned[key] = sorted({self._agency(of), *known.owners})
        tables["concerns"].extend([(index, agency) for agency in concerned])
        if known.content != _NOTHING:
            several = len(known.nothing_handed_out) > 1
            counts = _counted(runs, known.nothing_handed_out) if several else (handed_out,)
            tables["decided"].append((index, known.content, counts))

    def _engine_fault(self, entry: Opened, opened: list[bytes]) -> None:
        self.tables["concerns"].append((entry.index, self._agency(entry.opening("class"))))

    def _stream_opened(self, entry: Opened, opened: list[bytes]) -> None:
        self.tables["openings"].append((entry.index, entry.items("stream")[0]))
        self._decide(entry.index, entry.opening("decisions"))

    def _stream_closed(self, entry: Opened, opened: list[bytes]) -> None:
        row = (entry.index, entry.items("stream")[0], entry.items("end")[0])
        self.tables["closings"].append(row)

    def _moved(self, entry: Opened, opened: list[bytes]) -> None:
        row = (entry.index, entry.items("stream")[0], entry.items("move")[0])
        self.tables["moves"].append(row)

    def _acknowledged(self, entry: Opened, opened: list[bytes]) -> None:
        index, items = entry.index, entry.items("acknowledged")
        self.tables["acknowledgements"].extend([(index, n, item) for n, item in enumerate(items)])
        agencies = sorted({parse(item)["agency"] for item in items})
        self.tables["concerns"].extend([(index, agency) for agency in agencies])

    def _refused_aggregate(self, entry: Opened, opened: list[bytes]) -> None:
        agency = entry.value("refused").get("agency")
        if agency is not None:
            self.tables["concerns"].append((entry.index, agency))

    def _other(self, entry: Opened, opened: list[bytes]) -> None:
        if "decisions" in PARTS[entry.kind]:
            self._decide(entry.index, entry.opening("decisions"))


def topic_of(call: bytes) -> str:
    """That of a publish call; each has a reference of its own, so that hardly any two are the same."""
    found = _CALL(call)
    topic: str = found[1].decode() if found is not None else parse(call)[1]["topic"]
    return topic


_CALL = re.compile(rb'\["call",\{"reference":"[ !#-\[\]-~]*","topic":"([ !#-\[\]-~]*)"\}\]').fullmatch


def _counted(runs: bytes, noughts: tuple[int, ...]) -> tuple[int, ...]:
    """How many records each decision handed out."""
    counts: Counter[int] = Counter()
    for _, _, number, *several in orjson.loads(runs):
        counts[number] += several[0] if several else 1
    return tuple(counts[number] for number in range(len(noughts)))


def _owner(decision: dict[str, Any]) -> str | None:
    """Of the record that a decision, or the notice of a withdrawal, is about; None if it is about none."""
    if "withdrawal" in decision:
        owner: str = decision["withdrawal"]["owner"]
        return owner
    agency: str | None = decision["input"].get("record", {}).get("agency")
    return agency
