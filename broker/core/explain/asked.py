"""What is asked about, and which recorded decisions a reference or a place in the ledger stands for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from broker.core.audit.reading import EntryReader
from broker.core.audit.recorded import RecordedDecision, decisions_of, rules_of
from broker.core.ledger.leaf import EntryInvalid, open_entry, read_leaf, read_openings
from broker.core.reference import time_of
from broker.errors import LedgerRefused
from broker.model.audit import EntryQuery, EntryRow
from broker.model.ledger import EncodedEntry, JsonValue, LedgerEntry
from broker.model.rulebook import Rules
from broker.ports.audit_index import AuditIndex
from broker.ports.ledger_log import LedgerReader

_BEFORE_MS = 1_000
"""Clocks differ: an entry may say an earlier time than the reference of its call."""

_AFTER_MS = (10_000, 600_000, 86_400_000)
"""How long after a call began its entry is looked for, little by little: nearly all end soon."""

_PAGE = 500
_WITH_REFERENCE = frozenset({"call_refused", "publish"})


@dataclass(frozen=True, slots=True)
class DecisionAt:
    """The decision `number` (in the order in which the entry holds them) of one ledger entry."""

    instance: str
    index: int
    number: int = 0


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision that the ledger holds. time_ms: the entry's. who: the caller, where the entry tells of a call."""

    time_ms: int
    rules: Rules
    input: Mapping[str, JsonValue]
    output: Mapping[str, JsonValue]
    who: Mapping[str, JsonValue] | None


async def decision_at(reader: LedgerReader, index: AuditIndex, at: DecisionAt) -> Recorded | None:
    """None if there is none, or its content was erased. Raises LedgerRefused, StorageUnavailable."""
    try:
        entry = await EntryReader(reader, index).read(at.instance, at.index)
    except LookupError:
        return None
    found = _recorded(entry)
    return found[at.number] if 0 <= at.number < len(found) else None


async def decisions_of_reference(
    reader: LedgerReader, index: AuditIndex, reference: str, agency: str | None
) -> Sequence[Recorded]:
    """Those of the call that an error's `reference` names, if it lasted no longer than a day; empty if there are none.

    agency: look at what concerns this agency only, for whoever is shown nothing else; None: at everything.
    """
    began_ms = time_of(reference)
    if began_ms is None:
        return ()
    entries = EntryReader(reader, index)
    async for row in _rows(index, began_ms, agency):
        try:
            entry = await entries.read(row.instance, row.index)
            _, opened = open_entry(entry)
        except (LookupError, LedgerRefused, EntryInvalid):
            continue  # verification says so, with the place
        if _reference(opened) == reference:
            return _recorded(entry)
    return ()


async def _rows(index: AuditIndex, began_ms: int, agency: str | None) -> AsyncIterator[EntryRow]:
    since_ms = began_ms - _BEFORE_MS
    for after_ms in _AFTER_MS:
        until_ms = began_ms + after_ms
        wanted = EntryQuery("", 0, _WITH_REFERENCE, agency, since_ms, until_ms, _PAGE, opened=True)
        for each in await index.coverage():
            query = replace(wanted, instance=each.instance)
            while rows := await index.entries(query):
                for row in rows:
                    yield row
                query = replace(query, from_index=rows[-1].index + 1)
        since_ms = until_ms + 1


def _reference(entry: LedgerEntry) -> str | None:
    call: Any = entry.body.get("call")
    found = call.get("reference") if isinstance(call, dict) else None
    return found if isinstance(found, str) else None


def _recorded(entry: EncodedEntry) -> Sequence[Recorded]:
    try:
        time_ms, openings = read_leaf(entry.leaf).time_ms, read_openings(entry.openings)
        who, rules = openings.values().get("who"), rules_of(openings)
        return tuple(_each(time_ms, who, rules, decisions_of(openings)))
    except EntryInvalid:
        return ()


def _each(
    time_ms: int, who: JsonValue, rules: Rules, decisions: Sequence[RecordedDecision]
) -> Iterator[Recorded]:
    for decision in decisions:
        yield Recorded(
            time_ms,
            decision.under or rules,
            orjson.loads(decision.input),
            orjson.loads(decision.output),
            who if isinstance(who, dict) else None,
        )
