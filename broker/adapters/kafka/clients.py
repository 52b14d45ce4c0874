"""The clients that carry what the exchange stores: librdkafka's, which work in threads without the interpreter's lock.

Those threads begin when a client is made, so it is made after any fork. What the library logs and says of an error may
quote a server or a setting: only the names of errors are told, in the log each at most once a minute and client.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer

from broker.adapters.kafka.connection import MAX_RECORD_BYTES, REQUEST_TIMEOUT_MS, KafkaConnection
from broker.errors import StorageUnavailable

log = logging.getLogger(__name__)

LONGEST_MS = 24 * 3600 * 1000
REACH_TIMEOUT_S = 8.0
_TELL_AGAIN_S = 60.0
_TOKEN_LIFE_S = 60.0


def connected_producer(
    connection: KafkaConnection, *, linger_ms: float, batch_bytes: int, fatal: Callable[[], None]
) -> Any:
    """An idempotent producer that waits for all in-sync replicas, for a day. Raises StorageUnavailable.

    fatal: called while it is polled or flushed, once it can take nothing more.
    """
    settings: dict[str, object] = {
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": linger_ms,
        "batch.size": batch_bytes,
        "batch.num.messages": 1_000_000,
        "message.max.bytes": MAX_RECORD_BYTES,
        "message.timeout.ms": LONGEST_MS,
        "retry.backoff.ms": 20,
        "queue.buffering.max.messages": 10_000_000,  # whoever sends bounds the bytes
        "error_cb": _Telling(fatal),
    }
    return _connected(Producer, connection, settings)


def connected_consumer(connection: KafkaConnection, *, prefetch_bytes: int) -> Any:
    """A consumer that is in no group, commits nothing and never skips to another offset. Raises StorageUnavailable."""
    settings: dict[str, object] = {
        "group.id": "entente",  # the library asks for one; only a subscription would join it
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_uncommitted",
        "check.crcs": True,
        "fetch.wait.max.ms": 250,
        "fetch.queue.backoff.ms": 5,
        "fetch.error.backoff.ms": 50,
        "fetch.message.max.bytes": MAX_RECORD_BYTES,
        "fetch.max.bytes": MAX_RECORD_BYTES,
        "queued.max.messages.kbytes": prefetch_bytes // 1024,
        "max.poll.interval.ms": LONGEST_MS,
        "error_cb": _Telling(lambda: None),
    }
    return _connected(Consumer, connection, settings)


def error_name(error: KafkaException) -> str:
    """What may be told of an error."""
    return str(error.args[0].name())


def _connected(kind: Callable[[Any], Any], connection: KafkaConnection, settings: dict[str, object]) -> Any:
    made: list[Any] = []
    try:
        made.append(kind(_shared(connection) | settings))
        made[0].list_topics(timeout=REACH_TIMEOUT_S)
    except KafkaException as error:
        for client in made:
            client.poll(0)  # so that its own errors, which say more, are told first
            client.close()
        raise StorageUnavailable(f"Kafka cannot be reached: {error_name(error)}") from None
    return made[0]


def _shared(connection: KafkaConnection) -> dict[str, object]:
    """Addresses, time limits, TLS and SASL. Holds secrets: never log it."""
    given: dict[str, object] = {
        "bootstrap.servers": ",".join(connection.bootstrap),
        "security.protocol": ("SASL_" if connection.sasl_mechanism else "")
        + ("SSL" if connection.encrypted else "PLAINTEXT"),
        "ssl.ca.location": connection.ca_file,
        "ssl.certificate.location": connection.certificate_file,
        "ssl.key.location": connection.key_file,
        "ssl.key.password": connection.key_password,
        "sasl.mechanism": connection.sasl_mechanism,
        "sasl.username": connection.sasl_user,
        "sasl.password": connection.sasl_password,
    }
    if connection.sasl_mechanism == "OAUTHBEARER" and connection.sasl_token is not None:
        given["oauth_cb"] = _token_of(connection.sasl_token)
    return {name: value for name, value in given.items() if value is not None} | {
        "allow.auto.create.topics": False,
        "log_level": 0,
        "reconnect.backoff.max.ms": 1_000,
        "socket.timeout.ms": REQUEST_TIMEOUT_MS,
        "socket.nagle.disable": True,
        "topic.metadata.refresh.interval.ms": 60_000,
    }


def _token_of(token: Callable[[], str]) -> Callable[[str], tuple[str, float]]:
    """The shape in which librdkafka asks for a bearer token, at four fifths of the life that it is told."""
    return lambda _: (token(), time.time() + _TOKEN_LIFE_S)


class _Telling:
    """Logs errors of one client by their names."""

    def __init__(self, fatal: Callable[[], None]) -> None:
        self._fatal = fatal
        self._told_s: dict[str, float] = {}

    def __call__(self, error: Any) -> None:
        name, now_s = str(error.name()), time.monotonic()
        if now_s - self._told_s.get(name, -_TELL_AGAIN_S) >= _TELL_AGAIN_S:
            self._told_s[name] = now_s
            log.warning("a client of Kafka reports %s", name)
        if error.fatal():
            self._fatal()
