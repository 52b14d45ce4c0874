"""What the cluster's administrators ask is asked again while the client only lacks a connection."""

from __future__ import annotations

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
from broker.errors import StorageUnavailable


class Connection:
    """Of which only the client that it makes is asked for."""

    def admin(self) -> Any:
        return self

    def close(self) -> None:
        """As a client's."""


class Failing:
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
    admin = ClusterAdmin(cast(Any, Connection()), timeout_s=60)
    assert await admin.call(Failing(error, 2)) == "answer"
    await admin.close()


async def test_what_the_cluster_refuses_is_refused_at_once() -> None:
    admin = ClusterAdmin(cast(Any, Connection()), timeout_s=60)
    failing = Failing(TopicAuthorizationFailedError(), 2)
    with pytest.raises(StorageUnavailable, match="TopicAuthorizationFailedError"):
        await admin.call(failing)
    assert failing.left == 1
    await admin.close()
