"""From one agency's directory over a real exchange into another's, with the connectors killed in between."""

from __future__ import annotations

import asyncio
import base64
import json
import resource
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from connectors.client import Client
from connectors.runtime.status import ConnectorStatus
from tests.services.agency_records import MAPPING, SOURCE, Made, entitled_among
from tests.services.broker import BrokerProcess
from tests.services.connect import ConnectProcess, TokenFile, run_connect
from tests.services.evidence import Auditor

pytestmark = [pytest.mark.opa, pytest.mark.slow]

MADE = Made(seed=11, keys=5, poison=150)
LARGE = replace(MADE, filler_bytes=40_000)
SIZES = [(3_000, 3), pytest.param(60_000, 8, marks=[pytest.mark.soak, pytest.mark.timeout(1_800)])]
"""So many records in so many files; the connectors are killed within each file but the last."""


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[BrokerProcess]:
    broker = BrokerProcess(tmp_path / "exchange")
    broker.start()
    yield broker
    broker.stop()


def connectors(broker: BrokerProcess, root: Path) -> dict[str, Any]:
    """cyber-centre's source and partner-cert's sink. Files have no key; the product is as good as one."""
    by_product = {"path": "$.product"}
    return {
        "out": {
            "plugin": "file-source",
            "exchange": TokenFile(broker, "cyber-centre").exchange(),
            "topic": "vulnerabilities",
            "on_error": "dead-letter",
            "directory": str(root / "outgoing"),
            "quiet_s": 0,
            "poll_s": 0.1,
            "map": {**MAPPING, "subject": by_product, "partition_key": by_product},
        },
        "in": {
            "plugin": "file-sink",
            "exchange": TokenFile(broker, "partner-cert").exchange(),
            "topic": "vulnerabilities",
            "purpose": "cyber-defence",
            "directory": str(root / "incoming"),
            "format": "jsonl",
            "segment_records": 400,
        },
    }


