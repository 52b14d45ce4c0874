"""The configuration file: what is accepted, and one line for each fault."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import tomli_w

from broker.app.config import (
    ConfigError,
    load_client_config,
    load_config,
    select_context,
    split_address,
)

GOOD = """
default_context = "ems"
[exchange]
name = "test"
audience = "test-exchange"
[listen]
tls = "127.0.0.1:7443"
mtls = "127.0.0.1:7444"
[tls]
certificate = "server.pem"
key = "server.key"
client_ca = "ca.pem"
[backend]
kind = "kafka"
data_dir = "data"
[backend.kafka]
bootstrap = ["kafka.example:9093"]
[rulebook]
directory = "rulebook"
[keys]
directory = "keys"
[limits]
heartbeat_s = 5
[contexts.ems]
endpoint = "exchange.example:7443"
ca_file = "ca.pem"
[contexts.ems.development]
issuer_key = "issuers/ems.json"
subject = "medic-1"
roles = ["medic"]
purposes = ["care"]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    for name in ("server.pem", "server.key", "ca.pem"):
        (tmp_path / name).write_text("x")
    for name in ("rulebook", "keys"):
        (tmp_path / name).mkdir()
    file = tmp_path / "entente.toml"
    file.write_text(GOOD)
    return file


def change(path: Path, key: str, value: object) -> None:
    """Set the dotted key; ... removes it."""
    document = tomllib.loads(path.read_text())
    *parents, last = key.split(".")
    table = document
    for parent in parents:
        table = table.setdefault(parent, {})
    if value is ...:
        del table[last]
    else:
        table[last] = value
    path.write_text(tomli_w.dumps(document))


def test_a_good_file_is_read_with_defaults_and_paths_of_its_own_directory(path: Path) -> None:
    config = load_config(path)
    assert config.tls.certificate == path.parent / "server.pem"
    assert config.backend.data_dir == path.parent / "data"
    assert config.backend.kafka is not None
    assert config.backend.kafka.security_protocol == "SSL"
    assert config.backend.kafka.replication == 3
    assert config.limits.heartbeat_s == 5
    assert config.limits.token_leeway_s == 30
    assert config.rulebook.opa is None
    with pytest.raises(ValueError, match="frozen"):
        config.limits.heartbeat_s = 1  # type: ignore[misc]


def test_the_ledger_keeps_its_entries_for_good_unless_told(path: Path) -> None:
    assert load_config(path).ledger.retention_ms is None
    change(path, "ledger", {"instance": "broker-2", "retention_days": 2})
    assert load_config(path).ledger.retention_ms == 2 * 86_400_000


def test_a_data_directory_is_for_the_embedded_stores(path: Path) -> None:
    change(path, "backend.data_dir", ...)
    assert load_config(path).backend.data_dir is None


def test_a_relative_file_name_works(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    assert load_config(Path("entente.toml")).keys.directory.is_absolute()


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("limits.heartbeat", 5, "limits.heartbeat: unknown key; did you mean 'heartbeat_s'?"),
        ("lmits", {}, "lmits: unknown key; did you mean 'limits'?"),
        ("tls.colour", 5, "tls.colour: unknown key; remove it, or use one of: certificate, client_ca, key"),
        ("backend.kafka.boostrap", [], "backend.kafka.boostrap: unknown key; did you mean 'bootstrap'?"),
        ("contexts.ems.endpont", "x:1", "contexts.ems.endpont: unknown key; did you mean 'endpoint'?"),
        ("contexts.ems.development.role", "x", "contexts.ems.development.role: unknown key; did you mean 'roles'?"),
        ("exchange.audience", ..., "exchange.audience: is missing; add it"),
        ("exchange", ..., "exchange: is missing; add it"),
        ("exchange.name", 5, "exchange.name: must be a string in quotes, not an integer; correct it"),
        ("exchange.name", "", "exchange.name: "),
        ("exchange", "test", "exchange: must be a table, not a string; correct it"),
        ("limits.record_bytes", "1", "limits.record_bytes: must be an integer without quotes, not a string"),
        ("limits.record_bytes", True, "limits.record_bytes: must be an integer without quotes, not a boolean"),
        ("limits.record_bytes", 1.5, "limits.record_bytes: must be an integer without quotes, not a float"),
        ("limits.record_bytes", 1, "limits.record_bytes: must be greater than or equal to 256"),
        ("limits.record_bytes", 67_108_864, "limits.record_bytes: must not exceed limits.message_bytes"),
        ("limits.stream_buffer_bytes", 1_073_741_824, "limits.stream_buffer_bytes: must not exceed"),
        ("limits.heartbeat_s", "5", "limits.heartbeat_s: must be a number without quotes, not a string"),
        ("limits.heartbeat_s", float("nan"), "limits.heartbeat_s: must be "),
        ("limits.heartbeat_s", float("inf"), "limits.heartbeat_s: must be "),
        ("listen.tls", "7443", "listen.tls: must be HOST:PORT"),
        ("listen.tls", "127.0.0.1:70000", "listen.tls: must be HOST:PORT"),
        ("listen.tls", "::1:7443", "listen.tls: must be HOST:PORT; write an IPv6 address in brackets"),
        ("listen.tls", "[nonsense]:7443", "listen.tls: "),
        ("listen.mtls", "127.0.0.1:7443", "listen.mtls: must differ from listen.tls"),
        ("tls.client_ca", ..., "tls.client_ca: is missing, and listen.mtls needs it"),
        ("tls.key", "absent.key", "tls.key: no such file: "),
        ("tls.key", 5, "tls.key: must be a path in quotes"),
        ("tls.key", "", "tls.key: must be a path in quotes"),
        ("rulebook.directory", "server.pem", "rulebook.directory: no such directory: "),
        ("rulebook.opa", "opa", "rulebook.opa: no such file: "),
        ("backend", {"kind": "embedded"}, "backend.data_dir: is missing; name the directory"),
        ("ledger.instance", "Broker 1", "ledger.instance: "),
        ("ledger.instance", "", "ledger.instance: "),
        ("ledger.instance", "x" * 33, "ledger.instance: "),
        ("ledger.retention_days", 0, "ledger.retention_days: must be greater than or equal to 1"),
        ("ledger.checkpoint_interval_s", 0, "ledger.checkpoint_interval_s: must be greater than 0"),
        ("backend.kind", "postgres", "backend.kind: must be 'embedded' or 'kafka'; correct it"),
        ("backend.kafka", ..., "backend.kafka: section is missing"),
        ("backend.kafka.bootstrap", "kafka:9092", "backend.kafka.bootstrap: must be an array, not a string"),
        ("backend.kafka.bootstrap", [], "backend.kafka.bootstrap: "),
        ("backend.kafka.bootstrap", ["kafka"], "backend.kafka.bootstrap[0]: must be HOST:PORT"),
        ("backend.kafka.prefix", "a b", "backend.kafka.prefix: "),
        ("backend.kafka.security_protocol", "PLAINTEXT", "backend.kafka.security_protocol: sends records in the clear"),
        ("backend.kafka.security_protocol", "SASL_SSL", "backend.kafka.security_protocol: needs sasl_mechanism"),
        ("backend.kafka.sasl_username", "u", "backend.kafka.sasl_mechanism: has no use without SASL"),
        ("backend.kafka.replication", 1, "backend.kafka.replication: must be at least 3"),
        ("backend.kafka.min_insync_replicas", 1, "backend.kafka.min_insync_replicas: must be at least 2"),
        ("backend.kafka.min_insync_replicas", 4, "backend.kafka.min_insync_replicas: must not exceed replication"),
        ("backend.kafka.certificate", "ca.pem", "backend.kafka.key: certificate and key belong together"),
        ("contexts.ems.token_file", "token", "contexts.ems.token_file: has two sources of tokens"),
        ("contexts.ems.certificate", "c.pem", "contexts.ems.key: certificate and key belong together"),
        ("contexts.a\nb", {}, r"contexts.'a\nb'.endpoint: is missing; add it"),
        ("default_context", "nobody", "default_context: names no context of this file"),
    ],
)  # fmt: skip
def test_each_fault_is_one_line(path: Path, key: str, value: object, says: str) -> None:
    change(path, key, value)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    (finding,) = caught.value.findings
    assert finding.startswith(f"{path}: {says}")
    assert "\n" not in finding


