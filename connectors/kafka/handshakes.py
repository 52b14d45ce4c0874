"""Why a cluster lets nobody in.

kafka-python 3.0.12 tries a refused password or certificate again until its time is up, and then says only that it could not
begin; what it meant for such errors never sees them, since a connection keeps them to itself. And it drops what a node says
right before it closes the connection, which is just such an error. Here a client that has not begun yet ends with the first
of them.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from kafka.errors import KafkaConnectionError, SaslAuthenticationFailedError, UnsupportedSaslMechanismError
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector


class CertificateRefused(KafkaConnectionError):  # type: ignore[misc] # kafka-python has no types
    """The cluster's certificate is none that this client trusts, or of another name."""


_REFUSALS = (SaslAuthenticationFailedError, UnsupportedSaslMechanismError, CertificateRefused)


class TellingManager(KafkaConnectionManager):  # type: ignore[misc] # kafka-python has no types
    """Connections of a client, as the library's own."""

    _refusal: Exception | None = None

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        """As the library's own. Raises the refusal, while nothing has been let in yet."""
        if self._refusal is not None and not self.bootstrapped:
            raise self._refusal
        return super().get_connection(*arguments, **options)

    async def _connect(self, node: Any, conn: Any, **options: Any) -> None:
        conn.init_future.add_errback(self._note)
        await super()._connect(node, conn, **options)

    async def _build_transport(self, *arguments: Any, **options: Any) -> Any:
        try:
            transport = await super()._build_transport(*arguments, **options)
        except KafkaConnectionError as error:
            if isinstance(error.__context__, ssl.SSLCertVerificationError):
                raise CertificateRefused(error.__context__.verify_message) from None
            raise
        transport._sock_recv = partial(_received, transport._sock_recv)
        return transport

    def _note(self, error: Exception) -> None:
        if isinstance(error, _REFUSALS):
            self._refusal = error


def _received(receive: Callable[[], tuple[bytes, Exception | None]]) -> tuple[bytes, Exception | None]:
    """What has come, and the end of the connection only when nothing has: it is met again at the next attempt."""
    data, error = receive()
    return data, None if data else error


def telling_client(**configs: Any) -> KafkaNetClient:
    """A network client whose construction ends as told above; the `kafka_client` of every client."""
    net = NetworkSelector(**configs)
    return KafkaNetClient(net, TellingManager(net, **configs))
