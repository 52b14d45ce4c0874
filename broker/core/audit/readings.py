"""What begins every reading of the ledger through the broker: whose eyes, an entry that tells of it, an index up to date."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson

from broker.core.audit.access import AuditAccess
from broker.core.audit.fresh import FreshIndex, reading
from broker.core.audit.view import Scope
from broker.core.evidence import Evidence, who
from broker.errors import EntenteError, Reason
from broker.model.ledger import JsonValue
from broker.model.principal import Principal
from broker.ports.audit_index import AuditIndex
from broker.ports.ledger_log import LedgerReader

QUESTION_BYTES = 16 << 10
"""The most that a question may take, since it goes into the ledger."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading: whose eyes, and what is read."""

    scope: Scope
    reader: LedgerReader
    index: AuditIndex


class Readings:
    """Begins readings; every method raises what `AuditAccess`, `Evidence` and `FreshIndex` raise."""

    def __init__(self, access: AuditAccess, ledger: FreshIndex, evidence: Evidence) -> None:
        self._access = access
        self._ledger = ledger
        self._evidence = evidence

    async def scope(self, principal: Principal) -> Scope:
        """Whose eyes the principal has; ask before anything is said about its question."""
        return await self._access.scope(principal)

    @asynccontextmanager
    async def begin(
        self,
        principal: Principal,
        scope: Scope,
        method: str,
        about: Mapping[str, JsonValue],
        *,
        page_token: str = "",
    ) -> AsyncIterator[Reading]:
        """A reading; `about`: the question, for the ledger. What fails inside is translated as well.

        Nothing of it is shown if the principal's eyes are others by the end: EntenteError POLICY_UNAVAILABLE, ask again.
        page_token: a further page is of what was there when the first one was read, or later.
        """
        await self.account(principal, method, about)
        async with self.unrestricted(now=not page_token) as (reader, index):
            yield Reading(scope, reader, index)
        if await self._access.scope(principal) != scope:
            raise EntenteError(Reason.POLICY_UNAVAILABLE)

    @asynccontextmanager
    async def unrestricted(self, *, now: bool = True) -> AsyncIterator[tuple[LedgerReader, AuditIndex]]:
        """For use cases that show a caller nothing but what is its own."""
        reader, index = await self._ledger.updated(now=now)
        with reading():
            yield reader, index

    async def require_records(self, principal: Principal) -> None:
        """The principal may replay record topics."""
        await self._access.require_records(principal)

    async def account(self, principal: Principal, method: str, about: Mapping[str, JsonValue]) -> None:
        """Evidence first, here too: who reads what is in the ledger before anything is answered.

        Raises EntenteError REQUEST_INVALID for a question that is too long.
        """
        if len(orjson.dumps(dict(about))) > QUESTION_BYTES:
            raise EntenteError(Reason.REQUEST_INVALID, f"the question has more than {QUESTION_BYTES} bytes")
        query: JsonValue = {"method": method, "about": dict(about)}
        await self._evidence.write("ledger_read", {"who": who(principal), "query": query})
