"""Messages on open streams are not read faster than an agency may send them (design rule 8)."""

from __future__ import annotations

import asyncio

from broker.rpc.quotas import QuotaLimits, Quotas
from tests.fakes.clock import TurnedClock


async def test_an_agency_that_sends_too_fast_waits_and_another_does_not() -> None:
    clock = TurnedClock()
    quotas = Quotas(QuotaLimits(stream_messages_per_s=100), clock)
    for _ in range(100):
        await quotas.pace("hostile")
    held = asyncio.create_task(quotas.pace("hostile"))
    await quotas.pace("behaved")
    assert not held.done()
    clock.advance(1)
    await asyncio.wait_for(held, 10)
