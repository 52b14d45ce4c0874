"""Exports: whole or not at all, private, contiguous ranges of each instance, and verifiable by themselves."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from broker.adapters.export.index import SqliteAuditIndex
from broker.adapters.export.reader import ExportReader
from broker.adapters.export.tables import SqliteTables
from broker.adapters.export.writer import Exported, ExportRefused, ExportRequest, write_export
from broker.core.audit.proofs import check, prove
from broker.core.audit.trust import Trust
from broker.core.audit.verify import Level, Verification, verify
from broker.core.ledger.leaf import read_leaf
from broker.errors import LedgerRefused, StorageUnavailable
from broker.model.audit import EntryQuery, Progress, Severity
from broker.model.ledger import EncodedEntry, ReadPoint
from broker.model.rulebook import Revision
from tests.fakes.ledgers import (
    EXCHANGE,
    PEOPLE,
    REVISION,
    START_MS,
    FakeLedgers,
    FakeReader,
    make_ledgers,
)


class Revisions:
    """The one revision that the ledgers name, or none."""

    def __init__(self, *held: Revision) -> None:
        self._held = {revision.id: revision for revision in held}

    async def get(self, revision_id: str) -> Revision | None:
        return self._held.get(revision_id)

    async def list(self) -> list[str]:
        return list(self._held)

    async def close(self) -> None:
        return None


@pytest.fixture(scope="module")
def ledgers() -> FakeLedgers:
    return make_ledgers(seed=41, rounds=250)


@pytest.fixture(scope="module")
def exported(ledgers: FakeLedgers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole export, which nobody changes."""
    out = tmp_path_factory.mktemp("exported") / "out"
    asyncio.run(export(ledgers, out))
    return out


@pytest.fixture
def out(exported: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(exported, tmp_path / "out"))


def trust(ledgers: FakeLedgers) -> Trust:
    notes = tuple(instance.checkpoints[-1].note for instance in ledgers.instances.values())
    return Trust(tuple(ledgers.keys), notes)


async def export(
    ledgers: FakeLedgers,
    out: Path,
    since_ms: int | None = None,
    until_ms: int | None = None,
    reader: FakeReader | None = None,
) -> Exported:
    request = ExportRequest(out, EXCHANGE, ledgers.keys, since_ms, until_ms)
    return await write_export(request, reader or ledgers.reader(), Revisions(REVISION))


async def verified(ledgers: FakeLedgers, out: Path) -> Verification:
    reader = await ExportReader.open(out)
    return await verify(reader, trust(ledgers), tables=SqliteTables(out / "ledger.sqlite"))


async def entries(reader: ExportReader, instance: str, point: ReadPoint | None = None) -> list[EncodedEntry]:
    read = reader.read(instance, point or ReadPoint())
    return [entry async for page in read for entry in page.entries]


def times(directory: Path) -> dict[Path, int]:
    """When each file was changed last."""
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*")}


def names(directory: Path) -> list[str]:
    """What lies in a directory, hidden files included."""
    return sorted(path.name for path in directory.iterdir())


