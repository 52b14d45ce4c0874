"""`entente rulebook simulate` by the real OPA: on a data directory, on an export, on rulebooks alone; read only."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from broker.adapters.export.writer import ExportRequest, write_export
from broker.adapters.sqlite.ledger import SqliteLedgerLog
from broker.adapters.sqlite.record_log import SqliteRecordLog
from broker.adapters.sqlite.rulebook_store import SqliteRulebookStore
from broker.app.config import Backend
from broker.app.rulebook_sources import DirectoryRulebooks, NoRulebooks
from broker.app.simulator import SimulatorProcess
from broker.core.rulebook.load import read_rulebook
from broker.core.simulate.desk import SimulationJob
from broker.core.simulate.model import RecordKind
from broker.errors import EntenteError, Reason
from broker.model.record import NewRecord
from broker.model.registry import Topic
from protos.entente.v1 import rulebook_pb2 as pb
from tests.e2e.here import Done, run_here
from tests.fakes.ledgers import FakeReader
from tests.fakes.rulebook import ROOT
from tests.fakes.simulated import ANALYST, MEDIC, delivery, kind, publication, stored

pytestmark = [pytest.mark.opa, pytest.mark.timeout(300)]  # machines may be busy

NOW_MS = int(datetime.now(UTC).timestamp() * 1000)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
AGREEMENTS = "data/agreements/highway-patrol/data.yaml"
SECRET = b'{"name": "the payload is nobody\'s business"}'
HOSTILE = "<script>alert(1)</script>\u202e"
ENTRIES = [
    publication(NOW_MS - DAY_MS, kind(), [HOSTILE, "crash-1"]),
    delivery(NOW_MS - HOUR_MS, ANALYST, {kind(): 3}, {}, receivers=2, index=1),
    delivery(NOW_MS - HOUR_MS, MEDIC, {kind(): 3}, {}, index=2),
    delivery(NOW_MS - 30 * DAY_MS, ANALYST, {kind(): 1_000}, {}, index=3),
]


@pytest.fixture(scope="module")
def rulebooks(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The default rulebook, the same without the agreement for transport, and one that does not pass the checks."""
    directory = tmp_path_factory.mktemp("rulebooks")
    present, revoked, bad = (directory / name for name in ("present", "revoked", "bad"))
    # Rego tests are parsed like modules and not run here.
    shutil.copytree(ROOT / "policy", present, ignore=shutil.ignore_patterns("*_test.rego"))
    for agency in sorted(path.name for path in (present / "data/agencies").iterdir()):
        (present / "keys").mkdir(exist_ok=True)
        (present / f"keys/{agency}.jwks.json").write_text('{"keys": []}')
    shutil.copytree(present, revoked)
    text = (revoked / AGREEMENTS).read_text()
    begin, end = text.index("transport-crash-statistics:"), text.index("cyber-centre-crash-notices:")
    (revoked / AGREEMENTS).write_text(text[:begin] + text[end:])
    shutil.copytree(present, bad)
    (bad / "agencies/ems/module.rego").write_text('package agencies["ems"]\n\ndeny contains http.send({})\n')
    return {"present": present, "revoked": revoked, "bad": bad}


async def _write_data(directory: Path, present: Path) -> None:
    records = await SqliteRecordLog.open(directory)
    await records.open_topic(Topic("crash-reports", "", "highway-patrol", frozenset(), 1, None))
    new = [_new(kind(), f"crash-{n}", NOW_MS - n * DAY_MS) for n in range(5)]
    await records.append("crash-reports", new)
    await records.close()
    ledger = await SqliteLedgerLog.open(directory)
    await ledger.claim()
    await ledger.append(ENTRIES)
    await ledger.close()
    store = await SqliteRulebookStore.open(directory)
    await store.put(await asyncio.to_thread(read_rulebook, present))
    await store.close()


def _new(record: RecordKind, name: str, recorded_ms: int) -> NewRecord:
    body = stored(record, name, recorded_ms, payload=SECRET).body
    return NewRecord(name.encode(), name.encode().ljust(16), name.encode().ljust(16), body, recorded_ms)


@pytest.fixture
def data(tmp_path: Path, rulebooks: Mapping[str, Path]) -> Path:
    """An exchange's data directory: five records, three deliveries of the last week, the present revision."""
    asyncio.run(_write_data(tmp_path / "data", rulebooks["present"]))
    return tmp_path / "data"


