"""What is asked of a cluster is asked again while only the client is not ready, and can be given up at any moment."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import pytest
from kafka.errors import (
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    TopicAuthorizationFailedError,
    UnknownBrokerIdError,
)

from broker.adapters.kafka.admin import ClusterAdmin
from broker.adapters.kafka.connection import KafkaConnection
from broker.errors import StorageUnavailable

TURNS = 6
"""Of the event loop, more than an answer takes to its caller."""


class _Client:
    def close(self) -> None:
        """Nothing is open."""


class _Connection:
    def admin(self) -> _Client:
        return _Client()


@pytest.mark.parametrize("turns", range(TURNS))
async def test_a_cancellation_counts_also_if_it_comes_with_the_answer(turns: int) -> None:
    admin = ClusterAdmin(cast(KafkaConnection, _Connection()))
    answered, asked_again = threading.Event(), 0

    async def ask_on() -> None:
        nonlocal asked_again
        await admin.call(lambda _: answered.wait())
        asked_again += 1
        await asyncio.Event().wait()

    asking = asyncio.ensure_future(ask_on())
    await asyncio.sleep(0)
    answered.set()
    # Afterwards the answer is in the loop's queue, and has not had a turn.
    admin._thread.submit(lambda: None).result()
    for _ in range(turns):
        await asyncio.sleep(0)
    came = asked_again
    asking.cancel()
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert asking.cancelled()
    assert asked_again == came
    await admin.close()


class _Failing:
    """Fails so often, then answers."""

    def __init__(self, error: KafkaError, times: int) -> None:
        self.error = error
        self.left = times

    def __call__(self, _: Any) -> str:
        if self.left:
            self.left -= 1
            raise self.error
        return "answer"


@pytest.mark.parametrize("error", [NodeNotReadyError(1), KafkaConnectionError(), UnknownBrokerIdError(1)])
async def test_a_client_without_its_nodes_is_asked_again(error: KafkaError) -> None:
    admin = ClusterAdmin(cast(KafkaConnection, _Connection()), timeout_s=60)
    assert await admin.call(_Failing(error, 2)) == "answer"
    await admin.close()


async def test_what_the_cluster_refuses_is_refused_at_once() -> None:
    admin = ClusterAdmin(cast(KafkaConnection, _Connection()), timeout_s=60)
    failing = _Failing(TopicAuthorizationFailedError(), 2)
    with pytest.raises(StorageUnavailable, match="TopicAuthorizationFailedError"):
        await admin.call(failing)
    assert failing.left == 1
    await admin.close()
