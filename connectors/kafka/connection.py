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
from kafka.net.sasl.oauth import AbstractTokenProvider

from connectors.kafka.handshakes import telling_client
from connectors.kafka.sockets import DIRECT

SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]

BOOTSTRAP_TIMEOUT_MS = 8_000
REQUEST_TIMEOUT_MS = 10_000
MAX_RECORD_BYTES = 16 * 1024 * 1024
"""Largest record that a client asks for or sends (`max.message.bytes` of the exchange's topics), with its framing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Addresses and credentials of one cluster.

    With `ca_file` or `tls` connections are TLS 1.2 or later with the host name checked; `certificate_file` and
    `key_file` (PEM) are the client's own. `sasl_token`, for OAUTHBEARER (RFC 7628), gives a token that is good now,
    and is called from a client's thread for each new connection.
    """

    bootstrap: tuple[str, ...]
    tls: bool = False
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    key_password: str | None = field(default=None, repr=False)
    sasl_mechanism: SaslMechanism | None = None
    sasl_user: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    sasl_token: Callable[[], str] | None = field(default=None, repr=False)

    @property
    def encrypted(self) -> bool:
        """Whether connections use TLS."""
        return self.tls or self.ca_file is not None

    def consumer(self, **settings: object) -> Any:
        """A consumer that never commits by itself, never creates a topic and never skips to another offset."""
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
            made.append(telling_client(**config))
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
            "sasl_oauth_token_provider": None if self.sasl_token is None else _TokenOf(self.sasl_token),
        }

    def _tls_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate_file is not None:
            context.load_cert_chain(self.certificate_file, self.key_file, self.key_password)
        return context


class _TokenOf(AbstractTokenProvider):  # type: ignore[misc] # kafka-python has no types
    """The shape in which kafka-python asks for a bearer token."""

    def __init__(self, token: Callable[[], str]) -> None:
        super().__init__()
        self._token = token

    def token(self) -> str:
        """A token that is good now."""
        return self._token()
