"""What of an entry a reader of the ledger sees: an auditor all of it, an agency's administrators what is listed here.

The lists permit by kind, part and member; whatever is not on them is left out, so that a kind or a part that is added
tomorrow shows nothing until somebody decides about it. Of what their agency's people receive, administrators see no more
than these people may know (design rule 6): no rules, positions, decisions about others' records, or anything considered.
Of what others receive of their agency's records they see the records and the decisions, and of the receivers their agency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.core.ledger.leaf import Leaf
from broker.core.ledger.runs import places_of
from broker.core.record.envelope import source_agency
from broker.model.ledger import JsonValue, LedgerEntry

Parts = Mapping[str, JsonValue]
"""An entry's opened parts."""

RecordNames = Mapping[tuple[int, int], tuple[str, str]]
"""By partition and offset the source and id of a record on the entry's topic."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose eyes: an agency's administrators', or an auditor's, who sees everything (`agency` None)."""

    agency: str | None = None

    def sees(self, agency: str | None) -> bool:
        """Whether what is this agency's alone is shown."""
        return self.agency is None or self.agency == agency


@dataclass(frozen=True, slots=True)
class ShownPart:
    """What is shown of one part; `reduced`: something of it is left out."""

    name: str
    value: JsonValue
    reduced: bool


@dataclass(frozen=True, slots=True)
class ShownEntry:
    """What is shown of one entry. leaf_hash: 32 bytes. erased: its contents are gone."""

    leaf: Leaf
    leaf_hash: bytes
    parts: tuple[ShownPart, ...]
    erased: bool


VISIBLE_KINDS = frozenset(
    {
        "call_refused",
        "delivery",
        "ledger_read",
        "moved",
        "overlay_changed",
        "preview",
        "publish",
        "refused_aggregate",
        "stream_closed",
        "stream_opened",
        "subscription",
    }
)
"""The kinds of which administrators see anything.

`acknowledged` is not among them: its entries are written when a position moves, and it moves past withheld records too.
"""

_PERSON = ("agency", "subject", "roles", "attributes", "token", "certificate")
_STREAM = ("topic", "purpose", "subscription", "epoch", "stream")
_ROW = ("source", "id", "type", "labels", "duplicate", "refused")
_OVERLAY = (
    "what",
    "id",
    "kind",
    "target",
    "owner",
    "source",
    "reason",
    "tell_reason",
    "until_ms",
    "ratify_by_ms",
)
_CLASS = ("topic", "agency", "roles", "attributes", "purpose")
_CLASS_OF_OTHERS = ("topic", "agency", "purpose")
_RECEIVER = ("subject", "token", "certificate", "subscription", "epoch", "stream")
_REFUSED = ("agency", "reason", "count")
_INPUT = ("action", "topic", "record", "time")
_INPUT_SUBJECT = ("agency", "purpose")
_OUTPUT = ("effect", "treatments", "obligations", "reasons", "not_before", "valid_until")

_WHOLE = frozenset({"count", "query", "stream", "who"})
"""Parts of which administrators never miss anything. Whether something is left out is said by name, not looked up: that
could depend on what is left out."""

_OF_PEOPLE: Mapping[str, Mapping[str, Sequence[str]]] = {
    "call_refused": {"call": ("method", "reason", "reference")},
    "ledger_read": {"query": ("method", "about")},
    "moved": {"stream": _STREAM},
    "overlay_changed": {"change": _OVERLAY},
    "preview": {"call": ("topic", "reference", "records")},
    "publish": {"call": ("topic", "reference")},
    "stream_closed": {"stream": _STREAM, "end": ("cause",)},
    "stream_opened": {"stream": _STREAM},
    "subscription": {"change": ("change", "subscription", "topic", "purpose")},
}
"""What is shown of the calls and streams of an agency's own people, besides `who`."""


def shown_parts(scope: Scope, entry: LedgerEntry, names: RecordNames) -> tuple[ShownPart, ...]:
    """What is shown of an entry's parts, by name; nothing at all means that the entry is not shown either.

    names: those of the records of `scope.agency` in a delivery. Of parts that nothing opens auditors see the root.
    """
    if scope.agency is None:
        parts = {**{name: root.hex() for name, root in entry.roots.items()}, **entry.body}
        return tuple(ShownPart(name, parts[name], False) for name in sorted(parts))
    shown = _shown_to_administrators(scope.agency, entry.kind, entry.body, names)
    return tuple(ShownPart(name, shown[name], name not in _WHOLE) for name in sorted(shown))


