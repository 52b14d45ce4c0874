"""A real Kafka node that asks for TLS and SASL, of every mechanism that connectors can use."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kafka.admin import KafkaAdminClient, ScramMechanism, UserScramCredentialUpsertion

from deploy.kafka.node import KafkaNode
from tests.services.certificates import make_certificate, pem, server_pem
from tests.services.kafka import QUICK_JAVA, TEST_SETTINGS
from tests.services.ports import free_port

PASSWORD = "correct horse"
_MODULES = {
    "plain": "plain.PlainLoginModule",
    "scram-sha-256": "scram.ScramLoginModule",
    "scram-sha-512": "scram.ScramLoginModule",
    "oauthbearer": "oauthbearer.OAuthBearerLoginModule",
}


@dataclass(frozen=True)
class SecureNode:
    """A running node. `node.bootstrap` is its plaintext listener, for the test itself; `address` asks for TLS and SASL."""

    node: KafkaNode
    secure_port: int
    ca_file: Path
    other_ca_file: Path

    @property
    def address(self) -> str:
        """Of the listener with TLS and SASL."""
        return f"127.0.0.1:{self.secure_port}"


@contextmanager
def secure_node(directory: Path, users: Sequence[str]) -> Iterator[SecureNode]:
    """A node on which the first user may do everything, all with PASSWORD. Raises KafkaUnavailable.

    SASL/PLAIN knows all users; `add_scram_user` adds one for SCRAM, and OAUTHBEARER takes whom an `unsecured_token` names.
    """
    ca, other_ca = make_certificate("exchange CA", None), make_certificate("exchange CA", None)
    (directory / "server.pem").write_bytes(server_pem("kafka", ca))
    (directory / "ca.pem").write_bytes(pem(ca[0]))
    (directory / "other.pem").write_bytes(pem(other_ca[0]))
    port, controller, secure_port = free_port(), free_port(), free_port()
    client, own = f"CLIENT://127.0.0.1:{port}", f"SECURE://127.0.0.1:{secure_port}"
    settings = {
        **TEST_SETTINGS,
        **_sasl(users),
        "listeners": f"{client},{own},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"{client},{own}",
        "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:{users[0]};User:ANONYMOUS",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(directory / "server.pem"),
    }
    node = KafkaNode(
        directory / "kafka", port=port, controller_port=controller, settings=settings, java_options=QUICK_JAVA
    )
    try:
        node.start()
        yield SecureNode(node, secure_port, directory / "ca.pem", directory / "other.pem")
    finally:
        node.stop()


def _sasl(users: Sequence[str]) -> dict[str, str]:
    settings = {
        f"listener.name.secure.{mechanism}.sasl.jaas.config": f"org.apache.kafka.common.security.{module} required;"
        for mechanism, module in _MODULES.items()
    }
    plain = "listener.name.secure.plain.sasl.jaas.config"
    known = " ".join(f'user_{user}="{PASSWORD}"' for user in users)
    settings[plain] = f"{settings[plain].removesuffix(';')} {known};"
    return settings | {"sasl.enabled.mechanisms": ",".join(name.upper() for name in _MODULES)}


def add_scram_user(secure: SecureNode, user: str) -> None:
    """Let a user in by SCRAM, with PASSWORD."""
    admin = KafkaAdminClient(bootstrap_servers=[secure.node.bootstrap])
    try:
        # One request each: a user may not be altered twice in one.
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            wanted = UserScramCredentialUpsertion(user, mechanism, PASSWORD, iterations=4_096)
            admin.alter_user_scram_credentials([wanted])
    finally:
        admin.close()


def unsecured_token(user: str, *, ttl_s: int = 600) -> str:
    """A JWT without a signature (RFC 7519 §6), as Kafka takes it unless it is told whose to check."""
    now_s = int(time.time())
    claims = {"sub": user, "iat": now_s, "exp": now_s + ttl_s}
    return ".".join((_base64url({"alg": "none"}), _base64url(claims), ""))


def _base64url(document: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()