def simulated(*arguments: object, expect: int = 0) -> Done:
    done = run_here(ROOT, "rulebook", "simulate", *map(str, arguments))
    assert done.returncode == expect, done
    return done


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def transport(found: dict[str, Any]) -> dict[str, Any]:
    """The row of those who really came."""
    (row,) = (
        row
        for row in found["rows"]
        if (row["consumer"], row["roles"], row["part"]) == ("transport", ["analyst"], "recorded")
    )
    return dict(row)


def test_a_revocation_before_it_is_proposed(
    data: Path, rulebooks: Mapping[str, Path], tmp_path: Path
) -> None:
    before = files(data)
    page = tmp_path / "page.html"
    against = read_rulebook(rulebooks["present"]).id
    done = simulated(
        rulebooks["revoked"], "--against", against, "--ledger", data, "-o", "json", "--html", page
    )
    found = json.loads(done.stdout)
    assert found["before"] == against and found["after"] == read_rulebook(rulebooks["revoked"]).id
    assert {row["consumer"] for row in found["rows"]} == {"transport"}
    row = transport(found)
    assert (row["owner"], row["topic"], row["change"]) == ("highway-patrol", "crash-reports", "loses")
    assert (row["before"]["effect"], row["after"]["effect"]) == ("release", "withhold")
    assert row["recorded"] == {"handed_out": 6, "withheld": 0}, "what is a month old does not count"
    assert row["stored"] == {"records": 5, "before": 5, "after": 0}
    assert row["example"]["id"] == "crash-4"
    assert found["agencies"] == [
        {
            "owner": "highway-patrol",
            "consumer": "transport",
            "topic": "crash-reports",
            "recorded": {"before": 6, "after": 0},
            "stored": {"before": 5, "after": 0},
        }
    ]
    for text in (done.stdout, page.read_text()):
        assert "payload" not in text
    assert files(data) == before, "nothing is written, to the ledger least of all"
    assert page.stat().st_mode & 0o777 == 0o600
    _check_page(page.read_text())


def test_tables_say_the_same(data: Path, rulebooks: Mapping[str, Path]) -> None:
    options = (rulebooks["revoked"], "--against", rulebooks["present"], "--ledger", data)
    shown = simulated(*options, "--last", "9", "-o", "table").stdout
    assert "loses: records → nothing" in shown and "5 → 0" in shown
    assert "taken from 9 deliveries and 0 withheld decisions of the ledger, and 5 stored records" in shown


def test_an_export_has_no_records_and_rulebooks_alone_no_ledger(
    rulebooks: Mapping[str, Path], tmp_path: Path
) -> None:
    reader = FakeReader({"broker": ENTRIES}, {"broker": []})
    known = DirectoryRulebooks(rulebooks["present"], NoRulebooks())
    asyncio.run(write_export(ExportRequest(tmp_path / "export", "exchange"), reader, known))
    options = (rulebooks["revoked"], "--against", rulebooks["present"])
    shown = simulated(*options, "--ledger", tmp_path / "export", "--since", "90d", "-o", "jsonl").stdout
    *lines, summary = map(json.loads, shown.splitlines())
    assert summary["event"] == "summary" and {line["event"] for line in lines} == {"row"}
    row = transport({"rows": lines})
    assert row["recorded"]["handed_out"] == 1_006
    assert row["stored"] is None and row["example"]["id"] in (HOSTILE, "crash-1")
    assert summary["notes"] == ["stored records do not count: an export holds none"]

    found = json.loads(simulated(*options, "-o", "json").stdout)
    assert {row["part"] for row in found["rows"]} == {"what_if"}
    assert {row["consumer"] for row in found["rows"]} == {"transport"}
    assert found["notes"] == ["no ledger was named, so nothing recorded or stored counts"]


def test_what_cannot_be_simulated_is_told_in_a_line(
    data: Path, rulebooks: Mapping[str, Path], tmp_path: Path
) -> None:
    present, revoked = rulebooks["present"], rulebooks["revoked"]
    for arguments, code, told in (
        ((rulebooks["bad"], "--against", present), 1, "http.send"),
        ((tmp_path / "absent", "--against", present), 2, "no such directory or archive"),
        ((revoked, "--against", "sha256:0"), 2, "no such directory or archive"),
        ((revoked, "--against", f"sha256:{0:064x}", "--ledger", data), 2, "no revision that is there"),
        ((revoked, "--against", present, "--since", "7d", "--last", "5"), 2, "do not go together"),
        ((revoked, "--against", present, "--since", "soon"), 2, "--since is an RFC 3339 time"),
        ((revoked, "--against", present, "--ledger", tmp_path), 2, "holds neither"),
    ):
        done = simulated(*arguments, expect=code)
        assert done.stdout == "" and done.stderr.count("\n") == 1 and told in done.stderr, done