def own_places(agency: str, parts: Parts) -> list[tuple[int, int]]:
    """The places, partition and offset, of an agency's own records in a delivery."""
    own = _own_decisions(agency, parts)
    return [(partition, offset) for partition, offset, number in _places(parts) if number in own]


def shown_decision(decision: JsonValue | Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """A decision about an own record, as the administrators of its owner see it: of the subject its agency and purpose."""
    asked = _members(_members(decision).get("input"))
    shown = _only(_INPUT, asked)
    shown["subject"] = _only(_INPUT_SUBJECT, asked.get("subject"))
    return {"input": shown, "output": _only(_OUTPUT, _members(decision).get("output"))}


def is_receiver(agency: str, kind: str, parts: Parts) -> bool:
    """Whether the entry hands something out to this agency's people."""
    count = parts.get("count")
    # One that only tells what was considered, and by which nothing went out, is nothing that its receivers may know of.
    return (
        kind == "delivery"
        and _members(parts.get("class")).get("agency") == agency
        and type(count) is int
        and count > 0
    )


def _shown_to_administrators(agency: str, kind: str, parts: Parts, names: RecordNames) -> Parts:
    if kind not in VISIBLE_KINDS:
        return {}
    if kind == "delivery":
        return _received(agency, parts) | _handed_out(agency, parts, names)
    if kind == "refused_aggregate":
        refused = parts.get("refused")
        return {"refused": _only(_REFUSED, refused)} if _members(refused).get("agency") == agency else {}
    if kind in _OF_PEOPLE and _members(parts.get("who")).get("agency") == agency:
        return _of_people(agency, kind, parts)
    return {}


def _of_people(agency: str, kind: str, parts: Parts) -> dict[str, JsonValue]:
    shown: dict[str, JsonValue] = {"who": _only(_PERSON, parts.get("who"))}
    for name, members in _OF_PEOPLE[kind].items():
        if name in parts:
            shown[name] = _only(members, parts[name])
    if kind == "publish":
        shown["records"] = [_only(_ROW, row) for row in _items(parts, "records") if _is_own(agency, row)]
    return shown


def _received(agency: str, parts: Parts) -> dict[str, JsonValue]:
    """A delivery as its receivers' administrators see it."""
    if not is_receiver(agency, "delivery", parts):
        return {}
    receivers: list[JsonValue] = [_only(_RECEIVER, item) for item in _items(parts, "receivers")]
    return {"class": _only(_CLASS, parts["class"]), "receivers": receivers, "count": parts["count"]}


def _handed_out(agency: str, parts: Parts, names: RecordNames) -> dict[str, JsonValue]:
    """A delivery as the administrators of the records' owner see it: own records by name, and what was decided of them."""
    own = _own_decisions(agency, parts)
    numbers = {number: new for new, number in enumerate(own)}
    places: list[JsonValue] = []
    for partition, offset, number in _places(parts):
        if number in numbers:
            source, record_id = names.get((partition, offset), (None, None))
            places.append({"source": source, "id": record_id, "decision": numbers[number]})
    if not places:
        return {}
    shown: dict[str, JsonValue] = {"decisions": [shown_decision(own[n]) for n in own], "places": places}
    if _members(parts.get("class")).get("agency") != agency:
        shown["class"] = _only(_CLASS_OF_OTHERS, parts.get("class"))
    return shown


def _own_decisions(agency: str, parts: Parts) -> dict[int, JsonValue]:
    """By number, those of a delivery's decisions that are about records of this agency."""
    return {
        number: decision
        for number, decision in enumerate(_items(parts, "decisions"))
        if _members(_members(_members(decision).get("input")).get("record")).get("agency") == agency
    }


def _places(parts: Parts) -> list[tuple[int, int, int]]:
    try:
        return places_of(_items(parts, "places"))
    except ValueError:
        return []  # nobody is shown what is not as documented; verification tells of it


def _is_own(agency: str, row: JsonValue) -> bool:
    """A row of one's own people's call: of an own record, or of what was refused before it was understood."""
    source = _members(row).get("source")
    return source is None or (isinstance(source, str) and source_agency(source) == agency)


def _only(members: Sequence[str], value: JsonValue | Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    present = _members(value)
    return {name: present[name] for name in members if name in present}


def _members(value: JsonValue | Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    return value if isinstance(value, Mapping) else {}


def _items(parts: Parts, name: str) -> list[JsonValue]:
    value = parts.get(name)
    return value if isinstance(value, list) else []
