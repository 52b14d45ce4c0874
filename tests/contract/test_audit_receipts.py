"""Receipts find a broker out that released or accepted something without its entry."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from broker.adapters.export.index import SqliteAuditIndex
from broker.adapters.export.reader import ExportReader
from broker.adapters.export.writer import ExportRequest, write_export
from broker.core.audit.receipts import ReceiptsChecked, check_receipts
from broker.core.ledger.receipt import Receipt, ReceiptCodec, ReceiptInvalid
from broker.model.audit import Progress, Severity
from broker.ports.audit_index import AuditIndex
from broker.ports.ledger_log import LedgerReader
from tests.contract.test_audit_export import Revisions
from tests.fakes.ledgers import EXCHANGE, START_MS, FakeLedgers, Handed, make_ledgers


class Keys:
    """One receipt key."""

    def current(self, use: str) -> tuple[int, bytes]:
        return 0, b"r" * 32

    def by_id(self, use: str, key_id: int) -> bytes | None:
        return b"r" * 32 if (use, key_id) == ("receipt", 0) else None


CODEC = ReceiptCodec(Keys())


def open_receipt(sealed: bytes, agency: str, subject: str) -> Receipt | None:
    try:
        return CODEC.open(sealed, agency, subject)
    except ReceiptInvalid:
        return None


def line(handed: Handed, **changes: Any) -> bytes:
    """As a client writes it."""
    sealed = CODEC.seal(Receipt(handed.place, handed.secret), handed.agency, handed.subject)
    content = {
        "agency": handed.agency,
        "subject": handed.subject,
        "kind": handed.kind,
        "topic": handed.topic,
        "receipt": base64.b64encode(sealed).decode(),
        "contents": handed.contents,
    }
    return orjson.dumps(content | changes)


@dataclass(frozen=True)
class Ledger:
    """A ledger that receipts are held against."""

    reader: LedgerReader
    index: AuditIndex

    async def check(self, *lines: bytes) -> ReceiptsChecked:
        async def read() -> AsyncIterator[bytes]:
            for content in lines:
                yield content

        return await check_receipts(read(), self.reader, self.index, open_receipt)


@pytest.fixture(scope="module")
def ledgers() -> FakeLedgers:
    return make_ledgers(seed=71, rounds=150)


@pytest.fixture
async def ledger(ledgers: FakeLedgers, tmp_path: Path) -> AsyncIterator[Ledger]:
    index = await SqliteAuditIndex.open(tmp_path / "index.sqlite", EXCHANGE)
    reader = ledgers.reader()
    await index.update(reader)
    yield Ledger(reader, index)
    await index.close()


def one(ledgers: FakeLedgers, kind: str) -> Handed:
    return [handed for handed in ledgers.handed if handed.kind == kind and len(handed.contents) > 1][-1]


async def test_all_that_was_logged_is_sound(ledgers: FakeLedgers, ledger: Ledger) -> None:
    told: list[Progress] = []

    async def lines() -> AsyncIterator[bytes]:
        for handed in ledgers.handed:
            yield line(handed)

    found = await check_receipts(lines(), ledger.reader, ledger.index, open_receipt, told.append)
    assert found == ReceiptsChecked(len(ledgers.handed), len(ledgers.handed), ())
    assert len(ledgers.handed) > 150 and told[-1].done % 100 == 0


async def test_part_of_a_publish_call_is_sound(ledgers: FakeLedgers, ledger: Ledger) -> None:
    """A client may keep only what it cares for."""
    publish = one(ledgers, "publish")
    assert (await ledger.check(line(publish, contents=publish.contents[1:]))).sound == 1


def never_logged(handed: Handed) -> bytes:
    return line(replace(handed, place=replace(handed.place, index=10**6)))


def unknown_instance(handed: Handed) -> bytes:
    return line(replace(handed, place=replace(handed.place, instance="ghost")))


def another_entry(handed: Handed) -> bytes:
    return line(replace(handed, place=replace(handed.place, leaf_hash=bytes(32))))


def moved_entry(handed: Handed) -> bytes:
    return line(replace(handed, place=replace(handed.place, index=handed.place.index + 1)))


def other_secret(handed: Handed) -> bytes:
    return line(replace(handed, secret=bytes(32)))


UNSOUND: list[tuple[str, Callable[[Handed], bytes], str]] = [
    ("delivery", never_logged, "never logged"),
    ("publish", never_logged, "never logged"),
    ("delivery", unknown_instance, "never logged"),
    ("delivery", another_entry, "was changed, or another was logged in its place"),
    ("publish", moved_entry, "was changed, or another was logged in its place"),
    ("delivery", other_secret, "not what was logged as handed out"),
    ("publish", other_secret, "not logged as it was published"),
    ("delivery", lambda h: line(h, contents=h.contents[1:]), "records were received"),
    ("delivery", lambda h: line(h, contents=[*h.contents, "00" * 32]), "records were received"),
    ("delivery", lambda h: line(h, contents=h.contents[::-1]), "not what was logged as handed out"),
    ("delivery", lambda h: line(h, contents=["00" * 32, *h.contents[1:]]), "not what was logged"),
    ("delivery", lambda h: line(h, contents=[1, 2]), "are no hashes"),
    ("publish", lambda h: line(h, contents=[["//a/b", "c", "00" * 16]]), "not logged as it was published"),
    ("publish", lambda h: line(h, contents=[[*h.contents[0][:2], "00" * 16]]), "not logged as it"),  # type: ignore[index]
    ("publish", lambda h: line(h, contents=["x"]), "not source, id and digest"),
    ("delivery", lambda h: line(h, topic="another"), "does not name the receipt's holder"),
    ("publish", lambda h: line(h, topic="another"), "does not name the receipt's holder"),
    ("delivery", lambda h: line(h, kind="publish"), "is of a delivery entry"),
    ("publish", lambda h: line(h, kind="delivery"), "is of a publish entry"),
]


@pytest.mark.parametrize(
    ("kind", "make", "what"), UNSOUND, ids=[f"{n}-{u[2]}" for n, u in enumerate(UNSOUND)]
)
async def test_it_is_found(
    ledgers: FakeLedgers, ledger: Ledger, kind: str, make: Callable[[Handed], bytes], what: str
) -> None:
    handed = one(ledgers, kind)
    found = await ledger.check(line(handed), make(handed), line(handed))
    assert (found.checked, found.sound, len(found.findings)) == (3, 2, 1)
    (finding,) = found.findings
    assert finding.severity is Severity.FAULT
    assert finding.what.startswith("line 2: ") and what in finding.what
    assert (finding.instance, finding.index) != ("", None)


async def test_receipts_of_others(ledgers: FakeLedgers, ledger: Ledger) -> None:
    handed = one(ledgers, "delivery")
    for forged in (
        line(handed, agency="another"),
        line(handed, subject="another"),
        line(handed, receipt=base64.b64encode(bytes(200)).decode()),
        line(handed, receipt=""),
    ):
        found = await ledger.check(forged)
        assert (found.sound, found.findings[0].severity) == (0, Severity.FAULT)
        assert "does not open" in found.findings[0].what


async def test_a_holder_whom_the_entry_does_not_name(ledgers: FakeLedgers, ledger: Ledger) -> None:
    """The broker sealed a receipt of somebody else's entry for a customer."""
    handed = replace(one(ledgers, "delivery"), agency="ems", subject="somebody")
    (finding,) = (await ledger.check(line(handed))).findings
    assert "does not name the receipt's holder" in finding.what


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"nothing", b'{"agency":1}', b"\xff"])
async def test_lines_that_are_none(ledger: Ledger, content: bytes) -> None:
    found = await ledger.check(content)
    assert (found.checked, found.sound) == (1, 0)
    assert "line 1: it is no line of a receipts file" in found.findings[0].what


