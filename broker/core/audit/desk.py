"""Entries, proofs and checkpoints for those who read the ledger through the broker, each its part of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from broker.core.audit.kinds import KINDS
from broker.core.audit.pages import INDEX_MOST, page_start, page_token, read_rows
from broker.core.audit.proofs import ProofRefused, ReceiverPart, RecordPart, prove
from broker.core.audit.reading import read_entry
from broker.core.audit.readings import Reading, Readings
from broker.core.audit.view import (
    VISIBLE_KINDS,
    RecordNames,
    ShownEntry,
    is_receiver,
    own_places,
    shown_parts,
)
from broker.core.ledger.leaf import Leaf, open_entry
from broker.core.merkle.hashing import leaf_hash
from broker.core.record.envelope import source_agency
from broker.errors import EntenteError, Reason
from broker.model.audit import EntryQuery
from broker.model.ledger import EncodedEntry, JsonValue, LedgerEntry
from broker.model.principal import Principal
from broker.ports.audit_index import AuditIndex

ENTRIES_DEFAULT, ENTRIES_MOST = 100, 500
PAGE_BYTES = 2 << 20
"""Contents shown after which a page of entries ends, whatever was asked for."""

_AT_ONCE = 20
"""Entries that are held in memory at a time: a single one may take some megabytes."""

_INSTANCE = re.compile(r"[a-z0-9-]{1,32}")

Part = ReceiverPart | RecordPart
Opened = tuple[Leaf, LedgerEntry]


@dataclass(frozen=True, slots=True)
class EntriesQuestion:
    """See Ledger.ListEntries; `instance` "" and no `kinds` mean all. since, before: milliseconds since 1970."""

    instance: str = ""
    kinds: tuple[str, ...] = ()
    since_ms: int | None = None
    before_ms: int | None = None
    page_size: int = 0
    page_token: str = ""

    def conditions(self) -> dict[str, JsonValue]:
        """What the pages of one question have in common."""
        kinds: list[JsonValue] = [*sorted(self.kinds)]
        times: dict[str, JsonValue] = {"since_ms": self.since_ms, "before_ms": self.before_ms}
        return {"instance": self.instance, "kinds": kinds, **times}


@dataclass(frozen=True, slots=True)
class EntriesPage:
    """Entries by instance and index; `next_token` "" at the end."""

    entries: tuple[ShownEntry, ...]
    next_token: str


class AuditDesk:
    """Every method raises EntenteError: see the service Ledger."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    async def checkpoints(self) -> list[tuple[str, bytes]]:
        """The newest checkpoint of each instance that has one, for everybody."""
        async with self._readings.unrestricted() as (_, index):
            found = [(c.instance, await index.latest_checkpoint(c.instance)) for c in await index.coverage()]
        return [(instance, stored.note) for instance, stored in found if stored is not None]

    async def entries(self, principal: Principal, question: EntriesQuestion) -> EntriesPage:
        """One page of what the principal may see."""
        scope = await self._readings.scope(principal)
        conditions = question.conditions()
        start = page_start(list(conditions.values()), question.page_token)
        if not KINDS.keys() >= set(question.kinds):
            raise EntenteError(Reason.REQUEST_INVALID, "an entry's kind is not one of docs/ledger.md")
        token = question.page_token
        async with self._readings.begin(
            principal, scope, "ListEntries", conditions, page_token=token
        ) as reading:
            page = _Page(reading, question, min(question.page_size or ENTRIES_DEFAULT, ENTRIES_MOST))
            return await page.filled(start)

    async def prove(self, principal: Principal, instance: str, number: int, part: Part | None) -> bytes:
        """A proof as a file's content."""
        scope = await self._readings.scope(principal)
        name = f"{instance if _INSTANCE.fullmatch(instance) else '(no instance)'}/{number}"
        about: dict[str, JsonValue] = {"entry": name, "part": _described(part)}
        async with self._readings.begin(principal, scope, "ProveEntry", about) as reading:
            missing = EntenteError(Reason.ENTRY_NOT_FOUND, name)
            if number > INDEX_MOST:
                raise missing
            if reading.scope.agency is not None and not await _concerns(reading, instance, number, part):
                raise missing
            try:
                return await prove(reading.reader, reading.index, instance, number, part)
            except LookupError:
                raise missing from None
            except ProofRefused as error:
                raise EntenteError(Reason.ENTRY_NOT_PROVABLE, str(error)) from None


