"""The call that a reference names is found among many, whenever it was, and few entries are read for it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from broker.adapters.export.index import SqliteAuditIndex
from broker.core.explain.asked import decisions_of_reference
from broker.core.reference import new_reference
from broker.model.audit import EntryRow
from broker.model.ledger import JsonValue
from tests.fakes.ledgers import EXCHANGE, PEOPLE, FakeLedgers

MINUTE_MS = 60_000
CALLS = 24 * 60 * 2
"""One a minute for two days."""

LASTED_MS = {100: 9_000, 200: 599_000, 300: 86_000_000, 400: 86_500_000}
"""Of the calls of these numbers; all others ended at once."""

STATISTICIAN, MEDIC = PEOPLE[0], PEOPLE[2]
Made = tuple[FakeLedgers, Mapping[int, str]]


class Counted:
    """An index that counts the entries that are looked up."""

    def __init__(self, index: SqliteAuditIndex) -> None:
        self.index = index
        self.read = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.index, name)

    async def entry(self, instance: str, index: int) -> EntryRow | None:
        self.read += 1
        return await self.index.entry(instance, index)


@pytest.fixture(scope="module")
def made() -> Made:
    """Refused calls of two agencies in turn, each agency's on an instance of its own, and their references."""
    ledgers = FakeLedgers(instances=("a", "b"))
    references = {}
    for number in range(CALLS):
        ledgers.now_ms += MINUTE_MS
        references[number] = new_reference(ledgers.now_ms - LASTED_MS.get(number, 0))
        name, who = ("a", STATISTICIAN) if number % 2 else ("b", MEDIC)
        decision: JsonValue = {"input": {"action": "subscribe", "number": number}, "output": {}}
        call: JsonValue = {
            "method": "Subscribe",
            "reason": "TOPIC_NOT_FOUND",
            "reference": references[number],
        }
        ledgers.write(ledgers.instances[name], "call_refused", who=who.who(), call=call, decisions=[decision])
    ledgers.finish()
    return ledgers, references


@pytest.fixture
async def index(made: Made, tmp_path: Path) -> AsyncIterator[Counted]:
    opened = await SqliteAuditIndex.open(tmp_path / "index.sqlite", EXCHANGE)
    await opened.update(made[0].reader())
    yield Counted(opened)
    await opened.close()


async def numbers(made: Made, index: Counted, reference: str, agency: str | None = None) -> list[JsonValue]:
    found = await decisions_of_reference(made[0].reader(), index, reference, agency)  # type: ignore[arg-type]
    return [each.input["number"] for each in found]


@pytest.mark.parametrize("number", [0, 1, 1_000, CALLS - 1])
async def test_it_is_found_whenever_it_was_and_nothing_else_is_read(
    made: Made, index: Counted, number: int
) -> None:
    assert await numbers(made, index, made[1][number]) == [number]
    assert index.read == 1


@pytest.mark.parametrize(("number", "read"), [(100, 1), (200, 11), (300, 1_500)])
async def test_one_that_took_its_time_is_found_too(
    made: Made, index: Counted, number: int, read: int
) -> None:
    assert await numbers(made, index, made[1][number]) == [number]
    assert index.read <= read


async def test_one_that_lasted_longer_than_a_day_is_not_looked_for(made: Made, index: Counted) -> None:
    assert await numbers(made, index, made[1][400]) == []


async def test_for_an_agency_only_what_concerns_it_is_read(made: Made, index: Counted) -> None:
    assert await numbers(made, index, made[1][1_001], MEDIC.agency) == []
    assert index.read <= 720
    index.read = 0
    assert await numbers(made, index, made[1][1_000], MEDIC.agency) == [1_000]
    assert index.read == 1


@pytest.mark.parametrize(
    "word",
    [
        "", "a-1", "x" * 15, "x" * 17, "!" * 16, "é" * 16, "=" * 16, "\0" * 16, '{"a":1,"a":2}xyz',
    ],
)  # fmt: skip
async def test_what_is_no_reference_is_not_looked_for(made: Made, index: Counted, word: str) -> None:
    assert await numbers(made, index, word) == []
    assert index.read == 0


async def test_one_that_nobody_was_given_is_not_found(made: Made, index: Counted) -> None:
    known = base64.urlsafe_b64decode(made[1][7])
    assert await numbers(made, index, base64.urlsafe_b64encode(known[:6] + bytes(6)).decode()) == []
