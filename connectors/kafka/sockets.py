"""Sockets that are closed when connecting fails.

kafka-python 3.0.12 leaves the socket of each failed or abandoned attempt to the garbage collector: during an outage, with
attempts every second from every client, file descriptors pile up until it runs. Its registry of ways to connect, meant
for proxies, takes one more: straight to the broker, and closed on failure.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from kafka.net.inet import KafkaNetSocket

DIRECT = "entente-direct://"
"""A client's `proxy_url` for connections that go straight to the broker."""


class _Collected(socket.socket):
    """What the library abandons once it is connected, where a client is closed just then, is closed when it is collected."""

    def __del__(self) -> None:
        self.close()


class ClosingSocket(KafkaNetSocket):  # type: ignore[misc] # kafka-python has no types
    """Connects without a proxy."""

    SCHEMES = ("entente-direct",)

    async def connect(
        self,
        net: Any,
        addrinfo: tuple[Any, ...],
        socket_options: Sequence[tuple[Any, ...]] = (),
        timeout_at: float | None = None,
    ) -> socket.socket:
        """As the library's own, but nothing stays open if it fails or is abandoned."""
        family, kind, protocol, _, address = addrinfo
        opened = _Collected(family, kind, protocol)
        try:
            opened.setblocking(False)
            for option in socket_options:
                opened.setsockopt(*option)
            await self.sock_connect(net, opened, address, timeout_at=timeout_at)
        except BaseException:
            opened.close()
            raise
        return opened
