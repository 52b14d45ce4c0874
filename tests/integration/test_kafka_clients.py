"""The settings of librdkafka's clients: TLS and SASL as the connection says, and no secret in what is told of errors."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from socket import socket
from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer

from broker.adapters.kafka import clients
from broker.adapters.kafka.clients import connected_consumer, connected_producer
from broker.adapters.kafka.connection import KafkaConnection
from broker.errors import StorageUnavailable
from tests.services.certificates import make_certificate, pem, server_pem
from tests.services.ports import free_port

PASSWORD = "s3cr3t horse"


@pytest.fixture
def nobody() -> KafkaConnection:
    return KafkaConnection(
        bootstrap=(f"127.0.0.1:{free_port()}",),
        sasl_mechanism="PLAIN",
        sasl_user="entente",
        sasl_password=PASSWORD,
    )


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "REACH_TIMEOUT_S", 0.2)


def producer(connection: KafkaConnection) -> Any:
    return connected_producer(connection, linger_ms=0, batch_bytes=1 << 20, fatal=lambda: None)


def consumer(connection: KafkaConnection) -> Any:
    return connected_consumer(connection, prefetch_bytes=1 << 20)


@pytest.mark.parametrize("connect", [producer, consumer])
def test_a_cluster_that_cannot_be_reached_is_told_by_the_errors_name(
    nobody: KafkaConnection,
    connect: Callable[[KafkaConnection], Any],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(StorageUnavailable, match=r"^Kafka cannot be reached: _[A-Z_]+$"):
        connect(nobody)
    captured = capfd.readouterr()
    assert "s3cr3t" not in caplog.text + captured.out + captured.err


@pytest.mark.parametrize("connect", [producer, consumer])
def test_a_setting_that_the_library_refuses_is_not_quoted(
    nobody: KafkaConnection, connect: Callable[[KafkaConnection], Any], tmp_path: Path
) -> None:
    with pytest.raises(StorageUnavailable, match=r"^Kafka cannot be reached: _INVALID_ARG$"):
        connect(replace(nobody, ca_file=str(tmp_path / "s3cr3t.pem")))


@pytest.mark.parametrize(
    ("changes", "protocol"),
    [
        ({"sasl_mechanism": None}, "PLAINTEXT"),
        ({}, "SASL_PLAINTEXT"),
        ({"ca_file": "/ca.pem"}, "SASL_SSL"),
        ({"tls": True, "sasl_mechanism": None}, "SSL"),
    ],
)
def test_the_protocol_is_what_the_connection_says(
    nobody: KafkaConnection, changes: dict[str, Any], protocol: str
) -> None:
    assert clients._shared(replace(nobody, **changes))["security.protocol"] == protocol


def test_what_is_not_given_is_left_to_the_library(nobody: KafkaConnection) -> None:
    """A None would be taken for a text."""
    assert None not in clients._shared(nobody).values()
    assert "ssl.certificate.location" not in clients._shared(nobody)


def test_a_bearer_token_is_asked_for(nobody: KafkaConnection) -> None:
    asked = threading.Event()

    def token() -> str:
        asked.set()
        return "t0k3n"

    connection = replace(nobody, sasl_mechanism="OAUTHBEARER", sasl_password=None, sasl_token=token)
    with pytest.raises(StorageUnavailable):
        producer(connection)
    client = Producer(clients._shared(connection))
    client.poll(0.2)
    assert asked.is_set()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("most", "spoken"), [(ssl.TLSVersion.TLSv1_1, None), (ssl.TLSVersion.TLSv1_2, "TLSv1.2")]
)
def test_tls_before_1_2_is_refused(tmp_path: Path, most: ssl.TLSVersion, spoken: str | None) -> None:
    ca = make_certificate("CA", None)
    (tmp_path / "ca.pem").write_bytes(pem(ca[0]))
    (tmp_path / "server.pem").write_bytes(server_pem("kafka", ca))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, most
    versions: list[str | None] = []
    with socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(60)

        def serve() -> None:
            accepted, _ = listener.accept()
            accepted.settimeout(60)
            try:
                with context.wrap_socket(accepted, server_side=True) as encrypted:
                    versions.append(encrypted.version())
            except (ssl.SSLError, OSError):
                versions.append(None)
                accepted.close()

        server = threading.Thread(target=serve)
        server.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        client = Producer(
            clients._shared(KafkaConnection(bootstrap=(address,), ca_file=str(tmp_path / "ca.pem")))
        )
        server.join(60)
        client.close()
    assert versions == [spoken]


def test_an_error_is_logged_by_its_name_once_a_minute_and_a_fatal_one_is_handed_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fatal: list[bool] = []
    telling = clients._Telling(lambda: fatal.append(True))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            telling(KafkaError(KafkaError._TRANSPORT, "s3cr3t"))
        assert fatal == []
        telling(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "s3cr3t", True))
    assert [record.getMessage() for record in caplog.records] == [
        "a client of Kafka reports _TRANSPORT",
        "a client of Kafka reports OUT_OF_ORDER_SEQUENCE_NUMBER",
    ]
    assert fatal == [True]
