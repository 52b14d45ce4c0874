"""`entente audit` on Kafka itself, beside the running exchange, with the connection in options or in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.here import run_here
from tests.e2e.test_cli import DATA
from tests.services.broker import BrokerProcess

pytestmark = [pytest.mark.opa, pytest.mark.kafka, pytest.mark.timeout(300)]


def ask(directory: Path, process: BrokerProcess, *arguments: str) -> str:
    """What the exchange answers to a command."""
    ran = run_here(directory, *arguments, ENTENTE_CONFIG=str(process.file))
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_ledger_is_audited_from_kafka_itself(tmp_path: Path, kafka_bootstrap: str) -> None:
    process = BrokerProcess(tmp_path / "exchange", kafka=kafka_bootstrap)
    process.start()
    try:
        labels = ("--label", "dataclassification=amber", "--label", "purposes=emergency-response")
        crash = ("--type", "gov.niem.crash-driver.v1", "--source", "//highway-patrol/crash")
        report = str(DATA / "niem-crash-driver.json")
        ask(
            tmp_path,
            process,
            *("publish", "crash-reports", report, "--context", "highway-patrol", *crash, *labels),
        )
        subscribe = ("subscribe", "crash-reports", "--context", "ems", "--purpose", "emergency-response")
        record = json.loads(ask(tmp_path, process, *subscribe, "--max", "1", "-o", "jsonl"))["id"]
        audit(tmp_path, process, kafka_bootstrap, record)
    finally:
        assert process.stop() == 0


def audit(directory: Path, process: BrokerProcess, bootstrap: str, record: str) -> None:
    """While the exchange runs: what is read is what was there when reading began."""
    prefix = process.kafka_prefix
    options = ("--ledger", bootstrap, "--kafka-prefix", prefix, "--kafka-protocol", "PLAINTEXT")
    plain = (*options, "--insecure-plaintext")
    (directory / "auditor.toml").write_text(
        f'[ledger_reader]\nbootstrap = ["{bootstrap}"]\nprefix = "{prefix}"\n'
        'security_protocol = "PLAINTEXT"\ninsecure_plaintext = true\n'
    )
    key = ("--public-key", "exchange/keys/ledger.vkey")
    named = ("--ledger", "kafka", "--config", "auditor.toml")

    assert answer(directory, "verify", *plain, *key)["level"] == "internally consistent only"
    replayed = answer(directory, "replay", *named)
    assert (replayed["differ"], replayed["not_replayed"]) == (0, [])
    assert replayed["agree"] == replayed["decisions"] > 0
    (seen,) = answer(directory, "who-saw", *named, "//highway-patrol/crash", record)["sightings"]
    assert (seen["agency"], seen["subject"]) == ("ems", "paramedic-1")
    refused = run_here(directory, "audit", "verify", *options)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    absent = run_here(directory, "audit", "verify", *plain, "--kafka-prefix", "unheard-of")
    assert (absent.returncode, absent.stdout) == (5, "")
    assert "unheard-of.ledger" in absent.stderr


def answer(directory: Path, *arguments: str) -> Any:
    ran = run_here(directory, "audit", *arguments, "-o", "json")
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)