def test_all_faults_are_told_at_once(path: Path) -> None:
    change(path, "exchange.name", 5)
    change(path, "tls.key", "absent.key")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert len(caught.value.findings) == 2
    assert str(caught.value).count("\n") == 1


def test_a_misplaced_secret_is_not_quoted(path: Path) -> None:
    for key in ("exchange.name", "listen.tls", "backend.kind", "backend.kafka.prefix", "limits.heartbeat_s"):
        change(path, key, ["hunter2"])
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert "hunter2" not in str(caught.value)
    for key in ("listen.tls", "backend.kind", "backend.kafka.prefix"):
        change(path, key, "hunter2 hunter2")
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("content", [b"a = ", b"a = 1\na = 2", b"\xff", b"[" * 50_000, b"#" * 1_048_577])
def test_what_is_no_toml_is_one_line(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for load in (load_config, load_client_config):
        with pytest.raises(ConfigError) as caught:
            load(path)
        (finding,) = caught.value.findings
        assert finding.startswith(f"{path}: ")
        assert "\n" not in finding


def test_a_missing_file_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; make one with 'entente init DIR'"):
        load_config(tmp_path / "entente.toml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path)


def test_a_partner_needs_no_server_sections(path: Path) -> None:
    path.write_text('[contexts.mine]\nendpoint = "exchange.example:7443"\ntoken_file = "token"\n')
    config = load_client_config(path)
    assert config.contexts["mine"].token_file == path.parent / "token"
    with pytest.raises(ConfigError, match=r"contexts\.mine\.token_file: no such file"):
        select_context(config, path, "mine")
    (path.parent / "token").write_text("x")
    assert select_context(config, path, "mine")[0] == "mine"


def test_the_command_line_does_not_need_the_servers_files(path: Path) -> None:
    (path.parent / "server.key").unlink()
    name, context = select_context(load_client_config(path), path)
    assert (name, context.endpoint) == ("ems", "exchange.example:7443")


def test_unknown_sections_are_refused_for_the_command_line_too(path: Path) -> None:
    change(path, "contxts", {})
    with pytest.raises(ConfigError, match="contxts: unknown key; did you mean 'contexts'"):
        load_client_config(path)


def test_an_unknown_context_is_answered_with_the_known_ones(path: Path) -> None:
    with pytest.raises(ConfigError, match="choose one of: ems"):
        select_context(load_client_config(path), path, "emss")
    change(path, "default_context", ...)
    with pytest.raises(ConfigError, match="name a context with --context"):
        select_context(load_client_config(path), path)


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:7443", ("::1", 7443)),
        ("host.example:65535", ("host.example", 65535)),
    ],
)
def test_addresses_are_split(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize(
    "address", ["", ":1", "host", "host:", "host:-1", "host:٣", "host:1x", "ho st:1", "a/b:1", "[x]:1"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        split_address(address)
