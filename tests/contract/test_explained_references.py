"""The call that a reference names is found among a week's entries, and no more of them is read than it takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.adapters.export.index import SqliteAuditIndex
from broker.core.explain.asked import decisions_of_reference
from broker.model.audit import EntryRow
from broker.model.ledger import JsonValue
from tests.fakes.ledgers import EXCHANGE, PEOPLE, FakeLedgers

HOUR_MS = 3_600_000
HOURS = 24 * 8
STATISTICIAN, MEDIC = PEOPLE[0], PEOPLE[2]


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
def ledgers() -> FakeLedgers:
    """An hour's refusals, one of each of two agencies, for eight days."""
    made = FakeLedgers(instances=("a", "b"))
    for hour in range(HOURS):
        made.now_ms += HOUR_MS
        for name, who in (("a", STATISTICIAN), ("b", MEDIC)):
            decision: JsonValue = {"input": {"action": "subscribe", "hour": hour}, "output": {}}
            call: JsonValue = {
                "method": "Subscribe",
                "reason": "TOPIC_NOT_FOUND",
                "reference": f"{name}-{hour}",
            }
            made.write(made.instances[name], "call_refused", who=who.who(), call=call, decisions=[decision])
    made.finish()
    return made


@pytest.fixture
async def index(ledgers: FakeLedgers, tmp_path: Path) -> AsyncIterator[Counted]:
    opened = await SqliteAuditIndex.open(tmp_path / "index.sqlite", EXCHANGE)
    await opened.update(ledgers.reader())
    yield Counted(opened)
    await opened.close()


async def hours(
    ledgers: FakeLedgers, index: Counted, reference: str, agency: str | None = None
) -> list[JsonValue]:
    found = await decisions_of_reference(ledgers.reader(), index, reference, ledgers.now_ms, agency)  # type: ignore[arg-type]
    return [each.input["hour"] for each in found]


@pytest.mark.parametrize("ago", [0, 1, 2, 23, 24, 25, 7 * 24])
async def test_it_is_found_in_each_part_of_a_week(ledgers: FakeLedgers, index: Counted, ago: int) -> None:
    hour = HOURS - 1 - ago
    assert await hours(ledgers, index, f"a-{hour}") == [hour]
    assert await hours(ledgers, index, f"b-{hour}") == [hour]


async def test_what_was_before_is_not_looked_for(ledgers: FakeLedgers, index: Counted) -> None:
    assert await hours(ledgers, index, f"a-{HOURS - 2 - 7 * 24}") == []
    assert index.read == 2 * (7 * 24 + 1)


async def test_what_was_just_now_takes_no_look_at_the_week(ledgers: FakeLedgers, index: Counted) -> None:
    assert await hours(ledgers, index, f"b-{HOURS - 1}") == [HOURS - 1]
    assert index.read <= 4


async def test_for_an_agency_only_what_concerns_it_is_read(ledgers: FakeLedgers, index: Counted) -> None:
    assert await hours(ledgers, index, f"a-{HOURS - 1}", MEDIC.agency) == []
    assert index.read == 7 * 24 + 1
    assert await hours(ledgers, index, f"b-{HOURS - 30}", MEDIC.agency) == [HOURS - 30]
