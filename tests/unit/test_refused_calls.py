"""Refused calls are in the ledger, but a known caller cannot fill it with calls beyond its limits (rules 3 and 8)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn, cast

import pytest

from broker.core.evidence import Evidence
from broker.errors import EntenteError, Reason
from broker.model.principal import Principal
from broker.rpc.call import Call
from broker.rpc.interceptors import LedgerInterceptor
from tests.fakes.clock import TurnedClock
from tests.fakes.delivery import MemoryLedger
from tests.fakes.regimes import in_force

_CALLER = Principal("ems", "p-1", (), (), {}, "token-1", datetime(2030, 1, 1, tzinfo=UTC))


class Aborted(Exception):
    """What ends a call."""


class Context:
    """The part of grpc.aio.ServicerContext that refusals use."""

    def peer(self) -> str:
        return "ipv4:192.0.2.1:50000"

    async def abort(self, *_: object) -> NoReturn:
        raise Aborted


async def refuse(interceptor: LedgerInterceptor, reason: Reason, caller: Principal | None) -> None:
    """One call that ends with the reason."""
    call = Call("entente.v1.Catalog/WhoAmI", cast(Any, Context()), "a-reference", principal=caller)

    async def method(_: Call) -> None:
        raise EntenteError(reason)

    with pytest.raises(Aborted):
        await interceptor(call, method)


def made() -> tuple[MemoryLedger, LedgerInterceptor]:
    ledger = MemoryLedger()
    return ledger, LedgerInterceptor(Evidence(ledger, TurnedClock(), in_force()))


def part(ledger: MemoryLedger, name: str) -> dict[str, Any]:
    """One part of the first entry."""
    return cast(dict[str, Any], ledger.entries[0].body[name])


def kinds(ledger: MemoryLedger) -> Sequence[str]:
    return [entry.kind for entry in ledger.entries]


async def test_a_refused_call_of_a_known_caller_has_an_entry() -> None:
    ledger, interceptor = made()
    await refuse(interceptor, Reason.TOPIC_NOT_FOUND, _CALLER)
    assert kinds(ledger) == ["call_refused"]
    assert part(ledger, "call")["reason"] == "TOPIC_NOT_FOUND"
    assert ledger.entries[0].body["decisions"] == []


@pytest.mark.parametrize("reason", [Reason.LIMIT_EXCEEDED, Reason.SUSPENDED])
async def test_calls_beyond_the_limits_are_counted_not_listed(reason: Reason) -> None:
    """Nor are those of who is suspended, which are refused before any limit."""
    ledger, interceptor = made()
    for _ in range(1_000):
        await refuse(interceptor, reason, _CALLER)
    assert kinds(ledger) == []
    await interceptor.flush()
    assert kinds(ledger) == ["refused_aggregate"]
    assert part(ledger, "refused") == {"agency": "ems", "reason": reason.name, "count": 1_000}
