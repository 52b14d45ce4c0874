"""The client of the exchange that a connector's tasks share: open while somebody uses it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from connectors.client import Client
from connectors.runtime.model import ConnectorFailed
from connectors.runtime.settings import ConnectorSettings, Secret

_CLOSE_S = 10.0


def make_client(connector: ConnectorSettings) -> Client:
    """A client as configured, not yet open. Raises ConfigurationRefused if the variable of its token is not set."""
    settings = connector.exchange
    token = Secret(env=settings.token_env) if settings.token_env is not None else None
    if token is not None:
        token.read()
    certificate = (
        None if settings.certificate is None or settings.key is None else (settings.certificate, settings.key)
    )
    client = Client(
        settings.endpoint,
        token_file=settings.token_file,
        token_provider=None if token is None else token.read,
        ca_file=settings.ca_file,
        client_certificate=certificate,
        insecure_plaintext=settings.insecure_plaintext,
        retry=connector.retry.policy(),
    )
    if connector.receipts is not None:
        client.keep_receipts(connector.receipts, connector.receipts_bytes)
    return client


class SharedClient:
    """Opened for the first who leases it, closed after the last: so a changed CA or certificate is read in between."""

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._client: Client | None = None
        self._leases = 0
        self._changing = asyncio.Lock()

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Client]:
        """An open client. Raises OSError, ConnectorFailed and ConfigurationRefused, and leaves nothing open then."""
        async with self._changing:
            if self._client is None:
                self._client = await self._opened()
            client = self._client
            self._leases += 1
        try:
            yield client
        finally:
            await self._give_back()

    async def _opened(self) -> Client:
        try:
            return await self._make().__aenter__()
        except ValueError as error:
            raise ConnectorFailed(f"the exchange's settings: {error}", lasting=True) from None

    async def _give_back(self) -> None:
        async with self._changing:
            self._leases -= 1
            if self._leases == 0 and self._client is not None:
                client, self._client = self._client, None
                # What hangs in closing must not keep others from opening; the channel ends with the process then.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_CLOSE_S):
                        await client.__aexit__(None, None, None)
