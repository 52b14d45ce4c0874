"""What the index's tables hold of an entry: made here when they are written, and again when they are verified."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from broker.core.audit.opening import Opened

Row = tuple[object, ...]

TABLES: dict[str, tuple[str, ...]] = {
    "entries": ("epoch", "kind", "time_ms", "leaf_hash", "opened", "rules", "who"),
    "concerns": ("agency",),
    "records": (
        *("n", "topic", "source", "id", "type", "labels", "partition", "offset"),
        *("duplicate", "refused", "decision"),
    ),
    "deliveries": ("class", "count", "receivers", "handed_out"),
    "receivers": ("n", "subject", "token", "certificate", "subscription", "epoch", "stream"),
    "released": ("n", "partition", "offset", "decision"),
    "decided": ("n", "decision", "handed_out"),
    "openings": ("stream", "topic", "purpose", "subscription", "epoch"),
    "closings": ("stream", "cause"),
    "moves": ("stream", "topic", "purpose", "subscription", "epoch", "came_from", "came_to", "cause"),
    "acknowledgements": (
        *("n", "agency", "subject", "topic", "subscription", "epoch", "stream", "positions"),
    ),
}
"""By table the columns that follow the entry's index."""

INTERNED = {
    ("entries", "rules"): "rules",
    ("entries", "who"): "people",
    ("deliveries", "class"): "classes",
    ("decided", "decision"): "decisions",
}
"""By table and column the table that holds its distinct texts, which are the parts' canonical JSON."""


class Rows:
    """Collects rows by table, in the order of the entries."""

    def __init__(self) -> None:
        self.tables: dict[str, list[Row]] = {table: [] for table in TABLES}
        self._texts: dict[bytes, str] = {}
        self._decisions: dict[bytes, list[str]] = {}
        self._kinds: dict[str, Callable[[Opened], set[str]]] = {
            "acknowledged": self._acknowledged,
            "delivery": self._delivery,
            "engine_fault": lambda entry: {entry.shared("class")["agency"]},
            "moved": self._moved,
            "publish": self._publish,
            "refused_aggregate": self._refused_aggregate,
            "stream_closed": self._stream_closed,
            "stream_opened": self._stream_opened,
        }

    def add(self, entry: Opened) -> None:
        """One entry; of one that is not documented as it is, only that it is there."""
        contents = entry.contents
        rules = who = None
        if contents is not None:
            rules = self._text(contents["rules"][0])
            who = self._text(contents["who"][0]) if "who" in contents else None
        head = (entry.index, entry.epoch, entry.kind, entry.time_ms, entry.leaf_hash)
        self.tables["entries"].append((*head, int(contents is not None), rules, who))
        if contents is None:
            return
        lengths = {table: len(rows) for table, rows in self.tables.items()}
        try:
            make = self._kinds.get(entry.kind)
            agencies = set() if make is None else make(entry)
            if who is not None:
                agencies.add(entry.shared("who")["agency"])
            self.tables["concerns"].extend([(entry.index, agency) for agency in sorted(agencies)])
        except (LookupError, TypeError, ValueError, AttributeError):
            for table, length in lengths.items():
                del self.tables[table][length:]

    def add_unreadable(self, index: int, leaf_hash: bytes) -> None:
        """An entry that is not what it should be: only its leaf's hash, on which the tree is built all the same."""
        self.tables["entries"].append((index, 0, "", 0, leaf_hash, 0, None, None))

    def _text(self, content: bytes) -> str:
        """The text of a part that many entries share."""
        text = self._texts.get(content)
        if text is None:
            if len(self._texts) >= _TEXTS:
                self._texts.clear()
            text = self._texts[content] = content.decode()
        return text

    def _decided(self, entry: Opened, counts: list[int]) -> None:
        content = entry.items("decisions")[0]
        texts = self._decisions.get(content)
        if texts is None:
            if len(self._decisions) >= _TEXTS:
                self._decisions.clear()
            texts = self._decisions[content] = [_json(decision) for decision in entry.shared("decisions")]
        rows = [
            (entry.index, n, text, count) for n, (text, count) in enumerate(zip(texts, counts, strict=True))
        ]
        self.tables["decided"].extend(rows)

    def _publish(self, entry: Opened) -> set[str]:
        index, topic = entry.index, entry.value("call")["topic"]
        self.tables["records"].extend(
            [
                (
                    *(index, n, topic, row.get("source"), row.get("id"), row.get("type")),
                    _json(row["labels"]) if "labels" in row else None,
                    *(place or (None, None)),
                    *(row.get("duplicate"), row.get("refused"), row.get("decision")),
                )
                for n, (row, place) in enumerate(
                    zip(entry.value("records"), entry.numbers("stored"), strict=True)
                )
            ]
        )
        self._decided(entry, [0] * len(entry.shared("decisions")))
        return set()

    def _delivery(self, entry: Opened) -> set[str]:
        index, group, decisions = entry.index, entry.shared("class"), entry.shared("decisions")
        counts = [0] * len(decisions)
        released = self.tables["released"]
        for n, (partition, offset, number) in enumerate(entry.numbers("places")):
            released.append((index, n, partition, offset, number))
            counts[number] += 1
        self._decided(entry, counts)
        handed_out = bytes.fromhex(entry.commitments["handed_out"])
        class_text = self._text(entry.items("class")[0])
        receivers = entry.value("receivers")
        row = (index, class_text, entry.value("count"), len(receivers), handed_out)
        self.tables["deliveries"].append(row)
        self.tables["receivers"].extend(
            [
                (
                    *(index, n, row["subject"], row["token"], row["certificate"]),
                    *(row["subscription"], row["epoch"], row["stream"]),
                )
                for n, row in enumerate(receivers)
            ]
        )
        return {group["agency"], *[decision["input"]["record"]["agency"] for decision in decisions]}

    def _stream_opened(self, entry: Opened) -> set[str]:
        of = entry.value("stream")
        self.tables["openings"].append(
            (entry.index, of["stream"], of["topic"], of["purpose"], of["subscription"], of["epoch"])
        )
        self._decided(entry, [0] * len(entry.shared("decisions")))
        return set()

    def _stream_closed(self, entry: Opened) -> set[str]:
        row = (entry.index, entry.value("stream")["stream"], entry.value("end")["cause"])
        self.tables["closings"].append(row)
        return set()

    def _moved(self, entry: Opened) -> set[str]:
        of, move = entry.value("stream"), entry.value("move")
        came_from = None if move["from"] is None else _json(move["from"])
        self.tables["moves"].append(
            (
                *(entry.index, of["stream"], of["topic"], of["purpose"], of["subscription"], of["epoch"]),
                *(came_from, _json(move["to"]), move["cause"]),
            )
        )
        return set()

    def _acknowledged(self, entry: Opened) -> set[str]:
        rows = entry.value("acknowledged")
        self.tables["acknowledgements"].extend(
            [
                (
                    *(entry.index, n, row["agency"], row["subject"], row["topic"], row["subscription"]),
                    *(row["epoch"], row["stream"], _json(row["to"])),
                )
                for n, row in enumerate(rows)
            ]
        )
        return {row["agency"] for row in rows}

    def _refused_aggregate(self, entry: Opened) -> set[str]:
        agency = entry.value("refused").get("agency")
        return set() if agency is None else {agency}


_TEXTS = 4_096


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
