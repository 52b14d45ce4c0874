"""`entente audit` as an auditor runs it: through a real exchange, on its data, and on an export of it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from broker.core.checkpoint.note import Signer
from tests.e2e.here import Done, run_here
from tests.e2e.test_cli import DATA
from tests.services.broker import BrokerProcess

pytestmark = [pytest.mark.opa, pytest.mark.timeout(300)]

SOURCE = "//highway-patrol/crash"
RECORD = "C-2026-0042"
HIDDEN = "C-2026-0043"
LIVED = 17
"""Entries once everything has happened: the start, two publications, and seven of each subscription's life."""

CRASHES = (
    *("publish", "crash-reports", "--context", "highway-patrol", "--type", "gov.niem.crash-driver.v1"),
    *("--source", SOURCE, "--id", "$.reportId"),
)


@dataclass(frozen=True)
class Audited:
    """An exchange that has stopped, what it answered while it ran, and an export of its ledger."""

    directory: Path
    answers: dict[str, Done] = field(default_factory=dict)

    def ask(self, *arguments: str) -> Done:
        """One command with the exchange's configuration file."""
        own = str(self.directory / "exchange" / "entente.toml")
        return run_here(self.directory, *arguments, ENTENTE_CONFIG=own)

    def run(self, *arguments: str | Path) -> Done:
        """One audit command without any configuration file."""
        return run_here(self.directory, "audit", *arguments)

    def audit(self, *arguments: str | Path, code: int = 0) -> Any:
        """An audit command's answer as one JSON document."""
        ran = self.run(*arguments, "-o", "json")
        assert ran.returncode == code, ran.stderr
        return json.loads(ran.stdout)

    def answered(self, name: str) -> Any:
        """What the exchange answered to a command of this name, as JSON."""
        ran = self.answers[name]
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)


def ask(audited: Audited, name: str, *arguments: str, context: str) -> None:
    """Have the running exchange answer, and keep what it says."""
    audited.answers[name] = audited.ask("audit", *arguments, "--context", context, "-o", "json")


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    """Two crash reports: one handed to ems and transport, one that only law enforcement may have."""
    directory = tmp_path_factory.mktemp("audit")
    made = Audited(directory)
    process = BrokerProcess(directory / "exchange")
    process.start()
    try:
        live(made)
        covered = None
        while covered is None or covered < LIVED:  # until all of it is written, and a checkpoint covers it
            ask(made, "checkpoint", "checkpoint", context="ems")
            covered = made.answered("checkpoint")[0]["size"]
        for name, context in (("owner", "highway-patrol-admin"), ("ems", "ems-admin")):
            ask(made, f"who-saw {name}", "who-saw", SOURCE, RECORD, context=context)
        ask(made, "who-saw auditor", "who-saw", SOURCE, RECORD, "--html", "asked.html", context="auditor-1")
        for name, context in (("auditor", "auditor-1"), ("ems", "ems-admin")):
            ask(made, f"what-saw {name}", "what-saw", "ems", context=context)
        for name, context in (("ems", "ems"), ("highway-patrol", "highway-patrol")):
            key = ("--public-key", "exchange/keys/ledger.vkey")
            ask(made, f"receipts {name}", "check-receipts", f"{name}.jsonl", *key, context=context)
        ask(made, "kept", "checkpoint", "--keep", "kept.jsonl", context="partner-cert")
        ask(made, "nobody", "who-saw", SOURCE, RECORD, context="transport")
    finally:
        assert process.stop() == 0
    exported = made.run(
        *("export", "--ledger", "exchange/data", "--out", "export", "-o", "json"),
        *("--public-key", "exchange/keys/ledger.vkey"),
    )
    assert exported.returncode == 0, exported.stderr
    made.answers["export"] = exported
    yield made


