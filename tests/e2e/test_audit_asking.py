"""`entente audit entries`, `records` and `check-receipts`, which ask a running exchange: as an auditor, or a holder."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from broker.core.checkpoint.cosignature import Cosigner
from tests.e2e.test_audit import CRASHES, RECORD, SOURCE, Audited
from tests.e2e.test_cli import DATA
from tests.services.broker import BrokerProcess

pytestmark = [pytest.mark.opa, pytest.mark.timeout(300)]

RECORDS = ("audit", "records", "--topic", "crash-reports", "--context", "auditor-1")
AS_EMS = ("--as", "ems", "--role", "paramedic", "--purpose", "emergency-response", "--clearance", "red")
KEY = ("--public-key", "exchange/keys/ledger.vkey")


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    """A crash report that ems has received; both sides kept their receipts."""
    directory = tmp_path_factory.mktemp("asking")
    made = Audited(directory)
    process = BrokerProcess(directory / "exchange")
    process.start()
    report = json.loads((DATA / "niem-crash-driver.json").read_text()) | {"reportId": RECORD}
    (directory / "crash.json").write_text(json.dumps(report))
    try:
        labels = ("--label", "dataclassification=amber", "--receipts", "published.jsonl")
        published = made.ask(*CRASHES, *labels, "crash.json")
        assert published.returncode == 0, published.stderr
        received = made.ask(
            *("subscribe", "crash-reports", "--context", "ems", "--purpose", "emergency-response"),
            *("--subscription", "intake", "--max", "1", "--receipts", "received.jsonl"),
        )
        assert received.returncode == 0, received.stderr
        made.answers["received"] = received
        yield made
    finally:
        assert process.stop() == 0


def entries(exchange: Audited, context: str, *arguments: str) -> list[dict[str, Any]]:
    ran = exchange.ask("audit", "entries", "--context", context, *arguments, "-o", "json")
    assert (ran.returncode, ran.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(ran.stdout)
    return found


def test_entries_are_listed_as_far_as_one_may_see_them(exchange: Audited) -> None:
    (whole,) = entries(exchange, "auditor-1", "--kind", "delivery", "--agency", "ems")
    (own,) = entries(exchange, "ems-admin", "--kind", "delivery")
    assert (own["entry"], own["leaf_hash"]) == (whole["entry"], whole["leaf_hash"])
    assert own["parts"].keys() == {"class", "count", "receivers"} < whole["parts"].keys()
    assert entries(exchange, "transport-admin", "--kind", "delivery") == []
    (published,) = entries(exchange, "auditor-1", "--kind", "publish")
    reference = published["parts"]["call"]["reference"]
    assert entries(exchange, "auditor-1", "--reference", reference) == [published]


def test_a_topic_is_replayed_whole(exchange: Audited) -> None:
    ran = exchange.ask(*RECORDS, "-o", "json")
    assert (ran.returncode, ran.stderr) == (0, "")
    (record,) = json.loads(ran.stdout)
    assert (record["source"], record["id"], record["dataclassification"]) == (SOURCE, RECORD, "amber")
    assert "recordedtime" in record and "disclosure" not in record
    assert set(record["place"]) == {"partition", "offset"}
    table = exchange.ask(*RECORDS, "-o", "table").stdout.splitlines()
    assert table[0].split() == ["RECORDED", "PLACE", "EFFECT", "TYPE", "ID"]
    assert table[1].split()[2:] == ["whole", "gov.niem.crash-driver.v1", RECORD]


def test_a_topic_is_replayed_as_somebody_saw_it(exchange: Audited) -> None:
    """The very object that ems received, but for the cursor."""
    (seen,) = (
        json.loads(line) for line in exchange.ask(*RECORDS, *AS_EMS, "-o", "jsonl").stdout.splitlines()
    )
    received = json.loads(exchange.answers["received"].stdout)
    for line in (seen, received):
        for name in ("place", "recorded", "cursor"):
            line.pop(name, None)
        line["disclosure"].pop("decision", None)
    assert seen == received
    notice = exchange.ask(
        *RECORDS, "--as", "cyber-centre", "--purpose", "cyber-defence", "--clearance", "red", "-o", "table"
    )
    assert notice.stdout.splitlines()[1].split()[2:4] == ["notice", "gov.niem.crash-driver.v1"]
    nothing = exchange.ask(*RECORDS, "--as", "partner-cert", "--purpose", "cyber-defence", "-o", "json")
    assert (nothing.returncode, json.loads(nothing.stdout)) == (0, [])
    assert exchange.ask(*RECORDS, "--until", "2020-01-01", "-o", "json").stdout == "[]\n"
    assert len(exchange.ask(*RECORDS, "--from", "2020-01-01", "-o", "jsonl").stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--at", "sha256:0"), 2, "--at and --judged belong to --as"),
        (("--as", "ems"), 2, "--as needs --purpose"),
        (("--from", "yesterday"), 2, "--from is an RFC 3339 time"),
        ((*AS_EMS, "--at", "sha256:0"), 3, "REVISION_NOT_FOUND"),
        (("--context", "ems-admin"), 3, "AUDIT_DENIED"),
        (("--topic", "no-such-topic"), 3, "TOPIC_NOT_FOUND"),
    ],
)
def test_mistakes_are_one_line(exchange: Audited, arguments: tuple[str, ...], code: int, told: str) -> None:
    ran = exchange.ask(*RECORDS, *arguments)
    assert (ran.returncode, ran.stdout) == (code, "")
    (line,) = ran.stderr.splitlines()
    assert told in line


def checked(exchange: Audited, file: str, *arguments: str, context: str, code: int) -> dict[str, object]:
    """The answer, once a checkpoint covers what it is about."""
    command = ("audit", "check-receipts", file, *arguments, "--context", context, "-o", "json")
    while "covers it yet" in (ran := exchange.ask(*command)).stdout:
        pass
    assert ran.returncode == code, ran.stderr
    found: dict[str, object] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize(
    ("file", "context"), [("received.jsonl", "ems"), ("published.jsonl", "highway-patrol")]
)
def test_the_exchange_proves_to_holders_what_it_logged(exchange: Audited, file: str, context: str) -> None:
    found = checked(exchange, file, *KEY, context=context, code=0)
    assert (found["checked"], found["sound"], found["findings"]) == (1, 1, [])


def test_without_a_key_it_says_what_that_is_worth(exchange: Audited) -> None:
    checked(exchange, "received.jsonl", context="ems", code=0)
    ran = exchange.ask("audit", "check-receipts", "received.jsonl", "--context", "ems")
    assert ran.returncode == 0
    assert "internally consistent only" in ran.stderr


def test_with_a_witness_s_key_a_checkpoint_that_no_witness_saw_is_no_proof(exchange: Audited) -> None:
    """No witness cosigns here."""
    stranger = Cosigner("witness.example", bytes(range(32))).verifier_key
    (exchange.directory / "witness.vkey").write_text(f"{stranger.text()}\n")
    witness = ("--witness-key", "witness.vkey")
    found = checked(exchange, "received.jsonl", *KEY, *witness, context="ems", code=7)
    assert (found["checked"], found["sound"]) == (1, 0)
    assert "cosigned by none" in str(found["findings"])


def test_a_key_that_is_no_witness_s_is_a_mistake_and_no_fault(exchange: Audited) -> None:
    mistaken = ("--witness-key", KEY[1])
    ran = exchange.ask("audit", "check-receipts", "received.jsonl", *mistaken, "--context", "ems")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "--witness-key" in ran.stderr


def test_a_changed_or_borrowed_receipt_is_found(exchange: Audited) -> None:
    kept = json.loads((exchange.directory / "received.jsonl").read_text())
    sealed = bytearray(base64.b64decode(kept["receipt"]))
    sealed[30] ^= 1
    for number, changes in enumerate(
        ({"contents": ["00" * 32]}, {"contents": []}, {"receipt": base64.b64encode(sealed).decode()})
    ):
        path = exchange.directory / f"changed-{number}.jsonl"
        path.write_text(json.dumps(kept | changes) + "\n")
        found = checked(exchange, path.name, *KEY, context="ems", code=7)
        assert (found["checked"], found["sound"]) == (1, 0)
    assert checked(exchange, "received.jsonl", *KEY, context="transport", code=7)["sound"] == 0
