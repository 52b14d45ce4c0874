"""Blocking clients of Kafka live in a thread of their own, and what they cannot do is told without what they say of it."""

from __future__ import annotations

import asyncio
import threading

import pytest
from kafka import errors

from connectors.kafka.connection import Cluster
from connectors.kafka.thread import ClientThread, kafka_failure

CLUSTER = Cluster(bootstrap=("a.example:9093", "b.example:9093"))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (errors.KafkaTimeoutError("s3cr3t"), "cannot be reached; see bootstrap"),
        (errors.KafkaConnectionError("s3cr3t"), "cannot be reached; see bootstrap"),
        (errors.SaslAuthenticationFailedError("s3cr3t"), "refuses authentication; see sasl_mechanism"),
        (errors.TopicAuthorizationFailedError({"s3cr3t"}), "does not permit it on a topic; see its ACLs"),
        (errors.GroupAuthorizationFailedError("s3cr3t"), "for the consumer group; see its ACLs"),
        (errors.CorruptRecordError("s3cr3t"), "CorruptRecordError; see its log"),
    ],
)
def test_an_error_is_told_by_its_kind_and_with_the_clusters_name_only(
    error: errors.KafkaError, told: str
) -> None:
    failure = kafka_failure(error, CLUSTER)
    assert failure.cause.startswith("Kafka at a.example:9093, b.example:9093: ")
    assert told in failure.cause
    assert "s3cr3t" not in failure.cause
    assert not failure.lasting


async def test_calls_are_made_in_order_and_one_that_nobody_awaits_any_more_ends_first() -> None:
    thread = ClientThread("kafka", CLUSTER)
    released = threading.Event()
    done: list[str] = []

    def first() -> None:
        released.wait(60)
        done.append("first")

    try:
        abandoned = asyncio.create_task(thread.call(first))
        await asyncio.sleep(0)
        abandoned.cancel()
        with pytest.raises(asyncio.CancelledError):
            await abandoned
        second = asyncio.create_task(thread.call(done.append, "second"))
        await asyncio.sleep(0)
        assert done == []
        released.set()
        await second
        assert done == ["first", "second"]
    finally:
        released.set()
        thread.end()
