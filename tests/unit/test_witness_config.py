"""Witnesses in the configuration: each kind with what it needs, nothing in the clear by accident, faults in one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import tomli_w

from broker.adapters.keyring import KeysRefused
from broker.adapters.witness.file import FileWitness
from broker.adapters.witness.http import HttpWitness
from broker.adapters.witness.kafka import KafkaWitness
from broker.app.config import ConfigError, LedgerWitness, load_file
from broker.app.ledger_sections import Ledger
from broker.app.witness_config import load_witness_config
from broker.app.witnesses import open_witnesses
from broker.core.checkpoint.cosignature import Cosigner
from tests.fakes.witnessed_log import WitnessedLog

LOG_VKEY = WitnessedLog().key.text()
WITNESS_VKEY = Cosigner("witness.example/w1", bytes(32)).verifier_key.text()
HTTP = {"name": "w1", "kind": "http", "url": "https://witness.example/path", "vkey": WITNESS_VKEY}
FILE = {"name": "archive", "kind": "file", "path": "checkpoints.jsonl"}
KAFKA = {
    "name": "other",
    "kind": "kafka",
    "topic": "checkpoints",
    "kafka": {"bootstrap": ["kafka.example:9093"]},
}


def ledger(tmp_path: Path, *witnesses: Mapping[str, object]) -> Ledger:
    """The section as it is read from a file beside an empty checkpoints.jsonl."""
    (tmp_path / "checkpoints.jsonl").touch()
    file = tmp_path / "ledger.toml"
    file.write_text(tomli_w.dumps({"witnesses": [dict(witness) for witness in witnesses]}))
    return load_file(Ledger, file)


def without(section: Mapping[str, object], key: str) -> Mapping[str, object]:
    return {name: value for name, value in section.items() if name != key}


async def test_each_kind_is_opened(tmp_path: Path) -> None:
    opened = open_witnesses(ledger(tmp_path, FILE, KAFKA, HTTP).witnesses)
    assert [type(witness) for witness in opened] == [FileWitness, KafkaWitness, HttpWitness]
    assert [witness.name for witness in opened] == ["archive", "other", "w1"]
    for witness in opened:
        await witness.close()


def test_without_witnesses_there_are_none(tmp_path: Path) -> None:
    assert open_witnesses(ledger(tmp_path).witnesses) == []


async def test_a_password_that_others_may_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hidden")
    (tmp_path / "password").chmod(0o644)
    sasl = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "entente", "sasl_password_file": "password"}
    kafka = {"bootstrap": ["kafka.example:9093"], "security_protocol": "SASL_SSL", **sasl}
    with pytest.raises(KeysRefused, match="other users"):
        open_witnesses(ledger(tmp_path, KAFKA | {"kafka": kafka}).witnesses)


@pytest.mark.parametrize(
    ("section", "key", "says"),
    [
        (without(FILE, "name"), "name", "is missing"),
        (without(FILE, "path"), "path", "a witness of kind file needs it"),
        (FILE | {"path": "absent.jsonl"}, "path", "mount its storage"),
        (FILE | {"url": "https://witness.example"}, "url", "has no use"),
        (FILE | {"kind": "tape"}, "kind", "'file', 'kafka' or 'http'"),
        (without(KAFKA, "kafka"), "kafka", "a witness of kind kafka needs it"),
        (without(KAFKA, "topic"), "topic", "a witness of kind kafka needs it"),
        (KAFKA | {"topic": "a b"}, "topic", "pattern"),
        (KAFKA | {"vkey": WITNESS_VKEY}, "vkey", "has no use"),
        (KAFKA | {"kafka": {"bootstrap": []}}, "kafka.bootstrap", "at least 1"),
        (
            KAFKA | {"kafka": {"bootstrap": ["k:1"], "security_protocol": "PLAINTEXT"}},
            "kafka.security_protocol",
            "insecure_plaintext",
        ),
        (without(HTTP, "url"), "url", "a witness of kind http needs it"),
        (without(HTTP, "vkey"), "vkey", "a witness of kind http needs it"),
        (HTTP | {"path": "checkpoints.jsonl"}, "path", "has no use"),
        (HTTP | {"url": "http://witness.example"}, "url", "must begin with https://"),
        (HTTP | {"url": "http://127.0.0.1:7447"}, "url", "must begin with https://"),
        (
            HTTP | {"url": "http://witness.example", "insecure_http_loopback": True},
            "url",
            "must begin with https://",
        ),
        (
            HTTP | {"url": "http://127.0.0.1.example", "insecure_http_loopback": True},
            "url",
            "must begin with https://",
        ),
        (HTTP | {"url": "ftp://witness.example"}, "url", "must begin with https://"),
        (HTTP | {"url": "https://user:hidden@witness.example"}, "url", "no credentials"),
        (HTTP | {"url": "https://witness.example/?a=b"}, "url", "no credentials, query or fragment"),
        (HTTP | {"url": "https://[::1"}, "url", "is no URL"),
        (HTTP | {"url": "https://"}, "url", "needs a host"),
        (HTTP | {"vkey": LOG_VKEY}, "vkey", "is a log's key, not a witness's"),
        (HTTP | {"vkey": WITNESS_VKEY[:-1]}, "vkey", "not base64"),
        (HTTP | {"vkey": WITNESS_VKEY.replace("w1", "w2")}, "vkey", "the verifier key's hash"),
        (HTTP | {"timeout_s": 0}, "timeout_s", "greater than 0"),
        (HTTP | {"vkeys": []}, "vkeys", "did you mean 'vkey'"),
    ],
)
def test_a_fault_is_one_line_that_names_its_key(
    tmp_path: Path, section: Mapping[str, object], key: str, says: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        ledger(tmp_path, section)
    (finding,) = refused.value.findings
    assert f": witnesses[0].{key}: " in finding
    assert says in finding
    assert "hidden" not in finding


def test_plain_http_to_this_machine_has_to_be_asked_for(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "localhost", "[::1]"):
        section = HTTP | {"url": f"http://{host}:7447", "insecure_http_loopback": True}
        assert isinstance(ledger(tmp_path, section).witnesses[0], LedgerWitness)


def test_two_witnesses_need_two_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="witnesses: have a name twice"):
        ledger(tmp_path, FILE, HTTP | {"name": "archive"})


WITNESS = {
    "name": "witness.example/w1",
    "listen": "127.0.0.1:7447",
    "key": "witness.key",
    "state": "state",
    "insecure_http_loopback": True,
    "logs": [{"origin": "exchange-1/broker", "vkeys": [LOG_VKEY]}],
}


def witness_file(tmp_path: Path, document: Mapping[str, object]) -> Path:
    (tmp_path / "witness.key").touch(0o600)
    file = tmp_path / "witness.toml"
    file.write_text(tomli_w.dumps(document))
    return file


def log_of(**changes: object) -> list[object]:
    return [{"origin": "exchange-1/broker", "vkeys": [LOG_VKEY]} | changes]


def test_a_witness_file_is_read(tmp_path: Path) -> None:
    config = load_witness_config(witness_file(tmp_path, WITNESS))
    (log,) = config.logs
    assert log.trusted.origin == "exchange-1/broker"
    assert [key.text() for key in log.trusted.keys] == [LOG_VKEY]


@pytest.mark.parametrize(
    ("changes", "key", "says"),
    [
        ({"insecure_http_loopback": False}, "tls", "section is missing"),
        ({"listen": "192.0.2.1:7447"}, "tls", "on this machine only"),
        ({"listen": "0.0.0.0:7447"}, "tls", "on this machine only"),
        ({"listen": "7447"}, "listen", "HOST:PORT"),
        ({"key": "absent"}, "key", "no such file"),
        ({"name": "two words"}, "name", "holds no space"),
        ({"name": "a+b"}, "name", "holds no space, plus"),
        ({"logs": log_of(vkeys=[])}, "logs[0].vkeys", "at least 1"),
        ({"logs": log_of(vkeys=[WITNESS_VKEY])}, "logs[0].vkeys", "is a witness's key, not a log's"),
        ({"logs": log_of(vkeys=["hidden"])}, "logs[0].vkeys", "name+hash+key"),
        ({"logs": log_of(origin="x" * 201)}, "logs[0].origin", "at most 200"),
        ({"logs": log_of(origin="two words")}, "logs[0].origin", "holds no space"),
        ({"logs": log_of() * 2}, "logs", "have an origin twice"),
    ],
)
def test_a_witness_file_that_cannot_be_used_is_refused(
    tmp_path: Path, changes: Mapping[str, object], key: str, says: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_witness_config(witness_file(tmp_path, WITNESS | changes))
    (finding,) = refused.value.findings
    assert f": {key}: " in finding
    assert says in finding
    assert "hidden" not in finding
