"""`entente init`: what it makes, its modes, and that it makes all or nothing."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from broker.adapters.clock import SystemClock
from broker.adapters.jwt.identity import JwtIdentity
from broker.adapters.keyring import FileKeys
from broker.app import initialise as module
from broker.app.config import load_client_config, load_config, select_context
from broker.app.initialise import DEFAULT_RULEBOOK, SAMPLES, initialise
from broker.app.new_directory import InitialiseRefused
from broker.app.tokens import token_for_context
from broker.core.checkpoint.note import VerifierKey
from broker.core.ledger.signing import LedgerKeys
from broker.core.rulebook.load import read_rulebook
from broker.core.rulebook.registry import parse_registry

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return initialise(tmp_path_factory.mktemp("init") / "exchange").directory


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.context)
async def test_each_context_gives_a_token_that_the_rulebook_accepts(
    exchange: Path, sample: module.Sample
) -> None:
    revision = read_rulebook(exchange / "rulebook")
    config = load_client_config(exchange / "entente.toml")
    assert config.exchange is not None
    clock = SystemClock()
    identity = JwtIdentity(
        parse_registry(revision), revision.files, audience=config.exchange.audience, clock=clock
    )
    _, context = select_context(config, exchange / "entente.toml", sample.context)
    token = token_for_context(context, config.exchange.audience, clock)
    assert token is not None
    principal = await identity.authenticate(token, None)
    assert principal.key == (sample.agency, sample.subject)
    assert (principal.roles, principal.purposes) == ((sample.role,), (sample.purpose,))
    assert principal.attributes == {"clearance": sample.clearance}


def test_every_agency_has_a_context_for_each_of_two_administrators(exchange: Path) -> None:
    registry = parse_registry(read_rulebook(exchange / "rulebook"))
    roles = {"agency-admin", "exchange-admin"}
    given = {(sample.agency, sample.subject) for sample in SAMPLES if sample.role in roles}
    listed = {(agency, subject) for agency, ids in registry.administrators.items() for subject in ids}
    assert given == listed
    assert {agency for agency, _ in listed} == set(registry.agencies)
    assert all(len(ids) == 2 for ids in registry.administrators.values())


def test_the_configuration_and_the_keys_are_accepted(exchange: Path) -> None:
    config = load_config(exchange / "entente.toml")
    assert (config.listen.tls, config.listen.mtls) == ("127.0.0.1:7443", "127.0.0.1:7444")
    assert config.backend.kind == "embedded"
    assert len(FileKeys.open(config.keys.directory).current("cursor")[1]) == 32


def test_the_rulebook_is_the_default_one_and_the_public_keys(exchange: Path) -> None:
    def content(root: Path) -> dict[str, bytes]:
        found = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc")
        return {str(path.relative_to(root)): path.read_bytes() for path in found}

    made, default = content(exchange / "rulebook"), content(DEFAULT_RULEBOOK)
    assert {name for name in made if name not in default} == {
        f"keys/{agency}.jwks.json" for agency in {sample.agency for sample in SAMPLES}
    }
    assert {name: made[name] for name in default} == default


def test_private_files_and_directories_are_the_owners_alone(exchange: Path) -> None:
    private = {*exchange.rglob("*.key"), *exchange.glob("issuers/*"), *exchange.glob("keys/*.keys")}
    assert len(private) == 2 + 6 + 6 + 6  # ca and server, clients, issuers, a file for each use of keys
    for path in (exchange, *exchange.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert not path.is_symlink()
        if path.is_dir():
            assert mode == 0o700, path
        elif path in private:
            assert mode == 0o600, path
        else:
            assert mode & 0o022 == 0, path


def test_no_secret_is_in_a_public_file(exchange: Path) -> None:
    keys = [
        json.loads(path.read_text())["key"]["d"].encode() for path in (exchange / "issuers").glob("*.json")
    ]
    assert len(keys) == 6
    for path in exchange.rglob("*"):
        if path.is_file() and stat.S_IMODE(path.stat().st_mode) != 0o600:
            content = path.read_bytes()
            assert b"PRIVATE KEY" not in content, path
            assert not any(key in content for key in keys), path


def test_a_second_init_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "exchange"
    initialise(directory)
    before = (directory / "tls" / "ca.pem").read_bytes()
    with pytest.raises(InitialiseRefused, match="exists and is not an empty directory"):
        initialise(directory)
    assert (directory / "tls" / "ca.pem").read_bytes() == before
    assert list(tmp_path.iterdir()) == [directory]


def test_an_empty_directory_is_used_and_parents_are_made(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert initialise(tmp_path / "empty").config.is_file()
    assert initialise(tmp_path / "a" / "b").config.is_file()


@pytest.mark.parametrize("kind", ["file", "link", "occupied"])
def test_what_is_there_is_never_replaced(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "exchange"
    if kind == "file":
        target.write_text("mine")
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir()
        target.symlink_to(tmp_path / "elsewhere")
    else:
        target.mkdir()
        (target / "mine").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InitialiseRefused):
        initialise(target)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failure_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "new_key_file", full)
    with pytest.raises(InitialiseRefused, match="No space left on device"):
        initialise(tmp_path / "exchange")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_fills_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "exchange"
    make = module.new_key_file

    def meanwhile(now_ms: int) -> bytes:
        target.mkdir(exist_ok=True)
        (target / "mine").write_text("mine")
        return make(now_ms)

    monkeypatch.setattr(module, "new_key_file", meanwhile)
    with pytest.raises(InitialiseRefused):
        initialise(target)
    assert [path.name for path in tmp_path.rglob("*")] == ["exchange", "mine"]


_STOPPED = """
import os, pathlib, sys
from broker.app import initialise as module
def stop(now_ms):
    print("building", flush=True)
    sys.stdin.read()
