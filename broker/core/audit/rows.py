"""What the index's tables hold of an entry: made here when they are written, and again when they are verified.

Parts are handed on as they are stored, in canonical form: what the tables hold besides is read off them by SQLite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broker.core.audit.opening import Opened

Row = tuple[Any, ...]
"""The entry's index, then the columns as TABLES has them; texts are the bytes of canonical JSON."""

TABLES: dict[str, tuple[str, ...]] = {
    "entries": ("epoch", "kind", "time_ms", "leaf_hash", "opened", "rules", "who"),
    "concerns": ("agency",),
    "records": ("n", "content", "topic", "partition", "offset"),
    "deliveries": ("class", "count", "receivers", "handed_out"),
    "receivers": ("n", "content"),
    "released": ("places",),
    "decided": ("decisions",),
    "openings": ("content",),
    "closings": ("content", "ending"),
    "moves": ("content", "move"),
    "acknowledgements": ("n", "content"),
}
"""By table what its rows are made from. `released` and `decided` have a row for each of several places and decisions."""

INTERNED = {
    ("entries", "rules"): "rules",
    ("entries", "who"): "people",
    ("deliveries", "class"): "classes",
    ("decided", "decisions"): "decisions",
}
"""By table and column the table that holds its distinct texts."""

_NOTHING = b"[]"
_AGENCIES = 4_096


class Rows:
    """Collects rows by table, in the order of the entries."""

    def __init__(self) -> None:
        self.tables: dict[str, list[Row]] = {table: [] for table in TABLES}
        self._agencies: dict[tuple[bytes, ...], list[str]] = {}
        self._kinds: dict[str, Callable[[Opened, dict[str, list[bytes]]], None]] = {
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
        contents = entry.contents
        head = (entry.index, entry.epoch, entry.kind, entry.time_ms, entry.leaf_hash)
        if contents is None:
            self.tables["entries"].append((*head, 0, None, None))
            return
        who = contents["who"][0] if "who" in contents else None
        self.tables["entries"].append((*head, 1, contents["rules"][0], who))
        make = self._kinds.get(entry.kind)
        try:
            if who is not None:
                self._concern(entry.index, self._known((who,), lambda: {entry.shared("who")["agency"]}))
            if make is not None:
                make(entry, contents)
            decisions = contents.get("decisions")
            if decisions is not None and decisions[0] != _NOTHING:
                self.tables["decided"].append((entry.index, decisions[0]))
        except (LookupError, TypeError, ValueError, AttributeError):
            self._forget(entry.index)

    def add_unreadable(self, index: int, leaf_hash: bytes) -> None:
        """An entry that is not what it should be: only its leaf's hash, on which the tree is built all the same."""
        self.tables["entries"].append((index, 0, "", 0, leaf_hash, 0, None, None))

    def _forget(self, index: int) -> None:
        for table, rows in self.tables.items():
            while table != "entries" and rows and rows[-1][0] == index:
                rows.pop()

    def _known(self, key: tuple[bytes, ...], find: Callable[[], set[str]]) -> list[str]:
        """The agencies that parts with these texts concern, sorted."""
        agencies = self._agencies.get(key)
        if agencies is None:
            if len(self._agencies) >= _AGENCIES:
                self._agencies.clear()
            agencies = self._agencies[key] = sorted(find())
        return agencies

    def _concern(self, index: int, agencies: list[str]) -> None:
        self.tables["concerns"].extend([(index, agency) for agency in agencies])

    def _publish(self, entry: Opened, contents: dict[str, list[bytes]]) -> None:
        index, topic = entry.index, entry.value("call")["topic"]
        rows, places = contents["records"], entry.numbers("stored")
        self.tables["records"].extend(
            [
                (index, n, row, topic, *(place or (None, None)))
                for n, (row, place) in enumerate(zip(rows, places, strict=True))
            ]
        )

    def _delivery(self, entry: Opened, contents: dict[str, list[bytes]]) -> None:
        index, group, decisions = entry.index, contents["class"][0], contents["decisions"][0]
        receivers, places = contents["receivers"], contents["places"][0]
        handed_out = bytes.fromhex(entry.commitments["handed_out"])
        row = (index, group, int(contents["count"][0]), len(receivers), handed_out)
        self.tables["deliveries"].append(row)
        self.tables["receivers"].extend([(index, n, item) for n, item in enumerate(receivers)])
        if places != _NOTHING:
            self.tables["released"].append((index, places))
        self._concern(index, self._known((group, decisions), lambda: _of_delivery(entry)))

    def _engine_fault(self, entry: Opened, contents: dict[str, list[bytes]]) -> None:
        group = contents["class"][0]
        self._concern(entry.index, self._known((group,), lambda: {entry.shared("class")["agency"]}))

    def _stream_opened(self, entry: Opened, contents: dict[str, list[bytes]]) -> None:
        self.tables["openings"].append((entry.index, contents["stream"][0]))

    def _stream_closed(self, entry: Opened, contents: dict[str, list[bytes]]) -> None:
        self.tables["closings"].append((entry.index, contents["stream"][0], contents["end"][0]))

    def _moved(self, entry: Opened, contents: dict[str, list[bytes]]) -> None:
        self.tables["moves"].append((entry.index, contents["stream"][0], contents["move"][0]))

    def _acknowledged(self, entry: Opened, contents: dict[str, list[bytes]]) -> None:
        index = entry.index
        rows = [(index, n, item) for n, item in enumerate(contents["acknowledged"])]
        self.tables["acknowledgements"].extend(rows)
        self._concern(index, sorted({row["agency"] for row in entry.value("acknowledged")}))

    def _refused_aggregate(self, entry: Opened, contents: dict[str, list[bytes]]) -> None:
        agency = entry.value("refused").get("agency")
        self._concern(entry.index, [] if agency is None else [agency])


def _of_delivery(entry: Opened) -> set[str]:
    """The receivers' agency, and the owners of what they were handed."""
    owners = [decision["input"]["record"]["agency"] for decision in entry.shared("decisions")]
    return {entry.shared("class")["agency"], *owners}
