"""The desks that read a ledger for those who may, over made-up ledgers and the index of them in SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from broker.adapters.export.index import SqliteAuditIndex
from broker.core.audit import desk as desk_module
from broker.core.audit.desk import AuditDesk, EntriesPage, EntriesQuestion
from broker.core.audit.kinds import KINDS
from broker.core.audit.view import VISIBLE_KINDS, Scope, ShownEntry, own_places, shown_parts
from broker.core.merkle.hashing import leaf_hash
from broker.errors import EntenteError
from broker.model.ledger import LedgerEntry
from broker.model.principal import Principal
from tests.fakes.auditing import AUDITOR, administrator, person, readings
from tests.fakes.delivery import MemoryLedger
from tests.fakes.ledgers import EXCHANGE, OWNERS, PEOPLE, FakeLedgers, FakeReader, Record, make_ledgers

AGENCIES = sorted({each.agency for each in PEOPLE} | set(OWNERS))


@dataclass
class Office:
    """A ledger, its index, what readings write, and the desk."""

    ledgers: FakeLedgers
    reader: FakeReader
    index: SqliteAuditIndex
    own: MemoryLedger
    desk: AuditDesk

    async def all(self, caller: Principal, size: int = 0, **question: Any) -> list[ShownEntry]:
        """Every page."""
        asked = EntriesQuestion(page_size=size, **question)
        found: list[ShownEntry] = []
        while True:
            page = await self.desk.entries(caller, asked)
            assert len(page.entries) <= (size or 100)
            found += page.entries
            if not page.next_token:
                return found
            asked = replace(asked, page_token=page.next_token)

    def plain(self) -> list[tuple[str, int, LedgerEntry]]:
        """Every entry as it was written, by instance and index."""
        return [
            (name, number, entry)
            for name, instance in sorted(self.ledgers.instances.items())
            for number, entry in enumerate(instance.plain)
        ]


Open = Callable[[FakeLedgers], Any]


@pytest.fixture
async def open_office(tmp_path: Path) -> AsyncIterator[Open]:
    opened: list[SqliteAuditIndex] = []

    async def open_one(ledgers: FakeLedgers) -> Office:
        index = await SqliteAuditIndex.open(tmp_path / f"{len(opened)}.sqlite", EXCHANGE)
        opened.append(index)
        reader, own = ledgers.reader(), MemoryLedger()
        return Office(ledgers, reader, index, own, AuditDesk(readings(reader, index, ledger=own)))

    yield open_one
    for index in opened:
        await index.close()


@pytest.fixture
async def office(open_office: Open) -> Office:
    office: Office = await open_office(make_ledgers(seed=11, rounds=150))
    return office


async def refusal(awaited: Any) -> tuple[str, str]:
    with pytest.raises(EntenteError) as refused:
        await awaited
    return refused.value.reason.name, refused.value.detail


# ---- entries ----


@pytest.mark.parametrize("size", [0, 1, 7, 500])
async def test_auditors_see_every_entry_whole_and_once(office: Office, size: int) -> None:
    found = await office.all(AUDITOR, size) if size != 1 else (await first_page(office, 1)).entries
    written = office.plain()[: len(found)]
    assert size == 1 or len(found) == len(office.plain())
    for shown, (instance, number, entry) in zip(found, written, strict=True):
        encoded = office.ledgers.instances[instance].entries[number]
        assert (shown.leaf.instance, shown.leaf.index, shown.leaf.kind) == (instance, number, entry.kind)
        assert shown.leaf_hash == leaf_hash(encoded.leaf)
        roots = {name: root.hex() for name, root in entry.roots.items()}
        assert {part.name: part.value for part in shown.parts} == {**entry.body, **roots}


async def first_page(office: Office, size: int) -> EntriesPage:
    page = await office.desk.entries(AUDITOR, EntriesQuestion(page_size=size))
    assert page.next_token
    return page


@pytest.mark.parametrize("agency", AGENCIES)
async def test_administrators_see_the_views_of_their_entries(office: Office, agency: str) -> None:
    expected = []
    for instance, number, entry in office.plain():
        names = {place: await name_of(office, entry, place) for place in own_places(agency, entry.body)}
        parts = shown_parts(Scope(agency), entry, names)
        if parts:
            expected.append((instance, number, parts))
    for size in (0, 7):
        found = await office.all(administrator(agency), size)
        assert [(each.leaf.instance, each.leaf.index, each.parts) for each in found] == expected
    assert expected


async def name_of(office: Office, entry: LedgerEntry, place: tuple[int, int]) -> tuple[str, str]:
    topic = entry.body["class"]["topic"]  # type: ignore[index,call-overload]
    record = office.ledgers.records[topic][place[0]][place[1]]  # type: ignore[index]
    return record.source, record.id


async def test_conditions(office: Office) -> None:
    written = office.plain()
    assert [e.leaf.index for e in await office.all(AUDITOR, instance="second")] == [
        number for instance, number, _ in written if instance == "second"
    ]
    kinds = ("publish", "moved")
    assert len(await office.all(AUDITOR, kinds=kinds)) == sum(e.kind in kinds for *_, e in written)
    middle = written[len(written) // 2][2].time_ms
    for caller in (AUDITOR, administrator(OWNERS[0])):
        early = await office.all(caller, before_ms=middle)
        late = await office.all(caller, since_ms=middle)
        assert early and late
        assert all(e.leaf.time_ms < middle for e in early)
        assert all(e.leaf.time_ms >= middle for e in late)
        assert len(early) + len(late) == len(await office.all(caller))
    assert await office.all(AUDITOR, instance="no-such-instance") == []


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - VISIBLE_KINDS))
async def test_administrators_do_not_see_other_kinds_by_asking_for_them(office: Office, kind: str) -> None:
    for agency in AGENCIES:
        assert await office.all(administrator(agency), kinds=(kind,)) == []


async def test_a_page_ends_when_it_is_large(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "PAGE_BYTES", 2_000)
    page = await first_page(office, 0)
    sizes = [sum(len(orjson.dumps(part.value)) for part in entry.parts) for entry in page.entries]
    assert sum(sizes[:-1]) < 2_000 <= sum(sizes)
    assert len(await office.all(AUDITOR)) == len(office.plain())


async def test_erased_entries_stand_there_empty_for_auditors(office: Office) -> None:
    for number in (5, 6):
        office.reader.change("broker", number, openings=b"")
    found = {(e.leaf.instance, e.leaf.index): e for e in await office.all(AUDITOR)}
    assert len(found) == len(office.plain())
    for number in (5, 6):
        assert found["broker", number].erased
        assert all(type(part.value) is str for part in found["broker", number].parts)
    for agency in AGENCIES:
        assert not any(each.erased for each in await office.all(administrator(agency)))


async def test_a_ledger_that_was_changed_under_the_index_is_told(office: Office) -> None:
    await office.all(AUDITOR)
    other = office.ledgers.instances["second"].entries[9]
    office.reader.change("broker", 9, leaf=other.leaf, openings=other.openings)
    assert (await refusal(office.all(AUDITOR)))[0] == "LEDGER_INCONSISTENT"


# ---- who may ----


@pytest.mark.parametrize(
    "caller", [person("ems", "paramedic"), person("ems", "auditor"), person("exchange", "exchange-admin")]
)
async def test_nobody_else_reads(office: Office, caller: Principal) -> None:
    assert (await refusal(office.desk.entries(caller, EntriesQuestion())))[0] == "AUDIT_DENIED"
    assert (await refusal(office.desk.prove(caller, "broker", 0, None)))[0] == "AUDIT_DENIED"
    assert office.own.entries == []
    assert await office.index.coverage() == []  # not even the index was looked at


async def test_those_who_may_not_read_are_told_nothing_about_their_question(office: Office) -> None:
    for question in (EntriesQuestion(kinds=("no-such-kind",)), EntriesQuestion(page_token="x")):
        assert (await refusal(office.desk.entries(person("ems", "paramedic"), question)))[0] == "AUDIT_DENIED"


async def test_everybody_may_know_the_checkpoints(office: Office) -> None:
    newest = {name: i.checkpoints[-1].note for name, i in office.ledgers.instances.items()}
    assert dict(await office.desk.checkpoints()) == newest
    assert office.own.entries == []


async def test_each_reading_is_in_the_ledger_before_it_is_answered(office: Office) -> None:
    await office.desk.entries(administrator("ems"), EntriesQuestion(kinds=("publish",)))
    (entry,) = office.own.entries
    who: Any = entry.body["who"]
    assert (entry.kind, who["agency"], who["subject"]) == ("ledger_read", "ems", "admin-1")
    asked = {"instance": "", "kinds": ["publish"], "since_ms": None, "before_ms": None}
    assert entry.body["query"] == {"method": "ListEntries", "about": asked}
    office.own.failures = 1
    assert (await refusal(office.desk.entries(AUDITOR, EntriesQuestion())))[0] == "LEDGER_UNAVAILABLE"


async def test_questions_that_make_no_sense(office: Office) -> None:
    page = await first_page(office, 2)
    for question in (
        EntriesQuestion(kinds=("no-such-kind",)),
        EntriesQuestion(page_token="x"),
        EntriesQuestion(instance="broker", page_token=page.next_token),
        EntriesQuestion(instance="x" * 20_000),
    ):
        assert (await refusal(office.desk.entries(AUDITOR, question)))[0] == "REQUEST_INVALID"
    assert len(office.own.entries) == 1


# ---- what is withheld leaves no trace ----


class TwoWorlds(FakeLedgers):
    """The same life twice, in one of which there are further records that are withheld from everybody but their owner."""

    def __init__(self, *, hidden: bool) -> None:
        self.hidden = hidden
        self.label = "clear"
        super().__init__(5, ("broker",), withhold=False)
        self._live()

    def _store(self, topic: str, owner: str) -> Record:
        record = super()._store(topic, owner)
        placed = replace(record, label=self.label)
        self.records[topic][record.partition][record.offset] = placed
        return placed

    def _hide(self) -> None:
        """Records, and positions that move past them, written from other dice so that the rest stays the same."""
        if not self.hidden:
            return
        dice, self.random = self.random, FakeLedgers(99).random
        (instance,) = self.instances.values()
        self.label = "red"
        for topic in self.records:
            self.publish(instance, topic, 5)
        for stream in instance.streams:
            self.deliver(instance, stream, 10_000)
        self.acknowledge(instance, instance.streams)
        self.label, self.random = "clear", dice

    def _live(self) -> None:
        (instance,) = self.instances.values()
        for turn in range(6):
            for each in PEOPLE:
                stream = self.open(instance, each, "crash-reports", "main" if turn % 2 else "")
                self.deliver(instance, stream, 10_000)
                self._hide()
                self.publish(instance, "crash-reports", 3)
                self.deliver(instance, stream, 10_000)
                self._hide()
                self.acknowledge(instance, [stream])
                self.close(instance, stream)
        self.checkpoint(instance)


@pytest.mark.parametrize("agency", sorted({each.agency for each in PEOPLE}))
async def test_a_consumer_s_administrators_cannot_tell_whether_anything_was_withheld(
    open_office: Open, agency: str
) -> None:
    """Everything that they are answered but where entries stand in the tree, which each checkpoint tells everybody."""
    answers = []
    for hidden in (False, True):
        office: Office = await open_office(TwoWorlds(hidden=hidden))
        pages = []
        for size in (0, 3):
            question = EntriesQuestion(page_size=size)
            while True:
                page = await office.desk.entries(administrator(agency), question)
                pages.append(
                    [(e.leaf.kind, e.leaf.time_ms, sorted(e.leaf.parts), e.parts) for e in page.entries]
                )
                if not page.next_token:
                    break
                question = replace(question, page_token=page.next_token)
        answers.append(pages)
    assert len(answers[0]) > 3
    assert answers[0] == answers[1]


async def test_the_two_worlds_do_differ(open_office: Open) -> None:
    lives = [await (await open_office(TwoWorlds(hidden=hidden))).all(AUDITOR) for hidden in (False, True)]
    assert len(lives[1]) > len(lives[0]) + 100
