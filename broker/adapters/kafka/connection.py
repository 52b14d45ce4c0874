"""How to reach a Kafka cluster: addresses, TLS and SASL, and the clients made from them.

kafka-python's clients block and own threads, so each is made lazily (after any fork), inside a thread of its owner.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient

from broker.adapters.kafka.sockets import DIRECT

SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

BOOTSTRAP_TIMEOUT_MS = 8_000
REQUEST_TIMEOUT_MS = 10_000
MAX_RECORD_BYTES = 16 * 1024 * 1024
"""Largest record of any topic of ours (`max.message.bytes`), with its framing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaConnection:
    """Addresses and credentials of one cluster; `prefix` begins the name of each topic that the exchange owns.

    With `ca_file` or `tls` connections are TLS 1.2 or later with the host name checked; `certificate_file` and
    `key_file` (PEM) are the client's own. `replication` and, if given, `min_in_sync` are for
    the topics that are created here.
    """

    bootstrap: tuple[str, ...]
    prefix: str = "entente"
    tls: bool = False
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    key_password: str | None = field(default=None, repr=False)
    sasl_mechanism: SaslMechanism | None = None
    sasl_user: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    replication: int = 3
    min_in_sync: int | None = None

    @property
    def encrypted(self) -> bool:
        """Whether connections use TLS."""
        return self.tls or self.ca_file is not None

    def topic(self, *parts: str) -> str:
        """The Kafka name of one of the exchange's topics."""
        return ".".join((self.prefix, *parts))

    def consumer(self, **settings: object) -> Any:
        """A consumer without a group, that never commits, never creates a topic and never skips to another offset."""
        fixed: dict[str, object] = {
            "group_id": None,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "allow_auto_create_topics": False,
            "metrics_enabled": False,
            "max_partition_fetch_bytes": MAX_RECORD_BYTES,
            "fetch_max_bytes": MAX_RECORD_BYTES,
        }
        return self._make(KafkaConsumer, fixed | settings)

    def producer(self, **settings: object) -> Any:
        """An idempotent producer that waits for all in-sync replicas."""
        fixed: dict[str, object] = {
            "acks": "all",
            "enable_idempotence": True,
            "allow_auto_create_topics": False,
            "metrics_enabled": False,
            "max_request_size": MAX_RECORD_BYTES,
        }
        return self._make(KafkaProducer, fixed | settings)

    def admin(self) -> Any:
        """A client for topics, offsets and configurations."""
        return self._make(KafkaAdminClient, {})

    def _make(self, kind: Callable[..., Any], settings: dict[str, object]) -> Any:
        """Construct a client, and end the threads that its constructor began if it fails."""
        made: list[Any] = []

        def net_client(**config: object) -> Any:
            made.append(KafkaNetClient(**config))
            return made[-1]

        try:
            return kind(**self.client_settings(), **settings, kafka_client=net_client)
        except (KafkaError, OSError):
            for client in made:
                client.close()
            raise

    def client_settings(self) -> dict[str, object]:
        """What every client is given: addresses, time limits, TLS and SASL. Holds secrets: never log it."""
        return {
            "bootstrap_servers": list(self.bootstrap),
            "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            "reconnect_backoff_max_ms": 1_000,
            "proxy_url": DIRECT,
            "security_protocol": ("SASL_" if self.sasl_mechanism else "")
            + ("SSL" if self.encrypted else "PLAINTEXT"),
            "ssl_context": self._tls_context() if self.encrypted else None,
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_plain_username": self.sasl_user,
            "sasl_plain_password": self.sasl_password,
        }

    def _tls_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate_file is not None:
            context.load_cert_chain(self.certificate_file, self.key_file, self.key_password)
        return context
