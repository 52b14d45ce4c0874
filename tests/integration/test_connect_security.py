"""Connectors and a Kafka that asks for TLS and SASL: each mechanism works, a wrong secret is told as such, none is shown."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from connectors.runtime.model import State
from deploy.kafka.node import KafkaUnavailable
from tests.services.agency_kafka import Arrivals, arrived, create_topics, produce
from tests.services.agency_records import MAPPING, Made
from tests.services.broker import BrokerProcess
from tests.services.connect import ConnectProcess, Table, TokenFile, run_connect
from tests.services.kafka_secure import PASSWORD, SecureNode, add_scram_user, secure_node, unsecured_token

pytestmark = [pytest.mark.kafka, pytest.mark.opa, pytest.mark.slow, pytest.mark.timeout(300)]

USER = "entente"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
WRONG = "canary-of-a-secret"
VARIABLE = "TEST_KAFKA_PASSWORD"


@dataclass(frozen=True)
class Site:
    """One secured cluster that stands for both agencies', and the exchange."""

    secure: SecureNode
    broker: BrokerProcess
    tokens: Mapping[str, TokenFile]
    made: Made

    def secrets(self) -> list[str]:
        """What must be seen nowhere."""
        return [
            PASSWORD,
            unsecured_token(USER).split(".")[0],
            *(each.path.read_text() for each in self.tokens.values()),
        ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    try:
        with secure_node(tmp_path_factory.mktemp("kafka"), (USER,)) as secure:
            add_scram_user(secure, USER)
            create_topics(secure.node.bootstrap, {f"from-{each}": 1 for each in MECHANISMS})
            create_topics(secure.node.bootstrap, {f"to-{each}": 1 for each in MECHANISMS})
            create_topics(secure.node.bootstrap, {"entente.cursors": 1}, cleanup_policy="compact")
            broker = BrokerProcess(directory / "exchange")
            broker.start()
            tokens = {name: TokenFile(broker, name) for name in ("cyber-centre", "partner-cert")}
            yield Site(secure, broker, tokens, Made(seed=3, keys=1, poison=0))
            broker.stop()
    except KafkaUnavailable as error:
        pytest.fail(str(error), pytrace=False)


def kafka(site: Site, mechanism: str, directory: Path, *, wrong: bool = False) -> Table:
    """The table `kafka`; the secret in a file, for SCRAM-SHA-256 in a variable."""
    table = {
        "bootstrap": [site.secure.address],
        "ca_file": str(site.secure.ca_file),
        "sasl_mechanism": mechanism,
    }
    secret = directory / f"{mechanism}{'-wrong' if wrong else ''}.secret"
    secret.touch(mode=0o600)
    if mechanism == "OAUTHBEARER":
        secret.write_text(f"{WRONG}.{WRONG}." if wrong else unsecured_token(USER))
        return {**table, "oauth": {"token_file": str(secret)}}
    secret.write_text(WRONG if wrong else PASSWORD)
    named = {"env": VARIABLE} if mechanism == "SCRAM-SHA-256" and not wrong else {"file": str(secret)}
    return {**table, "sasl_user": USER, "sasl_password": named}


def source(site: Site, mechanism: str, cluster: Table) -> Table:
    return {
        "plugin": "kafka-source",
        "topic": "vulnerabilities",
        "exchange": site.tokens["cyber-centre"].exchange(),
        "kafka": cluster,
        "read": {"topics": [f"from-{mechanism}"]},
        "map": {**MAPPING, "source": f"//cyber-centre/{mechanism.lower()}"},
    }


def sink(site: Site, mechanism: str, cluster: Table) -> Table:
    return {
        "plugin": "kafka-sink",
        "topic": "vulnerabilities",
        "purpose": "cyber-defence",
        "exchange": site.tokens["partner-cert"].exchange(),
        "kafka": cluster,
        "write": {"topic": f"to-{mechanism}"},
    }


def pairs(site: Site, directory: Path, *, wrong: bool = False) -> dict[str, Table]:
    """A source and a sink for each mechanism."""
    tables = {}
    for mechanism in MECHANISMS:
        cluster = kafka(site, mechanism, directory, wrong=wrong)
        tables[f"source-{mechanism}"] = source(site, mechanism, cluster)
        tables[f"sink-{mechanism}"] = sink(site, mechanism, cluster)
    return tables


async def test_every_mechanism_moves_records_and_no_secret_is_seen(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, PASSWORD)
    process = ConnectProcess(tmp_path / "c", pairs(site, tmp_path), options=["--metrics", "127.0.0.1:0"])
    checked = run_connect("validate", process.file, "--connect")
    assert checked.returncode == 0, checked.stderr
    entitled = next(each for each in site.made.records(0, 1_000) if each.entitled is not None)
    for mechanism in MECHANISMS:
        produce(site.secure.node.bootstrap, f"from-{mechanism}", [entitled])
    ready = process.start()
    try:
        for mechanism in MECHANISMS:
            with Arrivals(site.secure.node.bootstrap, f"to-{mechanism}") as arrivals:
                arrivals.until(len(MECHANISMS))
            sources = {
                each.headers["ce_source"].decode()
                for each in arrived(site.secure.node.bootstrap, f"to-{mechanism}")
            }
            assert sources == {f"//cyber-centre/{each.lower()}" for each in MECHANISMS}
        command_line = process.command_line
        async with process.control() as control:
            status = await control.connectors()
            offsets = [await control.offsets(each.name) for each in status]
        metrics = _fetched(f"http://{json.loads(ready)['metrics']}/metrics")
    finally:
        code = process.stop()
    assert code == 0
    assert {each.state for each in status} == {State.RUNNING}
    assert 'connector="sink-PLAIN"' in metrics
    shown = [checked.stdout, checked.stderr, ready, repr(status), repr(offsets), metrics, command_line]
    _assert_unseen(site, [*shown, process.log()])


def _fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def _assert_unseen(site: Site, texts: list[str]) -> None:
    for text in texts:
        # The number of the secret, since a failure must not print it either.
        found = [number for number, secret in enumerate([*site.secrets(), WRONG]) if secret in text]
        assert not found


async def test_a_wrong_secret_and_a_wrong_authority_are_told_in_a_line(site: Site, tmp_path: Path) -> None:
    tables = pairs(site, tmp_path, wrong=True)
    cluster = {**kafka(site, "PLAIN", tmp_path), "ca_file": str(site.secure.other_ca_file)}
    tables["other-authority"] = sink(site, "PLAIN", cluster)
    process = ConnectProcess(tmp_path / "c", tables)
    checked = run_connect("validate", process.file, "--connect")
    assert checked.returncode != 0
    lines = checked.stderr.splitlines()
    for name in tables:
        (line,) = [each for each in lines if f"connectors.{name}:" in each]
        wanted = "certificate" if name == "other-authority" else "authentication"
        assert wanted in line.lower(), line
    process.start()
    try:
        for name in tables:
            status = await process.until(name, lambda one: one.cause is not None)
            assert status.cause is not None and "\n" not in status.cause
            assert status.state in (State.FAILED, State.RESTARTING)
    finally:
        assert process.stop() == 0
    _assert_unseen(site, [checked.stdout, checked.stderr, process.log()])
