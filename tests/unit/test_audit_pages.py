"""Page tokens belong to their question, and the entries of a page are those that the index named."""

from __future__ import annotations

import base64
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.audit.pages import INDEX_MOST, SKIPPED, page_start, page_token, read_rows
from broker.core.merkle.hashing import leaf_hash
from broker.errors import EntenteError, LedgerRefused
from broker.model.audit import EntryRow
from broker.model.ledger import ReadPoint
from tests.fakes.ledgers import FakeReader, make_ledgers

LEDGERS = make_ledgers(seed=3, rounds=300)
QUESTION = ["WhoSaw", "//ems/x", "7"]


class Points:
    """The index's part: a point at every so many entries."""

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self.asked: list[int] = []

    async def point(self, instance: str, index: int) -> ReadPoint:
        self.asked.append(index)
        at = index - index % self.every
        return ReadPoint(at, 0, at)


def row(instance: str, index: int, hashed: bytes | None = None) -> EntryRow:
    leaf = LEDGERS.instances[instance].entries[index].leaf
    return EntryRow(instance, index, 1, "kind", 0, hashed or leaf_hash(leaf), True)


@given(st.sets(st.integers(0, 249), min_size=1), st.integers(1, 100))
async def test_the_entries_are_those_of_the_rows(indexes: set[int], every: int) -> None:
    wanted = sorted(indexes)
    index: Any = Points(every)
    found = await read_rows(LEDGERS.reader(), index, [row("broker", n) for n in wanted])
    assert found == [LEDGERS.instances["broker"].entries[n] for n in wanted]


async def test_reading_begins_again_where_the_next_lies_far_away() -> None:
    entries = LEDGERS.instances["broker"].entries
    reader = FakeReader({"broker": entries * (2 + 2 * SKIPPED // len(entries))}, {})
    points = Points()
    last = len(reader.entries["broker"]) - 1
    rows = [
        EntryRow("broker", n, 1, "k", 0, leaf_hash(reader.entries["broker"][n].leaf), True)
        for n in (3, 5, last)
    ]
    assert len(await read_rows(reader, cast(Any, points), rows)) == 3
    assert points.asked == [3, last]


async def test_points_may_lie_far_before_what_is_wanted() -> None:
    entries = LEDGERS.instances["broker"].entries
    reader = FakeReader({"broker": entries * (2 + 2 * SKIPPED // len(entries))}, {})
    last = len(reader.entries["broker"]) - 1
    rows = [EntryRow("broker", last, 1, "k", 0, leaf_hash(reader.entries["broker"][last].leaf), True)]
    assert await read_rows(reader, cast(Any, Points(10**6)), rows) == [reader.entries["broker"][last]]


async def test_an_entry_that_is_another_one_is_refused() -> None:
    index: Any = Points()
    with pytest.raises(LedgerRefused, match="broker entry 12: is not what was read before"):
        await read_rows(LEDGERS.reader(), index, [row("broker", 11), row("broker", 12, b"\0" * 32)])


async def test_an_entry_that_is_gone_is_refused() -> None:
    reader = LEDGERS.reader()
    rows = [row("broker", 200)]
    del reader.entries["broker"][150:]
    with pytest.raises(LedgerRefused, match="broker entry 200: is not there any more"):
        await read_rows(reader, cast(Any, Points()), rows)


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789-", max_size=32), st.integers(0, INDEX_MOST))
def test_a_token_says_where_its_question_goes_on(instance: str, number: int) -> None:
    assert page_start(QUESTION, page_token(QUESTION, instance, number)) == (instance, number)


def test_no_token_begins_at_the_beginning() -> None:
    assert page_start(QUESTION, "") == ("", 0)


def altered(*value: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode()


TOKEN = page_token(QUESTION, "broker", 5)
DIGEST = orjson.loads(base64.urlsafe_b64decode(TOKEN))[0]


@pytest.mark.parametrize(
    "token",
    [
        page_token([*QUESTION, "more"], "broker", 5),
        TOKEN[:-3],
        "é",
        "%%%",
        "x" * 10_000,
        altered(),
        altered(DIGEST, "broker"),
        altered(DIGEST, "broker", -1),
        altered(DIGEST, "broker", INDEX_MOST + 1),
        altered(DIGEST, "broker", True),
        altered(DIGEST, "broker", 1.5),
        altered(DIGEST, 7, 5),
        altered(DIGEST, "broker", 5, 5),
        altered(None, "broker", 5),
        base64.urlsafe_b64encode(b"[" * 150).decode(),
        base64.urlsafe_b64encode(b"{}").decode(),
    ],
)
def test_other_tokens_are_refused(token: str) -> None:
    with pytest.raises(EntenteError, match="page_token"):
        page_start(QUESTION, token)
