"""Who saw a record and what an agency saw: whole for auditors, the own part for administrators, hidden like missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from broker.adapters.export.index import SqliteAuditIndex
from broker.core.audit.desk import AuditDesk
from broker.core.audit.proofs import ReceiverPart, RecordPart
from broker.core.audit.seen import SightingsDesk, SightingsPage
from broker.core.audit.sightings import what_saw, who_saw
from broker.errors import EntenteError
from broker.model.audit import Reception, Sighting
from broker.model.ledger import ReadPoint
from broker.model.principal import Principal
from tests.fakes.auditing import AUDITOR, administrator, person, readings
from tests.fakes.delivery import MemoryLedger
from tests.fakes.ledgers import EXCHANGE, OWNERS, PEOPLE, Record, make_ledgers

CONSUMERS = sorted({each.agency for each in PEOPLE})


class Counted:
    """Passes calls on and counts them: what is done the same number of times takes as long."""

    def __init__(self, inner: Any, calls: Counter[str]) -> None:
        self._inner = inner
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            if not any(isinstance(argument, ReadPoint) and argument.index == 0 for argument in arguments):
                self._calls[name] += 1
            return found(*arguments, **named)

        return counted


class Office:
    def __init__(self, index: SqliteAuditIndex) -> None:
        self.ledgers = make_ledgers(seed=31, rounds=250)
        self.index = index
        self.own = MemoryLedger()
        self.calls: Counter[str] = Counter()
        reader: Any = Counted(self.ledgers.reader(), self.calls)
        self.readings = readings(reader, cast(Any, Counted(index, self.calls)), ledger=self.own)
        self.desk = SightingsDesk(self.readings)
        self.proofs = AuditDesk(self.readings)

    def records(self, owner: str) -> list[Record]:
        return [
            r for topic in self.ledgers.records.values() for row in topic for r in row if r.owner == owner
        ]

    async def seen(self, owner: str) -> Record:
        """A record of this owner that several people saw."""
        await self.desk.who_saw(AUDITOR, "//x/y", "1")
        for record in self.records(owner):
            if len({s.agency for s in await self.index.sightings(record.source, record.id)}) > 1:
                return record
        raise AssertionError("the made-up ledger has no such record")

    async def all(self, caller: Principal, record: Record, size: int) -> list[Sighting]:
        found: list[Sighting] = []
        token = ""
        while True:
            page = await self.desk.who_saw(caller, record.source, record.id, page_size=size, token=token)
            assert bool(page.publications) == (not token)
            assert {(s.instance, s.index) for s in page.sightings} <= page.hashes.keys()
            found += page.sightings
            token = page.next_token
            if not token:
                return found


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    index = await SqliteAuditIndex.open(tmp_path / "index.sqlite", EXCHANGE)
    yield Office(index)
    await index.close()


async def reason(awaited: Any) -> str:
    with pytest.raises(EntenteError) as refused:
        await awaited
    return refused.value.reason.name


@pytest.mark.parametrize("owner", OWNERS)
async def test_auditors_see_every_sighting(office: Office, owner: str) -> None:
    record = await office.seen(owner)
    expected = await who_saw(office.index, record.source, record.id)
    for size in (0, 1, 2):
        assert tuple(await office.all(AUDITOR, record, size)) == expected.sightings
    page = await office.desk.who_saw(AUDITOR, record.source, record.id)
    assert (page.publications, page.complete, page.whole) == (expected.publications, expected.complete, True)


@pytest.mark.parametrize("owner", OWNERS)
async def test_owners_administrators_see_agencies_only(office: Office, owner: str) -> None:
    record = await office.seen(owner)
    whole = (await who_saw(office.index, record.source, record.id)).sightings
    page = await office.desk.who_saw(administrator(owner), record.source, record.id)
    assert len(page.sightings) == len(whole)
    assert not page.whole
    for shown, sighting in zip(page.sightings, whole, strict=True):
        nobody = {
            "subject": "",
            "token": "",
            "certificate": None,
            "subscription": "",
            "stream": "",
            "ended": None,
        }
        unplaced = {"revision": "", "engine": "", "partition": 0, "offset": 0}
        assert shown == replace(sighting, **nobody, **unplaced, decision=shown.decision)
        asked: Any = shown.decision["input"]
        assert set(asked["subject"]) == {"agency", "purpose"}
        assert shown.decision["output"] == sighting.decision["output"]


async def test_hidden_is_missing_and_takes_as_long(office: Office) -> None:
    record = await office.seen(OWNERS[0])
    for caller in (administrator(OWNERS[1]), administrator(CONSUMERS[0])):
        work = []
        for source, name in (
            (record.source, record.id),
            (record.source, "never-published"),
            ("//no-such-agency/x", "1"),
            ("no-source", "1"),
            (f"//{caller.agency}x/y", "1"),
        ):
            office.calls.clear()
            page = await office.desk.who_saw(caller, source, name)
            assert page == SightingsPage()
            work.append(dict(office.calls))
        assert all(each == work[0] for each in work)


@pytest.mark.parametrize("caller", [person("ems", "paramedic"), person("ems", "auditor")])
async def test_nobody_else(office: Office, caller: Principal) -> None:
    assert await reason(office.desk.who_saw(caller, "//ems/x", "1")) == "AUDIT_DENIED"
    assert await reason(office.desk.what_saw(caller, "ems", "")) == "AUDIT_DENIED"
    assert office.own.entries == []


async def test_readings_are_in_the_ledger(office: Office) -> None:
    await office.desk.who_saw(AUDITOR, "//ems/x", "1")
    await office.desk.what_saw(administrator("ems"), "transport", "t", zone_minutes=60)
    queries = [entry.body["query"] for entry in office.own.entries]
    assert queries == [
        {"method": "WhoSaw", "about": {"source": "//ems/x", "id": "1"}},
        {"method": "WhatSaw", "about": {"agency": "transport", "topic": "t", "zone_minutes": 60}},
    ]


# ---- what an agency saw ----


def summed(rows: list[Reception]) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        found[row.day, row.topic, row.purpose, row.type, row.owner, row.effect] += row.records
    return found


@pytest.mark.parametrize("agency", CONSUMERS)
async def test_what_a_consumer_s_administrators_see_of_themselves(office: Office, agency: str) -> None:
    page = await office.desk.what_saw(administrator(agency), agency, "")
    whole = await what_saw(office.index, agency)
    rows = list(page.receptions)
    assert rows
    assert all(row.labels == {} and row.entries == 0 for row in rows)
    assert len(rows) == len(summed(rows)) <= len(whole)
    assert summed(rows) == summed(whole)


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("agency", CONSUMERS)
async def test_what_owners_see_of_others(office: Office, owner: str, agency: str) -> None:
    page = await office.desk.what_saw(administrator(owner), agency, "")
    whole = [row for row in await what_saw(office.index, agency) if row.owner == owner]
    assert list(page.receptions) == [replace(row, handed_out=0) for row in whole]


async def test_consumers_see_nothing_of_each_other(office: Office) -> None:
    for agency in (CONSUMERS[0], "no-such-agency"):
        page = await office.desk.what_saw(administrator(CONSUMERS[1]), agency, "")
        assert (page.receptions, page.next_token) == ((), "")


async def test_auditors_see_what_every_agency_saw_page_by_page(office: Office) -> None:
    for agency in CONSUMERS:
        rows: list[Reception] = []
        token = ""
        while True:
            page = await office.desk.what_saw(AUDITOR, agency, "", page_size=2, token=token)
            rows += page.receptions
            if not (token := page.next_token):
                break
        assert rows == await what_saw(office.index, agency)
        topic = rows[0].topic
        chosen = await office.desk.what_saw(AUDITOR, agency, topic)
        assert list(chosen.receptions) == [row for row in rows if row.topic == topic]


async def test_questions_that_make_no_sense(office: Office) -> None:
    page = await office.desk.what_saw(AUDITOR, CONSUMERS[0], "", page_size=1)
    assert page.next_token
    for asked in (
        office.desk.what_saw(AUDITOR, CONSUMERS[1], "", token=page.next_token),
        office.desk.who_saw(AUDITOR, CONSUMERS[0], "", token=page.next_token),
        office.desk.what_saw(AUDITOR, "ems", "", zone_minutes=1_441),
        office.desk.who_saw(AUDITOR, "x" * 20_000, "1"),
    ):
        assert await reason(asked) == "REQUEST_INVALID"


# ---- proofs ----


async def test_entries_that_do_not_concern_an_administrator_are_not_even_read(office: Office) -> None:
    """Whatever they are, and whether they exist: the same answer after the same work."""
    part = ReceiverPart("paramedic-1", "main")
    row = RecordPart("//highway-patrol/system", "crash-reports-0-0")
    caller = administrator("partner-cert")
    entries = office.ledgers.instances["broker"].plain
    concerned = {
        e.leaf.index
        for e in await _entries(office, caller)
        if (e.leaf.instance, e.leaf.kind) == ("broker", "delivery")
    }
    work = []
    others = [number for number in range(len(entries)) if number not in concerned][:60]
    for number in (*others, len(entries), 10**9, 2**40 - 1):
        for wanted in (part, row):
            office.calls.clear()
            assert await reason(office.proofs.prove(caller, "broker", number, wanted)) == "ENTRY_NOT_FOUND"
            work.append(dict(office.calls))
    kinds = {entries[number].kind for number in others}
    assert {"delivery", "publish", "configuration"} <= kinds
    assert all(each == work[0] for each in work)
    assert work[0]["read"] == len(office.ledgers.instances)  # to bring the index up to date


async def _entries(office: Office, caller: Principal) -> Any:
    from broker.core.audit.desk import EntriesQuestion

    return (await office.proofs.entries(caller, EntriesQuestion(page_size=500))).entries


async def test_administrators_prove_no_whole_entries(office: Office) -> None:
    caller = administrator("ems")
    mine = await _entries(office, caller)
    for each in mine:
        assert (
            await reason(office.proofs.prove(caller, each.leaf.instance, each.leaf.index, None))
            == "ENTRY_NOT_FOUND"
        )