class TestWhole:
    async def test_it_holds_everything_and_verifies(self, ledgers: FakeLedgers, tmp_path: Path) -> None:
        done = await export(ledgers, tmp_path / "out")
        assert (done.revisions, done.missing) == ((REVISION.id,), ())
        reader = await ExportReader.open(tmp_path / "out")
        assert reader.exchange == EXCHANGE
        assert tuple(await reader.coverage()) == done.coverage
        assert list(await reader.keys()) == ledgers.keys
        assert await reader.revision(REVISION.id) == REVISION.files
        assert await reader.revision("sha256:0") is None
        for name, instance in ledgers.instances.items():
            assert await entries(reader, name) == instance.entries
            assert [stored async for stored in reader.checkpoints(name)] == instance.checkpoints
        found = await verified(ledgers, tmp_path / "out")
        assert (found.level, found.findings) == (Level.VERIFIED, ())

    async def test_it_reads_on_from_anywhere(self, ledgers: FakeLedgers, out: Path) -> None:
        for warm in (False, True):
            reader = await ExportReader.open(out)
            expected = ledgers.instances["second"].entries
            if warm:
                await entries(reader, "second")
            for at in (0, 1, 255, 256, 300, len(expected) - 1, len(expected)):
                assert await entries(reader, "second", ReadPoint(at, 0, at)) == expected[at:]
            stored = [each async for each in reader.checkpoints("second")]
            later = [each async for each in reader.checkpoints("second", stored[4].next_place)]
            assert later == stored[5:]

    async def test_nobody_else_may_look(self, ledgers: FakeLedgers, tmp_path: Path) -> None:
        old = os.umask(0)
        try:
            await export(ledgers, tmp_path / "out")
        finally:
            os.umask(old)
        for path in (tmp_path / "out", *(tmp_path / "out").rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
        assert names(tmp_path) == ["out"]
        assert names(tmp_path / "out") == [
            *("checkpoints", "export.json", "leaves", "ledger.sqlite", "ledger.vkey", "openings", "revisions")
        ]

    async def test_it_can_lie_on_a_medium_that_nobody_can_write(
        self, ledgers: FakeLedgers, out: Path
    ) -> None:
        before = times(out)
        assert (await verified(ledgers, out)).level is Level.VERIFIED
        index = await SqliteAuditIndex.open(out / "ledger.sqlite", read_only=True)
        assert len(await index.coverage()) == 2
        with pytest.raises(StorageUnavailable):
            await index.update(ledgers.reader())
        await index.close()
        assert times(out) == before

    async def test_progress_counts_entries(self, ledgers: FakeLedgers, tmp_path: Path) -> None:
        told: list[Progress] = []
        request = ExportRequest(tmp_path / "out", EXCHANGE)
        await write_export(request, ledgers.reader(), Revisions(), told.append)
        total = sum(len(instance.entries) for instance in ledgers.instances.values())
        for stage in ("copying", "indexing"):
            assert max(step.done for step in told if step.stage == stage) == total


class TestRanges:
    async def test_a_range_proves_that_it_is_part_of_the_whole(
        self, ledgers: FakeLedgers, tmp_path: Path
    ) -> None:
        since, until = START_MS + 100_000, START_MS + 300_000
        done = await export(ledgers, tmp_path / "out", since, until)
        for covered in done.coverage:
            plain = ledgers.instances[covered.instance].plain
            wanted = [n for n, entry in enumerate(plain) if entry.time_ms >= since]
            assert covered.begin == wanted[0]
            assert covered.end - 1 == max(n for n, entry in enumerate(plain) if entry.time_ms <= until)
            assert 0 < covered.begin < covered.end < len(plain)
        found = await verified(ledgers, tmp_path / "out")
        assert found.level is Level.VERIFIED
        assert all(finding.severity is Severity.REMARK for finding in found.findings)

    async def test_every_entry_of_a_range_can_be_proved(self, ledgers: FakeLedgers, tmp_path: Path) -> None:
        done = await export(ledgers, tmp_path / "out", START_MS + 100_000, START_MS + 200_000)
        reader = await ExportReader.open(tmp_path / "out")
        index = await SqliteAuditIndex.open(reader.tables_path, read_only=True)
        for covered in done.coverage:
            for number in (covered.begin, (covered.begin + covered.end) // 2, covered.end - 1):
                proof = check(await prove(reader, index, covered.instance, number), ledgers.keys)
                assert (proof.instance, proof.index, proof.whole) == (covered.instance, number, True)
            for outside in (covered.begin - 1, covered.end):
                with pytest.raises(LookupError):
                    await prove(reader, index, covered.instance, outside)
        await index.close()

    async def test_ranges_stay_contiguous_when_clocks_step_back(self, tmp_path: Path) -> None:
        ledgers = FakeLedgers(seed=2)
        broker = ledgers.instances["broker"]
        for minute in (1, 2, 7, 3, 4, 8, 5, 9):
            ledgers.now_ms = START_MS + minute * 60_000
            ledgers.publish(broker, "indicators", 1)
        ledgers.finish()
        done = await export(ledgers, tmp_path / "out", START_MS + 180_000, START_MS + 300_000)
        # Entry 0 is the configuration. The first at or after minute 3 is minute 7's; the last at or before 5 is its own.
        assert [(each.begin, each.end) for each in done.coverage] == [(3, 8)]
        assert (await verified(ledgers, tmp_path / "out")).level is Level.VERIFIED

    async def test_an_instance_without_entries_then_is_left_out(self, tmp_path: Path) -> None:
        ledgers = FakeLedgers(seed=2, instances=("broker", "late"))
        ledgers.now_ms += 1_000_000
        ledgers.publish(ledgers.instances["late"], "indicators", 1)
        ledgers.finish()
        done = await export(ledgers, tmp_path / "out", since_ms=START_MS + 1)
        assert [each.instance for each in done.coverage] == ["late"]
        assert not list((tmp_path / "out").rglob("broker.jsonl"))

    async def test_an_empty_range_is_refused(self, ledgers: FakeLedgers, tmp_path: Path) -> None:
        for bounds in ((START_MS * 2, None), (None, 0)):
            with pytest.raises(ExportRefused):
                await export(ledgers, tmp_path / "out", *bounds)
        assert names(tmp_path) == []

    async def test_what_retention_left(self, ledgers: FakeLedgers, tmp_path: Path) -> None:
        reader = ledgers.reader()
        del reader.entries["broker"][:100]
        reader.first["broker"] = 100
        done = await export(ledgers, tmp_path / "out", reader=reader)
        begin = next(each.begin for each in done.coverage if each.instance == "broker")
        assert 100 <= begin < 140
        assert (await verified(ledgers, tmp_path / "out")).level is Level.VERIFIED


class TestRefused:
    async def test_a_directory_that_holds_something(self, ledgers: FakeLedgers, tmp_path: Path) -> None:
        occupied = tmp_path / "out"
        occupied.mkdir()
        (occupied / "mine").write_text("kept")
        link = tmp_path / "link"
        link.symlink_to(tmp_path / "elsewhere")
        for out in (occupied, link, occupied / "mine"):
            with pytest.raises(ExportRefused):
                await export(ledgers, out)
        assert (occupied / "mine").read_text() == "kept"
        assert names(tmp_path) == ["link", "out"]

    async def test_nothing_is_left_of_an_export_that_failed(
        self, ledgers: FakeLedgers, tmp_path: Path
    ) -> None:
        class Failing(FakeReader):
            async def read(self, instance: str, point: ReadPoint):  # type: ignore[no-untyped-def,override]
                async for page in super().read(instance, point):
                    yield page
                    if instance == "second":
                        raise StorageUnavailable("gone")

        source = ledgers.reader()
        with pytest.raises(StorageUnavailable):
            await export(ledgers, tmp_path / "out", reader=Failing(source.entries, source.stored))
        assert names(tmp_path) == []

    async def test_entries_that_do_not_follow_each_other(self, ledgers: FakeLedgers, tmp_path: Path) -> None:
        reader = ledgers.reader()
        del reader.entries["broker"][50]
        with pytest.raises(LedgerRefused) as refused:
            await export(ledgers, tmp_path / "out", reader=reader)
        assert refused.value.findings[0].startswith("instance broker, entry 50: entry 51 ")
        assert names(tmp_path) == []

    async def test_a_missing_revision_is_named(self, ledgers: FakeLedgers, tmp_path: Path) -> None:
        request = ExportRequest(tmp_path / "out", EXCHANGE)
        done = await write_export(request, ledgers.reader(), Revisions())
        assert (done.revisions, done.missing) == ((), (REVISION.id,))
        assert await (await ExportReader.open(tmp_path / "out")).revision(REVISION.id) is None

    @pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../b"])
    async def test_a_revision_that_leads_elsewhere(
        self, ledgers: FakeLedgers, tmp_path: Path, path: str
    ) -> None:
        request = ExportRequest(tmp_path / "out", EXCHANGE)
        evil = Revision(REVISION.id, {path: b"x"}, time_dependent=False)
        with pytest.raises(ExportRefused):
            await write_export(request, ledgers.reader(), Revisions(evil))
        assert names(tmp_path) == []

    async def test_what_is_no_export(self, ledgers: FakeLedgers, out: Path) -> None:
        with pytest.raises(StorageUnavailable):
            await ExportReader.open(out / "nothing")
        description = out / "export.json"
        content = orjson.loads(description.read_bytes())
        for wrong in (
            b"",
            b"[]",
            orjson.dumps(content | {"format": "entente-export/2"}),
            orjson.dumps(content | {"instances": {"broker": {}}}),
        ):
            description.write_bytes(wrong)
            with pytest.raises(StorageUnavailable):
                await ExportReader.open(out)

    async def test_a_revision_that_was_changed(self, ledgers: FakeLedgers, out: Path) -> None:
        (file,) = (out / "revisions").rglob("*.rego")
        file.write_bytes(b"package b\n")
        with pytest.raises(StorageUnavailable):
            await (await ExportReader.open(out)).revision(REVISION.id)


def rewrite(path: Path, change: Callable[[list[bytes]], object]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(b"".join(lines))


FILES: list[tuple[str, Callable[[list[bytes]], object], int | None]] = [
    ("leaves/broker.jsonl", lambda lines: lines.pop(), None),
    ("leaves/broker.jsonl", lambda lines: lines.pop(70), 70),
    ("leaves/broker.jsonl", lambda lines: lines.insert(70, lines[70]), 71),
    ("leaves/broker.jsonl", lambda lines: lines.insert(70, b"\n"), 70),
    ("openings/broker.jsonl", lambda lines: lines.pop(), None),
    ("openings/broker.jsonl", lambda lines: lines.pop(70), 70),
    ("openings/broker.jsonl", lambda lines: lines.insert(70, b"\n"), 71),
    ("openings/broker.jsonl", lambda lines: lines.__setitem__(70, lines[71]), 70),
    ("checkpoints/broker.jsonl", lambda lines: lines.__setitem__(3, lines[4][:-9] + b"\n"), None),
    ("checkpoints/broker.jsonl", lambda lines: lines.clear(), None),
]


@pytest.mark.parametrize(("file", "change", "index"), FILES, ids=[f"{n}-{f[0]}" for n, f in enumerate(FILES)])
async def test_changed_files_are_found(
    ledgers: FakeLedgers,
    out: Path,
    file: str,
    change: Callable[[list[bytes]], object],
    index: int | None,
) -> None:
    rewrite(out / file, change)
    found = await verified(ledgers, out)
    assert found.level is Level.FAULTY
    if index is not None:
        assert found.first_fault is not None
        assert (found.first_fault.instance, found.first_fault.index) == ("broker", index)


async def test_a_description_that_claims_something_else(ledgers: FakeLedgers, tmp_path: Path) -> None:
    await export(ledgers, tmp_path / "out", START_MS + 100_000, START_MS + 300_000)
    description = tmp_path / "out" / "export.json"
    content = orjson.loads(description.read_bytes())
    for change in (
        {"end": content["instances"]["broker"]["end"] - 1},
        {"begin": content["instances"]["broker"]["begin"] + 1},
        {"tail": None},
        {"cut": False, "tail": None},
        {"origin": "elsewhere/broker", "frontier": ["00" * 32] * 4},
    ):
        forged = orjson.loads(description.read_bytes())
        forged["instances"]["broker"] |= change
        forged["instances"]["broker"]["frontier"] = forged["instances"]["broker"]["frontier"][
            : int(forged["instances"]["broker"]["begin"]).bit_count()
        ]
        original = description.read_bytes()
        description.write_bytes(orjson.dumps(forged))
        try:
            assert (await verified(ledgers, tmp_path / "out")).level is not Level.VERIFIED, change
        except StorageUnavailable:
            assert "begin" in change or "origin" in change
        description.write_bytes(original)
    assert (await verified(ledgers, tmp_path / "out")).level is Level.VERIFIED


CHANGES = {
    "who": "UPDATE people SET content = replace(content, 'transport', 'nobody')",
    "a delivery's receiver": "UPDATE deliveries SET content = replace(content, '-1', '-7')",
    "a delivery": "DELETE FROM deliveries WHERE entry = (SELECT max(entry) FROM deliveries)",
    "a place": "UPDATE released SET offset = offset + 1 WHERE entry = (SELECT min(entry) FROM released)",
    "the order of places": "UPDATE released SET n = n + 1000 WHERE n = (SELECT max(n) FROM released)",
    "how often it was decided": "UPDATE decided SET handed_out = handed_out + 1 WHERE n = 0 AND handed_out = 1",
    "whose it was": "UPDATE deliveries SET class = (SELECT max(number) FROM classes WHERE number != class)",
    "a place too many": "INSERT INTO released SELECT entry, 999, 0, 0, 0, 1 FROM released LIMIT 1",
    "a record": "UPDATE records SET content = replace(content, '-', '_') WHERE n = 0",
    "a decision": "UPDATE decisions SET content = replace(content, '\"release\"', '\"notice\"') WHERE number = 1",
    "which decision": "UPDATE decided SET handed_out = handed_out + 1 WHERE n = 0",
    "an acknowledgement": "DELETE FROM acknowledgements WHERE entry = (SELECT max(entry) FROM acknowledgements)",
    "a move": "UPDATE moves SET move = replace(move, ':[', ':[1') WHERE entry = (SELECT min(entry) FROM moves)",
    "an end": "DELETE FROM closings",
    "an opening": "UPDATE openings SET content = replace(content, 'spare', 'other')",
    "an entry's time": "UPDATE entries SET time_ms = time_ms + 1 WHERE entry = (SELECT max(entry) FROM entries)",
    "a leaf's hash": "UPDATE entries SET leaf_hash = zeroblob(32) WHERE entry = (SELECT max(entry) FROM entries)",
    "a byte from one leaf's hash in the next one": "UPDATE entries SET leaf_hash = iif(entry % 2, substr(leaf_hash, 1, 31),"
    " CAST((SELECT substr(e.leaf_hash, 32) FROM entries e WHERE e.entry = entries.entry - 1) || leaf_hash AS BLOB))"
    " WHERE entry & 0xff IN (1, 2)",
    "a record's name": "UPDATE records SET source = source || '/' WHERE n = 0",
    "what is no name": "UPDATE records SET id = NULL WHERE n = 0",
    "how long a run is": "UPDATE released SET count = count + 1 WHERE n = 0",
    "whose acknowledgement": "UPDATE acknowledgements SET stream = '0000000000000000' WHERE n = 0",
    "whom it concerns": "DELETE FROM concerns WHERE agency = 'ems'",
    "an entry that is not there": "INSERT INTO closings VALUES (7 << 40, '{}', '{}')",
    "an entry after the last": "INSERT INTO closings SELECT max(entry) + 1, '{}', '{}' FROM entries",
    "an unused text": 'INSERT INTO people (content) VALUES (\'{"agency":"ems"}\')',
    "a range": "UPDATE instances SET next = next - 1",
    "a checkpoint": "UPDATE checkpoints SET note = replace(note, 'a', 'b') WHERE place = 3",
    "a checkpoint less": "DELETE FROM checkpoints WHERE place = 3",
    "a subtree": "UPDATE subtrees SET hash = zeroblob(32)",
    "a frontier": "UPDATE instances SET base = zeroblob(32)",
    "an instance": "UPDATE instances SET name = 'third' WHERE name = 'second'",
    "a view": "DROP VIEW who_saw; CREATE VIEW who_saw AS SELECT * FROM records WHERE 0",
    "an index": "DROP INDEX records_by_name",
    "a table": "CREATE TABLE notes (text TEXT)",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_a_changed_table_is_found(ledgers: FakeLedgers, out: Path, change: str) -> None:
    connection = sqlite3.connect(out / "ledger.sqlite")
    before = connection.total_changes
    connection.executescript(change)
    connection.commit()
    assert connection.total_changes > before or change.startswith(("DROP", "CREATE"))
    connection.close()
    found = await verified(ledgers, out)
    assert found.level is Level.FAULTY
    assert all("SQLite file" in each.what for each in found.findings if each.severity is Severity.FAULT)


async def test_a_damaged_index_of_a_table_is_found(ledgers: FakeLedgers, out: Path) -> None:
    """A row that its index has lost is not found by who looks for it, although the table still holds it."""
    connection = sqlite3.connect(out / "ledger.sqlite")
    connection.execute("PRAGMA writable_schema = ON")
    (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'receivers'").fetchone()
    connection.execute("UPDATE sqlite_schema SET rootpage = ? WHERE name = 'records_by_name'", (root,))
    connection.commit()
    connection.close()
    try:
        found = await verified(ledgers, out)
    except StorageUnavailable:
        return
    assert found.level is Level.FAULTY


async def test_rows_of_erased_entries_must_be_gone(ledgers: FakeLedgers, out: Path) -> None:
    delivery = next(n for n, e in enumerate(ledgers.instances["broker"].plain) if e.kind == "delivery")
    rewrite(out / "openings" / "broker.jsonl", lambda lines: lines.__setitem__(delivery, b"\n"))
    found = await verified(ledgers, out)
    assert found.first_fault is not None
    assert (found.first_fault.index, "SQLite file" in found.first_fault.what) == (delivery, True)


MISSHAPEN: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "no runs": ("delivery", lambda body: body.update(places=5, decisions=body["decisions"][:1])),
    "a run of five": ("delivery", lambda body: body["places"].append([0, 1, 0, 2, 3])),
    "a place of three": ("publish", lambda body: body["stored"].__setitem__(0, [0, 0, 1])),
    "a place of one": ("publish", lambda body: body["stored"].__setitem__(0, [0])),
}


@pytest.mark.parametrize("case", MISSHAPEN.values(), ids=MISSHAPEN.keys())
async def test_misshapen_places_are_found_and_nothing_fails(
    tmp_path: Path, case: tuple[str, Callable[[dict[str, Any]], object]]
) -> None:
    """What is properly committed to may still have any form: it is a fault with a place, of the entry alone."""
    ledgers, (kind, change) = FakeLedgers(seed=12, withhold=False), case
    broker = ledgers.instances["broker"]
    stream = ledgers.open(broker, PEOPLE[0], "crash-reports", "crash")
    ledgers.lie = lambda written, body: change(body) if written == kind else None
    ledgers.publish(broker, "crash-reports", 4)
    ledgers.deliver(broker, stream)
    ledgers.lie = None
    ledgers.finish()
    await export(ledgers, tmp_path / "out")
    fault = (await verified(ledgers, tmp_path / "out")).first_fault
    assert fault is not None
    assert "documented form" in fault.what
    assert fault.index is not None
    assert broker.plain[fault.index].kind == kind


async def test_entries_are_those_of_the_index(ledgers: FakeLedgers, out: Path) -> None:
    index = await SqliteAuditIndex.open(out / "ledger.sqlite", read_only=True)
    rows = await index.entries(EntryQuery("broker", limit=10_000))
    assert [row.index for row in rows] == list(range(len(ledgers.instances["broker"].entries)))
    for row, encoded in zip(rows, ledgers.instances["broker"].entries, strict=True):
        leaf = read_leaf(encoded.leaf)
        assert (row.epoch, row.kind, row.time_ms) == (leaf.epoch, leaf.kind, leaf.time_ms)
    await index.close()
