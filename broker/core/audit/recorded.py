"""The decisions that entries hold, of whatever kind: what was asked, under which rules, and what was answered.

A decision stands in the part `decisions` of its entry (publish, stream_opened, call_refused, delivery), or, where
a record was withheld, in the histories of the part `considered` (delivery, stream_closed), or, where it ended a stream, in
the part `end` (stream_closed).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from broker.core.ledger.canonical import canonical
from broker.core.ledger.leaf import EntryInvalid, Openings
from broker.model.ledger import JsonValue
from broker.model.rulebook import Rules

_REMEMBERED = 1_024
_REMEMBERED_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class RecordedDecision:
    """One decision; `input` and `output` in canonical JSON. `number` counts within the part, from 0.

    under: the rules by which it was made, where they are not its entry's: it was asked before a switch to those.
    """

    part: str
    number: int
    input: bytes
    output: bytes
    under: Rules | None = None


def rules_of(openings: Openings) -> Rules:
    """Raises EntryInvalid for an entry that does not name its rules, which every entry does."""
    return _rules(_loads(openings, "rules"))


def _rules(value: object) -> Rules:
    match value:
        case {"revision": str(revision), "engine": str(engine)}:
            return Rules(revision, engine)
    raise EntryInvalid("the entry does not name its rules")


def decisions_of(openings: Openings) -> list[RecordedDecision]:
    """Every decision of an entry, in order. Raises EntryInvalid for one that is not as documented."""
    found = _handed_out(openings)
    withheld = [pair for history in _histories(openings) for pair in _listed(history.get("withheld"))]
    found += _in_part("considered", (_first(pair) for pair in withheld))
    end = _loads(openings, "end")
    if isinstance(end, dict):
        found += _in_part("end", _listed(end.get("decisions")))
    return found


def ended_by_its_own(end: Any, stream: Any, who: Any) -> bool:
    """Whether every decision that ended a stream asked about that subscriber and topic; the parts of a `stream_closed`.

    Raises LookupError or TypeError for decisions that are not as documented.
    """
    its_own = ("subscribe", stream["topic"], who["agency"], who["subject"])
    questions = [decision["input"] for decision in end.get("decisions", ())]
    return all(
        (asked["action"], asked["topic"], asked["subject"]["agency"], asked["subject"]["id"]) == its_own
        for asked in questions
    )


def _handed_out(openings: Openings) -> list[RecordedDecision]:
    """What stands in `decisions`. Entry after entry holds the same ones, which need not be read again."""
    content = openings.parts.get("decisions")
    if not content:
        return []
    return list(_remembered(content[0]) if len(content[0]) <= _REMEMBERED_BYTES else _read(content[0]))


def _read(content: bytes) -> tuple[RecordedDecision, ...]:
    return tuple(_in_part("decisions", _listed(_value("decisions", content))))


_remembered = lru_cache(_REMEMBERED)(_read)


def _in_part(part: str, decisions: Iterator[JsonValue] | list[JsonValue]) -> Iterator[RecordedDecision]:
    for number, decision in enumerate(decisions):
        match decision:
            case {"input": dict(asked), "output": dict(answered), **besides}:
                under = _rules(besides["under"]) if "under" in besides else None
                yield RecordedDecision(part, number, canonical(asked), canonical(answered), under)
            case {"withdrawal": dict(), "output": {"effect": "withdrawal"}} if part == "decisions":
                pass  # a notice that a record was withdrawn: nothing was asked, and nothing can be asked again
            case _:
                raise EntryInvalid(f"decision {number} of the part '{part}' has not both input and output")


def _histories(openings: Openings) -> Iterator[dict[str, JsonValue]]:
    considered = _loads(openings, "considered")
    for history in considered if isinstance(considered, list) else [considered]:
        if isinstance(history, dict):
            yield history
        elif history is not None:
            raise EntryInvalid("the part 'considered' holds something else than histories")


def _first(pair: JsonValue) -> JsonValue:
    """The decision of a pair of decision and count."""
    if not isinstance(pair, list) or len(pair) != 2:
        raise EntryInvalid("the part 'considered' holds a withheld decision without its count")
    return pair[0]


def _listed(value: JsonValue) -> list[JsonValue]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise EntryInvalid("what should be a list of decisions is none")
    return value


def _loads(openings: Openings, part: str) -> JsonValue:
    """A part's content; None if the entry has none of that name."""
    items = openings.parts.get(part)
    return _value(part, items[0]) if items else None


def _value(part: str, content: bytes) -> JsonValue:
    try:
        value: JsonValue = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise EntryInvalid(f"the part '{part}' is not readable") from None
    return value
