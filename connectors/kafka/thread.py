"""A thread in which a connector's blocking clients of Kafka live, one call after another, and what their errors mean."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from kafka import errors
from kafka.errors import KafkaError

from connectors.kafka.connection import Cluster
from connectors.kafka.handshakes import CertificateRefused
from connectors.runtime.model import ConnectorFailed

T = TypeVar("T")
P = ParamSpec("P")

_UNREACHABLE = (
    errors.KafkaConnectionError,
    errors.KafkaTimeoutError,
    errors.NodeNotReadyError,
    errors.RequestTimedOutError,
)
_REMEDIES: tuple[tuple[type[KafkaError] | tuple[type[KafkaError], ...], str], ...] = (
    (
        CertificateRefused,
        "has a certificate that is not trusted here; see ca_file and the names in bootstrap",
    ),
    (
        errors.UnsupportedSaslMechanismError,
        "has no authentication by this sasl_mechanism; ask which it has",
    ),
    (
        errors.SaslAuthenticationFailedError,
        "refuses authentication; see sasl_mechanism, sasl_user and its password, or oauth",
    ),
    (errors.TopicAuthorizationFailedError, "does not permit it on a topic; see its ACLs"),
    (errors.GroupAuthorizationFailedError, "does not permit it for the consumer group; see its ACLs"),
    (
        errors.TransactionalIdAuthorizationFailedError,
        "does not permit it for the transactional id; see its ACLs",
    ),
    (errors.ClusterAuthorizationFailedError, "does not permit it on the cluster; see its ACLs"),
    (_UNREACHABLE, "cannot be reached; see bootstrap, TLS and the network"),
)


def kafka_failure(error: KafkaError, cluster: Cluster) -> ConnectorFailed:
    """What to tell of an error of kafka-python: its kind only, since its text may quote what it was about."""
    where = f"Kafka at {', '.join(cluster.bootstrap)}"
    for kinds, meaning in _REMEDIES:
        if isinstance(error, kinds):
            return ConnectorFailed(f"{where}: {meaning} ({type(error).__name__})")
    return ConnectorFailed(f"{where}: {type(error).__name__}; see its log")


class ClientThread:
    """Runs calls of one owner, in order."""

    def __init__(self, name: str, cluster: Cluster) -> None:
        self._cluster = cluster
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The call's result. Raises ConnectorFailed for what Kafka refuses or cannot do.

        Cancelled, it leaves the call to itself: it ends, and the next one waits for it.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, lambda: function(*args, **kwargs))
        except KafkaError as error:
            raise kafka_failure(error, self._cluster) from None

    def end(self) -> None:
        """Let the thread end after the calls that it was given."""
        self._executor.shutdown(wait=False)
