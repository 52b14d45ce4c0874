"""Identity: from a bearer token to a principal."""

from __future__ import annotations

from typing import Protocol

from broker.model.principal import Principal


class Identity(Protocol):
    """Verifies tokens against the registered issuers of one revision."""

    async def authenticate(self, token: str, certificate_der: bytes | None) -> Principal:
        """The principal; `certificate_der` is the verified client certificate of an mTLS connection, else None.

        Raises EntenteError with a reason of the identity part of the catalogue.
        """

    async def confirm(self, principal: Principal) -> None:
        """Return if this revision too would make this principal of its token, whose times are not looked at.

        For one that was accepted by another revision: its issuer, its key or what it claims may be registered no longer.
        Raises as `authenticate`.
        """