module.new_key_file = stop
module.initialise(pathlib.Path(sys.argv[1]))
"""


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_kill_in_the_middle_leaves_no_half_directory(tmp_path: Path, kill: signal.Signals) -> None:
    target = tmp_path / "exchange"
    child = subprocess.Popen(
        [sys.executable, "-c", _STOPPED, str(target)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"building\n"
        child.send_signal(kill)
        child.wait(30)
    assert not target.exists()
    left = list(tmp_path.iterdir())
    if kill is signal.SIGINT:
        assert left == []
    for path in left:
        assert path.name.startswith(".exchange.")
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert initialise(target).config.is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"listen": "7443"}, "--listen must be HOST:PORT"),
        ({"listen": "127.0.0.1:0"}, "--listen needs a port"),
        ({"listen": "127.0.0.1:65535"}, "--listen needs a port"),
        ({"backend": "kafka"}, "--kafka HOST:PORT belongs to --backend kafka"),
        ({"kafka": "127.0.0.1:9092"}, "--kafka HOST:PORT belongs to --backend kafka"),
        ({"backend": "kafka", "kafka": "kafka"}, "--kafka must be HOST:PORT"),
        ({"rulebook": Path("/nonexistent")}, "is no rulebook"),
    ],
)
def test_bad_arguments_are_refused(tmp_path: Path, arguments: dict[str, object], says: str) -> None:
    with pytest.raises(InitialiseRefused, match=says):
        initialise(tmp_path / "exchange", **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_kafka_on_this_machine_is_for_development_and_any_other_must_be_secure(tmp_path: Path) -> None:
    near = load_config(initialise(tmp_path / "near", backend="kafka", kafka="127.0.0.1:9092").config)
    far = load_config(initialise(tmp_path / "far", backend="kafka", kafka="kafka.example:9093").config)
    assert near.backend.kafka is not None
    assert far.backend.kafka is not None
    assert (near.backend.kafka.insecure_plaintext, near.backend.kafka.replication) == (True, 1)
    assert (far.backend.kafka.insecure_plaintext, far.backend.kafka.replication) == (False, 3)
    assert far.backend.kafka.security_protocol == "SSL"


@pytest.mark.parametrize(
    ("listen", "endpoint"),
    [
        ("0.0.0.0:9000", "127.0.0.1:9000"),
        ("[::1]:9000", "[::1]:9000"),
        ("[::]:9000", "127.0.0.1:9000"),
        ("exchange.example:9000", "exchange.example:9000"),
    ],
)
def test_contexts_reach_the_listener(tmp_path: Path, listen: str, endpoint: str) -> None:
    summary = initialise(tmp_path / "exchange", listen)
    config = load_config(summary.config)
    assert config.listen.tls == listen
    assert {context.endpoint for context in config.contexts.values()} == {endpoint}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl on PATH")
async def test_openssl_verifies_the_certificates_for_their_purpose_only(tmp_path: Path) -> None:
    tls = initialise(tmp_path / "exchange", "exchange.example:9000").directory / "tls"
    for name in ("localhost", "exchange.example"):
        assert await verifies(tls, "server.pem", "sslserver", "-verify_hostname", name)
    for address in ("127.0.0.1", "::1"):
        assert await verifies(tls, "server.pem", "sslserver", "-verify_ip", address)
    assert not await verifies(tls, "server.pem", "sslserver", "-verify_hostname", "other.example")
    assert not await verifies(tls, "server.pem", "sslclient")
    for client in sorted((tls / "clients").glob("*.pem")):
        assert await verifies(tls, f"clients/{client.name}", "sslclient")
        assert not await verifies(tls, f"clients/{client.name}", "sslserver")


async def verifies(tls: Path, certificate: str, purpose: str, *more: str) -> bool:
    command = (
        "openssl",
        "verify",
        "-x509_strict",
        "-CAfile",
        "ca.pem",
        "-purpose",
        purpose,
        *more,
        certificate,
    )
    quiet = asyncio.subprocess.DEVNULL
    environment = {"PATH": os.environ["PATH"]}
    child = await asyncio.create_subprocess_exec(
        *command, cwd=tls, stdout=quiet, stderr=quiet, env=environment
    )
    return await child.wait() == 0


def test_the_ledgers_public_key_is_the_one_that_signs(exchange: Path) -> None:
    (line,) = (exchange / "keys" / "ledger.vkey").read_text().splitlines()
    keys = LedgerKeys(FileKeys.open(exchange / "keys"), "development")
    assert VerifierKey.parse(line) == keys.current
    assert keys.current.name == "development"
