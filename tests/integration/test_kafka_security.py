"""TLS and SASL to a real Kafka node: accepted with the right CA, name and password, refused otherwise."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

from broker.adapters.kafka import clients
from broker.adapters.kafka.clients import connected_consumer
from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.ledger import KafkaLedgerLog
from broker.adapters.kafka.ledger_reader import KafkaLedgerReader
from broker.adapters.kafka.safety import check_cluster
from broker.errors import StorageUnavailable
from broker.model.ledger import LedgerEntry
from connectors.kafka.connection import SaslMechanism
from deploy.kafka.node import KafkaUnavailable
from tests.contract.samples import START_MS
from tests.fakes.ledger_log import open_writer, rebuilt_of
from tests.services.kafka_secure import PASSWORD, SecureNode, add_scram_user, secure_node, unsecured_token
from tests.services.kafka_sockets import SOCKET_MARKS, sockets_collected

__all__ = ["sockets_collected"]

pytestmark = [pytest.mark.kafka, *SOCKET_MARKS]

USER, AUDITOR = "entente", "auditor"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureNode]:
    try:
        with secure_node(tmp_path_factory.mktemp("kafka-secure"), (USER, AUDITOR)) as node:
            yield node
    except KafkaUnavailable as error:
        pytest.fail(str(error), pytrace=False)


def connection_to(secure: SecureNode) -> KafkaConnection:
    return KafkaConnection(
        bootstrap=(f"127.0.0.1:{secure.secure_port}",),
        prefix=f"k{uuid.uuid4().hex[:8]}",
        ca_file=str(secure.ca_file),
        sasl_mechanism="PLAIN",
        sasl_user=USER,
        sasl_password=PASSWORD,
        replication=1,
    )


async def test_with_the_right_ca_and_password_all_works(secure: SecureNode) -> None:
    connection = connection_to(secure)
    ledger = await open_writer(await KafkaLedgerLog.open(connection))
    entry = LedgerEntry("publish", START_MS, {"call": 1})
    assert [place.index for place in await ledger.append([entry])] == [0]
    assert [stored.entry async for stored in ledger.read()] == [entry]
    assert await check_cluster(connection, insecure_replication=True) == ()
    await ledger.close()


async def test_another_ca_another_name_and_another_password_are_refused(secure: SecureNode) -> None:
    right = connection_to(secure)
    wrong = (
        replace(right, ca_file=str(secure.other_ca_file)),
        replace(right, bootstrap=(f"localhost:{secure.secure_port}",)),
        replace(right, sasl_password="wrong"),
        replace(right, ca_file=None),
    )
    outcomes = await asyncio.gather(*(KafkaLedgerLog.open(each) for each in wrong), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StorageUnavailable] * 4
    assert not any("wrong" in str(outcome) or PASSWORD in str(outcome) for outcome in outcomes)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"])
def test_each_mechanism_lets_in_who_is_right_and_nobody_else(
    secure: SecureNode,
    mechanism: SaslMechanism,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    add_scram_user(secure, USER)
    right = replace(connection_to(secure), sasl_mechanism=mechanism, sasl_token=lambda: unsecured_token(USER))
    connected_consumer(right, prefetch_bytes=1 << 20).close()
    monkeypatch.setattr(clients, "REACH_TIMEOUT_S", 2.0)
    wrong = replace(right, sasl_password="wr0ng", sasl_token=lambda: unsecured_token(USER, ttl_s=-600))
    with (
        caplog.at_level(logging.WARNING, logger="broker"),
        pytest.raises(StorageUnavailable, match=r"^Kafka cannot be reached") as refused,
    ):
        connected_consumer(wrong, prefetch_bytes=1 << 20)
    assert not any(secret in caplog.text + str(refused.value) for secret in ("wr0ng", PASSWORD))


async def test_the_right_to_read_two_topics_is_enough_to_read_the_ledger(secure: SecureNode) -> None:
    connection = connection_to(secure)
    auditing = replace(connection, sasl_user=AUDITOR)
    ledger = await open_writer(await KafkaLedgerLog.open(connection))
    await ledger.append([LedgerEntry("publish", START_MS + n, {"call": n}) for n in range(3)])
    with pytest.raises(StorageUnavailable):
        await KafkaLedgerReader.open(auditing)
    await ledger.log._admin.call(lambda client: client.create_acls(_may_read(connection)))
    async with asyncio.timeout(30):
        while (reader := await _opened(auditing)) is None:  # noqa: ASYNC110 - until the node knows its rules
            await asyncio.sleep(0.05)
    assert list(await reader.instances()) == ["broker"]
    assert (await rebuilt_of(reader)).tree.root() == ledger.tree.root()
    await reader.close()
    await ledger.close()


def _may_read(connection: KafkaConnection) -> list[ACL]:
    topics = (connection.topic("ledger"), connection.topic("ledger-checkpoints"))
    return [
        ACL(
            f"User:{AUDITOR}",
            "*",
            ACLOperation.READ,
            ACLPermissionType.ALLOW,
            ResourcePattern(ResourceType.TOPIC, topic),
        )
        for topic in topics
    ]


async def _opened(connection: KafkaConnection) -> KafkaLedgerReader | None:
    try:
        return await KafkaLedgerReader.open(connection)
    except StorageUnavailable:
        return None