def lines(root: Path) -> list[dict[str, Any]]:
    """What partner-cert's programs would find, in order."""
    paths = sorted((root / "incoming").glob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def check(found: list[dict[str, Any]], count: int) -> None:
    """Exactly what the policy entitles to, once each, in the order of each key."""
    numbers = [int(line["id"].removeprefix("CVE-")) for line in found]
    assert len(set(numbers)) == len(numbers) == entitled_among(MADE, count)
    for number, line in zip(numbers, found, strict=True):
        entitled = MADE.record(number).entitled
        assert entitled is not None, f"record {number} has arrived and was not to"
        assert line["data"] == entitled.data, f"record {number}"
        assert line["dataclassification"] == entitled.classification
        assert set(line["disclosure"]["obligations"]) == entitled.obligations
    by_key = sorted(
        numbers, key=lambda number: MADE.record(number).key
    )  # stable: keeps the order within each
    for _, same in groupby(by_key, key=lambda number: MADE.record(number).key):
        arrived = list(same)
        assert arrived == sorted(arrived)


def one_by_one(broker: BrokerProcess, root: Path) -> dict[str, Any]:
    """The same with a file for each record, of which withdrawn ones are removed, and with receipts."""
    chosen = connectors(broker, root)
    del chosen["in"]["segment_records"]
    chosen["in"] |= {"format": "json", "withdrawn": "remove"}
    for name, table in chosen.items():
        table["receipts"] = str(root / f"{name}-receipts.jsonl")
    return chosen


@pytest.fixture
def connect(tmp_path: Path, exchange: BrokerProcess) -> Iterator[ConnectProcess]:
    for name in ("outgoing", "incoming"):
        (tmp_path / name).mkdir()
    process = ConnectProcess(tmp_path / "connect", connectors(exchange, tmp_path))
    yield process
    process.stop()


@pytest.mark.parametrize(("count", "parts"), SIZES)
async def test_killed_on_the_way_everything_arrives_once(
    tmp_path: Path, connect: ConnectProcess, count: int, parts: int
) -> None:
    assert run_connect("validate", "--connect", connect.file).returncode == 0
    size = count // parts
    for part in range(parts):
        put(tmp_path / "outgoing" / f"part-{part}.jsonl", part * size, size)
        connect.start()
        if part < parts - 1:
            await connect.until("in" if part % 2 else "out", has_moved)
            connect.kill()
    await _until_all_is_there(connect, tmp_path, parts, entitled_among(MADE, count))
    assert connect.stop() == 0
    check(lines(tmp_path), count)
    done = [path.name for path in (tmp_path / "outgoing" / "done").iterdir()]
    assert sorted(done) == [f"part-{part}.jsonl" for part in range(parts)]
    check_failed(tmp_path / "outgoing" / "failed", count)


@pytest.mark.timeout(400)
async def test_withdrawals_a_full_disk_and_receipts(tmp_path: Path, exchange: BrokerProcess) -> None:
    """What was withdrawn goes, a full disk is waited out, and every receipt is in the exchange's ledger, but forged ones."""
    for name in ("outgoing", "incoming"):
        (tmp_path / name).mkdir()
    connect = ConnectProcess(tmp_path / "connect", one_by_one(exchange, tmp_path))
    connect.start()
    try:
        put(tmp_path / "outgoing" / "small.jsonl", 0, 30)
        await connect.until("in", lambda _: len(kept(tmp_path)) == entitled_among(MADE, 30))
        gone = min(kept(tmp_path))
        async with admin_of(exchange, "cyber-centre") as owner:
            await owner.overlays.withdraw(SOURCE, f"CVE-{gone}", "wrong", tell_reason=True)
        await connect.until("in", lambda _: gone not in kept(tmp_path))
        (told,) = (tmp_path / "incoming").glob("*.withdrawn.json")
        assert json.loads(told.read_text())["withdrawal"]["id"] == f"CVE-{gone}"
        limit_files(connect.pid, 30_000)
        put(tmp_path / "outgoing" / "large.jsonl", 30, 10, made=LARGE)
        await connect.until("in", lambda one: "File too large" in (one.cause or ""))
        limit_files(connect.pid, resource.RLIM_INFINITY)
        wanted = entitled_among(MADE, 40) - 1
        await connect.until("in", lambda _: len(kept(tmp_path)) == wanted)
    finally:
        code = connect.stop()
    assert code == 0
    numbers = kept(tmp_path)
    assert sorted(numbers) == [n for n in range(40) if MADE.record(n).entitled is not None and n != gone]
    for number, line in numbers.items():
        entitled = (MADE if number < 30 else LARGE).record(number).entitled
        assert entitled is not None and line["data"] == entitled.data
    await asyncio.to_thread(check_receipts, exchange, tmp_path)


def check_receipts(exchange: BrokerProcess, root: Path) -> None:
    """The connectors' are sound; one about something else, and one that the exchange never gave, are found."""
    auditor, files = Auditor.of(exchange), [root / f"{name}-receipts.jsonl" for name in ("out", "in")]
    assert auditor.finds_all_sound(files) >= 4
    lines = [json.loads(line) for line in files[1].read_text().splitlines()]
    changed = lines[0] | {"contents": ["00" * 32, *lines[0]["contents"][1:]]}
    never = lines[0] | {
        "receipt": base64.b64encode(bytes(len(base64.b64decode(lines[0]["receipt"])))).decode()
    }
    forged = root / "forged.jsonl"
    forged.write_text("".join(json.dumps(line) + "\n" for line in (lines[0], changed, never)))
    keys = exchange.directory / "keys/receipt.keys"
    found = auditor.ask("check-receipts", forged, "--receipt-keys", keys, code=7)
    assert (found["checked"], found["sound"], len(found["findings"])) == (3, 1, 2)


def kept(root: Path) -> dict[int, dict[str, Any]]:
    """The records that partner-cert has now, by number."""
    paths = [path for path in (root / "incoming").glob("*.json") if not path.name.startswith(".")]
    lines = [json.loads(path.read_text()) for path in paths if ".withdrawn." not in path.name]
    return {int(line["id"].removeprefix("CVE-")): line for line in lines}


def admin_of(broker: BrokerProcess, agency: str) -> Client:
    token = broker.metadata(f"{agency}-admin")[0][1].removeprefix("Bearer ")
    return Client(broker.config.listen.tls, token=token, ca_file=broker.directory / "tls" / "ca.pem")


def limit_files(pid: int, size_bytes: int) -> None:
    """Bound each file that a process writes, as a full disk would."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))


def put(path: Path, first: int, size: int, made: Made = MADE) -> None:
    """So many records, in a file that is there at once and whole."""
    records = made.records(first, size)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(b"".join(record.value + b"\n" for record in records))
    unfinished.rename(path)


def check_failed(directory: Path, count: int) -> None:
    """Each record that must not be sent, untouched, and beside it why, without anything of it."""
    failed = [path for path in directory.iterdir() if not path.name.endswith(".cause.json")]
    poisoned = [record.value + b"\n" for record in MADE.records(0, count) if record.kind != "record"]
    assert sorted(path.read_bytes() for path in failed) == sorted(poisoned)
    causes = [path.with_name(f"{path.name}.cause.json").read_text() for path in failed]
    assert all(json.loads(cause)["cause"] for cause in causes)
    assert not [cause for cause in causes if "MAUVE" in cause or "CVE" in cause]


def has_moved(status: ConnectorStatus) -> bool:
    """Whether it has moved something since the process began."""
    return sum(task.progress.records for task in status.tasks) > 0


async def _until_all_is_there(connect: ConnectProcess, root: Path, parts: int, wanted: int) -> None:
    """The source has put its files away, and the sink has all, be it in a segment that is not complete."""

    def held() -> int:
        paths = (root / "incoming").glob("*.jsonl"), (root / "incoming").glob(".entente-segment-*")
        return sum(path.read_bytes().count(b"\n") for found in paths for path in found)

    await connect.until("out", lambda _: len(list((root / "outgoing" / "done").iterdir())) == parts)
    await connect.until("in", lambda _: held() >= wanted)