@pytest.mark.parametrize("change", [{"kind": "other"}, {"contents": {}}, {"agency": 5}, {"receipt": "%"}])
async def test_lines_of_another_form(ledgers: FakeLedgers, ledger: Ledger, change: dict[str, Any]) -> None:
    found = await ledger.check(line(one(ledgers, "delivery"), **change))
    assert "it is no line of a receipts file" in found.findings[0].what


async def test_an_erased_entry_cannot_be_compared(ledgers: FakeLedgers, tmp_path: Path) -> None:
    handed = one(ledgers, "delivery")
    reader = ledgers.reader()
    reader.change(handed.place.instance, handed.place.index, openings=b"")
    index = await SqliteAuditIndex.open(tmp_path / "index.sqlite", EXCHANGE)
    await index.update(reader)
    found = await Ledger(reader, index).check(line(handed))
    assert (found.sound, found.findings[0].severity) == (0, Severity.REMARK)
    assert "erased" in found.findings[0].what
    await index.close()


async def test_an_entry_changed_after_it_was_indexed(ledgers: FakeLedgers, ledger: Ledger) -> None:
    handed = one(ledgers, "delivery")
    reader = ledgers.reader()
    entries = reader.entries[handed.place.instance]
    reader.change(handed.place.instance, handed.place.index, leaf=entries[0].leaf)
    found = await Ledger(reader, ledger.index).check(line(handed))
    assert (found.sound, found.findings[0].severity) == (0, Severity.FAULT)


async def test_what_lies_outside_of_an_export(ledgers: FakeLedgers, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bounds = (START_MS + 50_000, START_MS + 100_000)
    await write_export(ExportRequest(out, EXCHANGE, (), *bounds), ledgers.reader(), Revisions())
    reader = await ExportReader.open(out)
    index = await SqliteAuditIndex.open(reader.tables_path, read_only=True)
    ledger = Ledger(reader, index)
    covered = {each.instance: range(each.begin, each.end) for each in await index.coverage()}
    found = await ledger.check(*(line(handed) for handed in ledgers.handed))
    inside = sum(handed.place.index in covered[handed.place.instance] for handed in ledgers.handed)
    assert 0 < inside == found.sound < found.checked
    assert {finding.severity for finding in found.findings} == {Severity.REMARK}
    assert all("outside of what was exported" in finding.what for finding in found.findings)
    await index.close()
