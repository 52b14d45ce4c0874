"""Exports and ledgers that somebody made to hurt whoever opens them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from broker.adapters.export import lines
from broker.adapters.export.index import SqliteAuditIndex
from broker.adapters.export.reader import ExportReader
from broker.adapters.export.writer import ExportRequest, write_export
from broker.core.audit.trust import Trust
from broker.core.audit.verify import verify
from broker.errors import StorageUnavailable
from broker.model.rulebook import Revision
from tests.fakes.ledgers import EXCHANGE, REVISION, FakeLedgers, FakeReader, make_ledgers

OUTSIDE = ["../outside", "../../outside", "/tmp/outside", "a/b", "", ".", "Broker", "x" * 33, "broker\n"]


class NoRevisions:
    """A store without any."""

    async def get(self, revision_id: str) -> Revision | None:
        return None

    async def list(self) -> list[str]:
        return []

    async def close(self) -> None:
        return None


@pytest.fixture(scope="module")
def ledgers() -> FakeLedgers:
    return make_ledgers(seed=5, rounds=10)


@pytest.fixture
async def out(ledgers: FakeLedgers, tmp_path: Path) -> Path:
    """An export to spoil."""
    await write_export(ExportRequest(tmp_path / "out", EXCHANGE), ledgers.reader(), NoRevisions())
    return tmp_path / "out"


def describe(out: Path, **changes: object) -> None:
    """Change what an export says of itself."""
    path = out / "export.json"
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | changes))


def names(directory: Path) -> list[str]:
    """All that lies anywhere below."""
    return [path.name for path in directory.rglob("*")]


@pytest.mark.parametrize("name", OUTSIDE)
async def test_an_instance_s_name_in_an_export_leads_nowhere(out: Path, name: str) -> None:
    instances = orjson.loads((out / "export.json").read_bytes())["instances"]
    describe(out, instances={name: instances["broker"]})
    with pytest.raises(StorageUnavailable):
        await ExportReader.open(out)


@pytest.mark.parametrize("name", OUTSIDE)
async def test_an_instance_s_name_in_a_ledger_leads_nowhere(
    ledgers: FakeLedgers, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def instances(_: FakeReader) -> Sequence[str]:
        return [name]

    monkeypatch.setattr(FakeReader, "instances", instances)
    (tmp_path / "in").mkdir()
    with pytest.raises(StorageUnavailable):
        await write_export(ExportRequest(tmp_path / "in" / "out", EXCHANGE), ledgers.reader(), NoRevisions())
    assert names(tmp_path) == ["in"]


@pytest.mark.parametrize("revision", ["../..", "sha256:../..", "sha256:" + "0" * 63, "/etc"])
async def test_a_revision_s_id_leads_nowhere(out: Path, revision: str) -> None:
    describe(out, revisions=[revision])
    with pytest.raises(StorageUnavailable):
        await ExportReader.open(out)


async def test_a_link_in_place_of_a_revision_is_not_followed(out: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name, content in REVISION.files.items():
        (elsewhere / name).write_bytes(content)
    (out / "revisions" / REVISION.id.replace(":", "-")).symlink_to(elsewhere)
    describe(out, revisions=[REVISION.id])
    with pytest.raises(StorageUnavailable):
        await (await ExportReader.open(out)).revision(REVISION.id)


@pytest.mark.parametrize("file", ["leaves/broker.jsonl", "openings/broker.jsonl", "checkpoints/broker.jsonl"])
@pytest.mark.parametrize("kind", ["link", "device", "pipe"])
async def test_what_is_no_file_is_not_read(out: Path, tmp_path: Path, file: str, kind: str) -> None:
    path = out / file
    moved = path.rename(tmp_path / "moved")
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(moved if kind == "link" else "/dev/zero")
    with pytest.raises(StorageUnavailable):
        await verify(await ExportReader.open(out), Trust())


@pytest.mark.parametrize("file", ["leaves/broker.jsonl", "openings/broker.jsonl", "checkpoints/broker.jsonl"])
async def test_a_line_without_end_is_not_taken_into_memory(
    out: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LINE_BYTES", 2 << 20)
    (out / file).write_bytes(b"")
    os.truncate(out / file, 1 << 40)  # which takes no room on the disk
    with pytest.raises(StorageUnavailable, match="a line has more than"):
        await verify(await ExportReader.open(out), Trust())


@pytest.mark.parametrize("file", ["export.json", "ledger.vkey"])
async def test_a_file_without_end_is_not_taken_into_memory(out: Path, file: str) -> None:
    os.truncate(out / file, 1 << 40)
    with pytest.raises(StorageUnavailable):
        await (await ExportReader.open(out)).keys()


async def test_a_view_in_place_of_a_table_answers_nothing(out: Path) -> None:
    path = out / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE released RENAME TO kept")
        connection.execute("CREATE VIEW released AS SELECT * FROM kept WHERE 0")
        connection.commit()
    with pytest.raises(StorageUnavailable, match="were changed"):
        await SqliteAuditIndex.open(path, read_only=True)