def live(made: Audited) -> None:
    """What happens on the exchange."""
    report = json.loads((DATA / "niem-crash-driver.json").read_text())
    for record, purposes in (
        (RECORD, "emergency-response,road-safety-statistics"),
        (HIDDEN, "law-enforcement"),
    ):
        (made.directory / "report.json").write_text(json.dumps({"reportId": record, **report}))
        labels = ("--label", "dataclassification=amber", "--label", f"purposes={purposes}")
        ran = made.ask(*CRASHES, *labels, "--receipts", "highway-patrol.jsonl", "report.json")
        assert ran.returncode == 0, ran.stderr
    received = ("-o", "jsonl", "--max", "1", "--subscription", "intake")
    for context, purpose in (("ems", "emergency-response"), ("transport", "road-safety-statistics")):
        kept = ("--receipts", f"{context}.jsonl")
        ran = made.ask(
            *("subscribe", "crash-reports", "--context", context, "--purpose", purpose, *received, *kept)
        )
        assert (ran.returncode, ran.stdout.count("\n")) == (0, 1), ran.stderr
    lines = (made.directory / "ems.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["delivery"]


def verified(audited: Audited, ledger: str) -> Any:
    key = "exchange/keys/ledger.vkey"
    return audited.audit("verify", "--ledger", ledger, "--public-key", key, "--after", "kept.jsonl")


@pytest.mark.parametrize("ledger", ["exchange/data", "exchange/data/ledger.db", "export"])
def test_a_ledger_is_verified_with_a_key_and_a_kept_checkpoint(audited: Audited, ledger: str) -> None:
    found = verified(audited, ledger)
    assert (found["level"], found["first_fault"]) == ("verified", None)
    assert [each["instance"] for each in found["instances"]] == ["broker"]
    assert found["instances"][0]["end"] == found["entries"]


def test_without_trust_from_outside_it_is_consistent_only_and_that_is_said(audited: Audited) -> None:
    for trusted in ((), ("--public-key", "exchange/keys/ledger.vkey"), ("--after", "kept.jsonl")):
        ran = audited.run("verify", "--ledger", "export", *trusted, "-o", "table")
        assert ran.returncode == 0
        assert "internally consistent only" in ran.stdout
        assert ran.stderr.startswith("entente: internally consistent only: ")


def test_another_key_verifies_nothing(audited: Audited, tmp_path: Path) -> None:
    key = tmp_path / "other.vkey"
    key.write_text(f"{Signer('development', bytes(32)).verifier_key.text()}\n")
    ran = audited.run(
        "verify", "--ledger", "export", "--public-key", key, "--after", "kept.jsonl", "-o", "json"
    )
    assert (ran.returncode, json.loads(ran.stdout)["level"]) == (7, "faulty")
    assert "first fault: " in ran.stderr


@pytest.mark.parametrize("change", ["leaf", "opening", "drop", "table"])
def test_a_changed_export_is_found_with_its_place(audited: Audited, tmp_path: Path, change: str) -> None:
    forged = tmp_path / "forged"
    shutil.copytree(audited.directory / "export", forged)
    leaves, openings = forged / "leaves" / "broker.jsonl", forged / "openings" / "broker.jsonl"
    if change == "leaf":
        leaves.write_bytes(leaves.read_bytes().replace(b'"kind":"call_refused"', b'"kind":"call_refunded"'))
    elif change == "opening":
        openings.write_bytes(openings.read_bytes().replace(b"intake", b"outlet", 1))
    elif change == "drop":
        for file in (leaves, openings):
            lines = file.read_bytes().splitlines(keepends=True)
            file.write_bytes(b"".join(lines[:3] + lines[4:]))
    else:
        with closing(sqlite3.connect(forged / "ledger.sqlite")) as connection, connection:
            (table,) = connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%subject%' LIMIT 1"
            ).fetchone()
            connection.execute(f"DELETE FROM {table}")
    key = "exchange/keys/ledger.vkey"
    ran = audited.run("verify", "--ledger", forged, "--public-key", audited.directory / key)
    assert ran.returncode == 7
    assert "first fault: " in ran.stderr


def test_every_decision_is_made_again(audited: Audited) -> None:
    for ledger in ("export", "exchange/data"):
        found = audited.audit("replay", "--ledger", ledger)
        assert found["findings"] == found["not_replayed"] == []
        assert found["agree"] == found["decisions"] > 5
        assert found["distinct_decisions"] <= found["decisions"]