class _Page:
    """Gathers one page over the instances."""

    def __init__(self, reading: Reading, question: EntriesQuestion, room: int) -> None:
        self._reading = reading
        self._question = question
        self._room = room
        self._size_bytes = 0
        self._entries: list[ShownEntry] = []
        kinds = frozenset(question.kinds or KINDS)
        self._kinds = kinds if reading.scope.agency is None else kinds & VISIBLE_KINDS

    def _is_full(self) -> bool:
        return len(self._entries) >= self._room or self._size_bytes >= PAGE_BYTES

    async def filled(self, start: tuple[str, int]) -> EntriesPage:
        """From a place on, until it is full or nothing is left."""
        wanted = self._question.instance
        for instance in [c.instance for c in await self._reading.index.coverage()]:
            if instance < start[0] or wanted not in ("", instance) or not self._kinds:
                continue
            number = await self._fill(instance, start[1] if instance == start[0] else 0)
            if self._is_full():
                token = page_token(list(self._question.conditions().values()), instance, number)
                return EntriesPage(tuple(self._entries), token)
        return EntriesPage(tuple(self._entries), "")

    async def _fill(self, instance: str, number: int) -> int:
        """Add what is shown of one instance; returns the index from which to go on."""
        while not self._is_full():
            query = EntryQuery(
                instance,
                number,
                kinds=self._kinds,
                agency=self._reading.scope.agency,
                since_ms=self._question.since_ms,
                until_ms=None if self._question.before_ms is None else self._question.before_ms - 1,
                limit=min(_AT_ONCE, self._room - len(self._entries)),
            )
            rows = await self._reading.index.entries(query)
            if not rows:
                break
            encoded = await read_rows(self._reading.reader, self._reading.index, rows)
            for opened, hashed in await asyncio.to_thread(_opened, encoded):
                if self._is_full():
                    return number
                await self._add(opened, hashed)
                number = opened[0].index + 1
        return number

    async def _add(self, opened: Opened, hashed: bytes) -> None:
        leaf, entry = opened
        agency = self._reading.scope.agency
        names = {} if agency is None else await _names(self._reading.index, agency, entry)
        parts = shown_parts(self._reading.scope, entry, names)
        if parts or agency is None:
            self._entries.append(ShownEntry(leaf, hashed, parts, not entry.body))
            self._size_bytes += sum(len(orjson.dumps(part.value)) for part in parts)


def _opened(encoded: Sequence[EncodedEntry]) -> list[tuple[Opened, bytes]]:
    return [(open_entry(each), leaf_hash(each.leaf)) for each in encoded]


async def _names(index: AuditIndex, agency: str, entry: LedgerEntry) -> RecordNames:
    if entry.kind != "delivery" or not (places := own_places(agency, entry.body)):
        return {}
    members = entry.body.get("class")
    topic = members.get("topic") if isinstance(members, dict) else None
    return await index.names(topic, places) if isinstance(topic, str) else {}


async def _concerns(reading: Reading, instance: str, number: int, part: Part | None) -> bool:
    """Whether an administrator may have this part proved: of its own people's subscription, or of an own record."""
    agency = reading.scope.agency
    kinds = frozenset({"publish" if isinstance(part, RecordPart) else "delivery"})
    rows = await reading.index.entries(EntryQuery(instance, number, kinds, agency, limit=1))
    if agency is None or part is None or not rows or rows[0].index != number:
        return False
    _, entry = open_entry(await read_entry(reading.reader, reading.index, instance, number))
    if isinstance(part, RecordPart):
        return entry.kind == "publish" and source_agency(part.source) == agency
    return is_receiver(agency, entry.kind, entry.body)


def _described(part: Part | None) -> JsonValue:
    match part:
        case ReceiverPart():
            return {"subject": part.subject, "subscription": part.subscription}
        case RecordPart():
            return {"source": part.source, "id": part.id}
    return None