def _check_page(text: str) -> None:
    """Whole HTML, without scripts or links, that names who loses what."""

    class Page(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.tags: set[str] = set()
            self.text = ""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.tags.add(tag)

        def handle_data(self, data: str) -> None:
            self.text += data

    page = Page()
    page.feed(text)
    assert not page.tags & {"script", "a", "img", "link", "iframe"}
    assert "Who would receive less" in page.text and "Who would receive more" not in page.text
    assert "transport" in page.text and "5 → 0" in page.text


async def _job(
    rulebooks: Mapping[str, Path], data: Path, owner: str | None, proposed: str
) -> tuple[Backend, SimulationJob]:
    present, changed = [
        await asyncio.to_thread(read_rulebook, rulebooks[name]) for name in ("present", proposed)
    ]
    backend = Backend.model_validate({"kind": "embedded", "data_dir": str(data)}, context={"directory": data})
    job = SimulationJob(
        present=present,
        proposed=changed,
        owner=owner,
        agency=owner or "exchange",
        since_ms=NOW_MS - 7 * DAY_MS,
        last=None,
        now_ms=NOW_MS,
    )
    return backend, job


async def _told(
    rulebooks: Mapping[str, Path], data: Path, opa: Path, owner: str | None, proposed: str = "revoked"
) -> list[pb.SimulateResponse]:
    """What the process of a broker says about the proposal."""
    backend, job = await _job(rulebooks, data, owner, proposed)
    return [each async for each in SimulatorProcess(opa, backend).simulate(job)]


async def test_a_broker_simulates_in_a_process_beside_it(
    data: Path, rulebooks: Mapping[str, Path], opa_binary: Path
) -> None:
    before = files(data)
    told = await _told(rulebooks, data, opa_binary, "highway-patrol")
    assert {each.WhichOneof("part") for each in told} == {"progress", "summary", "rows"}
    rows = [row for each in told for row in each.rows.rows]
    assert rows and not any(row.roles or row.attributes for row in rows)
    assert {row.example.id for row in rows if row.stored} == {"crash-4"}
    assert not any(each.progress.done or each.progress.total for each in told), (
        "numbers count others' records too"
    )

    told = await _told(rulebooks, data, opa_binary, "cyber-centre")
    assert not [row for each in told for row in each.rows.rows]
    shown = "".join(map(str, told))
    for word in ("highway", "transport", "crash"):
        assert word not in shown
    assert files(data) == before


async def test_what_cannot_be_run_ends_without_a_result(
    data: Path, rulebooks: Mapping[str, Path], opa_binary: Path
) -> None:
    with pytest.raises(EntenteError) as refused:
        await _told(rulebooks, data, opa_binary, None, "bad")
    assert refused.value.reason is Reason.SIMULATION_FAILED


async def test_whoever_leaves_ends_the_process(
    data: Path, rulebooks: Mapping[str, Path], opa_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="t") as temporary:  # sockets want short paths
        monkeypatch.setattr(tempfile, "tempdir", temporary)
        await _leave(rulebooks, data, opa_binary)
        assert _names(temporary) == [], "nothing stays behind of what was killed"


async def _leave(rulebooks: Mapping[str, Path], data: Path, opa_binary: Path) -> None:
    backend, job = await _job(rulebooks, data, None, "revoked")
    running = SimulatorProcess(opa_binary, backend, grace_s=300).simulate(job)
    assert (await anext(running)).HasField("progress")
    assert _children()
    await running.aclose()
    assert not _children()


async def test_one_that_takes_too_long_ends_without_a_result(
    data: Path, rulebooks: Mapping[str, Path], opa_binary: Path
) -> None:
    backend, job = await _job(rulebooks, data, None, "revoked")
    with pytest.raises(EntenteError, match="takes longer than"):
        await anext(SimulatorProcess(opa_binary, backend, timeout_s=0.01, grace_s=0).simulate(job))
    assert not _children()


def _names(directory: str) -> list[str]:
    return [path.name for path in Path(directory).iterdir()]


def _children() -> list[int]:
    """Processes of this one that simulate."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            is_child = f"\nPPid:\t{os.getpid()}\n" in status.read_text()
            if is_child and b"broker.app.simulating" in (status.parent / "cmdline").read_bytes():
                found.append(int(status.parent.name))
        except OSError:
            continue
    return found