def test_replay_without_its_revisions_says_so_and_finds_them_elsewhere(
    audited: Audited, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(audited.directory / "export", bare)
    shutil.rmtree(bare / "revisions")
    ran = audited.run("replay", "--ledger", bare, "-o", "json")
    assert ran.returncode == 8
    assert json.loads(ran.stdout)["agree"] == 0
    assert "were not made again" in ran.stderr
    rulebook = ("--revisions", "exchange/rulebook")
    assert audited.audit("replay", "--ledger", bare, *rulebook)["not_replayed"] == []
    other = audited.run("replay", "--ledger", bare, *rulebook, "--opa", "/bin/false")
    assert other.returncode == 8


def test_who_saw_names_everybody_what_they_got_and_whether_it_arrived(audited: Audited) -> None:
    expected = None
    for ledger in ("export", "exchange/data"):
        found = audited.audit("who-saw", "--ledger", ledger, SOURCE, RECORD)
        (published,) = found["publications"]
        assert (published["owner"], published["topic"], published["duplicate"]) == (
            "highway-patrol",
            "crash-reports",
            False,
        )
        seen = {each["agency"]: each for each in found["sightings"]}
        assert seen.keys() == {"ems", "transport"}
        assert all(each["acknowledged"] and each["effect"] == "release" for each in seen.values())
        assert seen["ems"]["purpose"] == "emergency-response"
        assert seen["transport"]["treatments"] != seen["ems"]["treatments"]
        assert found["complete"] is True
        assert expected in (None, found)
        expected = found


def test_who_saw_of_a_withheld_record_is_nobody_and_of_an_unknown_one_a_refusal(audited: Audited) -> None:
    found = audited.audit("who-saw", "--ledger", "export", SOURCE, HIDDEN)
    assert (len(found["publications"]), found["sightings"]) == (1, [])
    ran = audited.run("who-saw", "--ledger", "export", SOURCE, "unheard-of")
    assert (ran.returncode, ran.stdout) == (3, "")
    assert ran.stderr == "entente: the ledger that was read names no such record; check source and id\n"


def test_who_saw_shows_tables_and_lines(audited: Audited) -> None:
    shown = audited.run("who-saw", "--ledger", "export", SOURCE, RECORD, "-o", "table").stdout
    assert "published " in shown and "emergency-response" in shown and "removed: " in shown
    lines = audited.run("who-saw", "--ledger", "export", SOURCE, RECORD, "-o", "jsonl").stdout
    assert [json.loads(line)["event"] for line in lines.splitlines()] == [
        "published",
        "handed_out",
        "handed_out",
    ]


def test_a_page_can_be_handed_on(audited: Audited) -> None:
    page = audited.directory / "who-saw.html"
    audited.audit("who-saw", "--ledger", "export", SOURCE, RECORD, "--html", page)
    text = page.read_text()
    assert "2 people or systems" in text and RECORD in text and "development/broker" in text
    assert page.stat().st_mode & 0o777 == 0o600
    asked = (audited.directory / "asked.html").read_text()
    assert "2 people or systems" in asked


def test_what_an_agency_saw_is_counted_by_day_and_labels(audited: Audited) -> None:
    (row,) = audited.audit("what-saw", "--ledger", "export", "ems")
    assert (row["topic"], row["purpose"], row["records"], row["handed_out"]) == (
        "crash-reports",
        "emergency-response",
        1,
        1,
    )
    assert row["labels"]["dataclassification"] == "amber"
    assert audited.audit("what-saw", "--ledger", "export", "ems", "--topic", "vulnerabilities") == []
    assert audited.audit("what-saw", "--ledger", "export", "partner-cert") == []


def entry_of(audited: Audited, agency: str) -> str:
    found = audited.audit("who-saw", "--ledger", "export", SOURCE, RECORD)
    (entry,) = (each["entry"] for each in found["sightings"] if each["agency"] == agency)
    return str(entry)


def test_a_part_of_an_entry_is_proved_to_somebody_who_has_the_key_only(
    audited: Audited, tmp_path: Path
) -> None:
    seen = audited.audit("who-saw", "--ledger", "export", SOURCE, RECORD)["sightings"]
    ems = next(each for each in seen if each["agency"] == "ems")
    proof, page = tmp_path / "proof.json", tmp_path / "proof.html"
    part = ("--subject", ems["subject"], "--subscription", "intake")
    for ledger in ("exchange/data", "export"):
        audited.audit("prove", ems["entry"], "--ledger", ledger, *part, "--out", proof, "--html", page)
        assert "no key was there" in page.read_text()
        key = ("--public-key", audited.directory / "exchange/keys/ledger.vkey")
        checked = audited.audit("check", proof, *key, "--html", page)
        assert (checked["level"], checked["kind"], checked["whole"]) == ("verified", "delivery", False)
        assert checked["parts"].keys() == {"class", "count", "receivers"}
        assert "The exchange cannot deny the entry" in page.read_text()
    alone = audited.run("check", proof)
    assert alone.returncode == 0
    assert alone.stderr.startswith("entente: internally consistent only: ")
    proof.write_text(proof.read_text().replace("emergency-response", "law-enforcement"))
    forged = audited.run("check", proof, *key)
    assert (forged.returncode, forged.stdout, forged.stderr.count("\n")) == (7, "", 1)


def test_a_whole_entry_and_one_record_of_it_are_proved(audited: Audited, tmp_path: Path) -> None:
    published = audited.audit("who-saw", "--ledger", "export", SOURCE, RECORD)["publications"][0]["entry"]
    whole, row = tmp_path / "whole.json", tmp_path / "row.json"
    audited.audit("prove", published, "--ledger", "export", "--out", whole)
    audited.audit("prove", published, "--ledger", "export", "--source", SOURCE, "--id", RECORD, "--out", row)
    assert audited.audit("check", whole)["whole"] is True
    parts = audited.audit("check", row)["parts"]
    assert parts["records"]["id"] == RECORD
    missing = audited.run("prove", "broker/99999", "--ledger", "export", "--out", tmp_path / "no.json")
    assert (missing.returncode, missing.stdout, missing.stderr.count("\n")) == (3, "", 1)
    assert not (tmp_path / "no.json").exists()


def test_the_exchange_answers_as_the_ledger_does(audited: Audited) -> None:
    offline = audited.audit("who-saw", "--ledger", "exchange/data", SOURCE, RECORD)
    assert audited.answered("who-saw auditor") == offline
    assert audited.answered("what-saw auditor") == audited.audit(
        "what-saw", "--ledger", "exchange/data", "ems"
    )


def test_an_administrator_sees_no_more_than_an_agency_may_know(audited: Audited) -> None:
    owner = audited.answered("who-saw owner")
    assert {each["agency"] for each in owner["sightings"]} == {"ems", "transport"}
    assert {each["subject"] for each in owner["sightings"]} == {""}
    assert {each["offset"] for each in (*owner["sightings"], *owner["publications"])} == {None}
    ems = audited.answers["who-saw ems"]
    assert ems.returncode == 3, "another agency's record is answered like one that does not exist"
    assert [row["records"] for row in audited.answered("what-saw ems")] == [1]


def test_who_may_not_read_is_refused_and_the_reading_is_in_the_ledger(audited: Audited) -> None:
    refused = audited.answers["nobody"]
    assert (refused.returncode, refused.stdout) == (3, "")
    assert refused.stderr.startswith("entente: AUDIT_DENIED: ")
    with closing(sqlite3.connect(audited.directory / "export" / "ledger.sqlite")) as connection:
        kinds = dict(connection.execute("SELECT kind, count(*) FROM entries GROUP BY kind").fetchall())
    assert kinds["ledger_read"] >= 5


def test_checkpoints_are_kept_by_anybody(audited: Audited) -> None:
    (kept,) = (json.loads(line) for line in (audited.directory / "kept.jsonl").read_text().splitlines())
    assert (kept["origin"], kept["note"]) == ("development/broker", audited.answered("kept")[0]["note"])
    (newest,) = audited.audit("checkpoint", "--ledger", "export")
    assert newest["size"] >= kept["size"]


def test_customers_find_their_receipts_in_the_ledger(audited: Audited) -> None:
    keys = ("--receipt-keys", "exchange/keys/receipt.keys")
    for name, count in (("ems", 1), ("transport", 1), ("highway-patrol", 2)):
        for ledger in ("export", "exchange/data"):
            found = audited.audit("check-receipts", "--ledger", ledger, f"{name}.jsonl", *keys)
            assert found == {"checked": count, "sound": count, "findings": []}
    for name, count in (("ems", 1), ("highway-patrol", 2)):
        assert audited.answered(f"receipts {name}") == {"checked": count, "sound": count, "findings": []}
        assert audited.answers[f"receipts {name}"].stderr == ""


def test_what_was_handed_out_otherwise_than_logged_is_found(audited: Audited, tmp_path: Path) -> None:
    line = json.loads((audited.directory / "ems.jsonl").read_text())
    changed = tmp_path / "changed.jsonl"
    changed.write_text(json.dumps({**line, "contents": ["00" * 32]}) + "\n")
    keys = ("--receipt-keys", "exchange/keys/receipt.keys")
    ran = audited.run("check-receipts", "--ledger", "export", changed, *keys, "-o", "json")
    assert (ran.returncode, json.loads(ran.stdout)["sound"]) == (7, 0)
    assert "line 1" in ran.stderr
    cut = tmp_path / "cut"  # a ledger that begins after what was handed out, as one would that never had it
    ran = audited.run("export", "--ledger", "exchange/data", "--out", cut, "--since", last_ms(audited))
    assert ran.returncode == 0, ran.stderr
    ran = audited.run("check-receipts", "--ledger", cut, "ems.jsonl", *keys, "-o", "json")
    assert json.loads(ran.stdout)["sound"] == 0


def last_ms(audited: Audited) -> str:
    return str(audited.answered("export")["instances"][0]["last"])


def test_an_export_is_bounded_in_time_and_never_overwrites(audited: Audited, tmp_path: Path) -> None:
    made = audited.answered("export")
    assert made["missing"] == [] and len(made["revisions"]) == 1
    assert made["instances"][0]["begin"] == 0
    again = audited.run("export", "--ledger", "exchange/data", "--out", "export")
    assert (again.returncode, again.stdout, again.stderr.count("\n")) == (3, "", 1)
    late = ("--since", "2100-01-01", "--until", "2100-01-02T00:00:00+02:00")
    nothing = audited.run("export", "--ledger", "exchange/data", "--out", tmp_path / "late", *late)
    assert (nothing.returncode, nothing.stderr.count("\n")) == (3, 1)
    assert not (tmp_path / "late").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("verify",), 2, "needs --ledger"),
        (("replay", "--ledger", "absent"), 2, "--ledger: no such directory"),
        (("verify", "--ledger", "exchange"), 2, "holds neither export.json nor ledger.db"),
        (("verify", "--ledger", "export", "--public-key", "absent"), 2, "--public-key: absent: No such file"),
        (("verify", "--ledger", "export", "--after", "report.json"), 2, "--after: report.json"),
        (("who-saw", "--ledger", "export"), 2, "Missing argument 'SOURCE'"),
        (("prove", "x/y/z", "--ledger", "export", "--out", "p"), 2, "INSTANCE/INDEX"),
        (("check", "absent.json"), 2, "FILE: absent.json: No such file"),
        (("check", "report.json"), 7, "report.json: "),
        (("replay", "--ledger", "export", "--opa", "absent"), 2, "--opa: absent: no such file"),
        (("check-receipts", "--ledger", "export", "report.json"), 2, "--receipt-keys"),
    ],
)
def test_mistakes_are_one_line(audited: Audited, arguments: tuple[str, ...], code: int, told: str) -> None:
    ran = audited.run(*arguments)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (code, "", 1)
    assert told in ran.stderr
