"""The index of a ledger is brought up to date once for all who wait, and never twice at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from broker.core.audit.fresh import FreshIndex
from broker.errors import EntenteError, LedgerRefused, StorageUnavailable
from broker.ports.audit_index import AuditIndex
from broker.ports.ledger_log import LedgerReader


class Ledger:
    """Both sides: what is written, what updates have read, and a gate that holds an update up after it has read."""

    def __init__(self) -> None:
        self.written = 0
        self.indexed = 0
        self.running = 0
        self.updates = 0
        self.opened = 0
        self.closed = 0
        self.failures: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[LedgerReader, AuditIndex]]:
        self.opened += 1
        yield cast(Any, self), cast(Any, self)
        self.closed += 1

    async def update(self, reader: object) -> None:
        assert reader is self
        self.running += 1
        self.updates += 1
        assert self.running == 1, "two updates at a time"
        try:
            if self.failures:
                raise self.failures.pop(0)
            read = self.written
            await self.gate.wait()
            self.indexed = read
        finally:
            self.running -= 1


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_nothing_is_opened_before_it_is_asked_for(ledger: Ledger) -> None:
    fresh = FreshIndex(ledger.open)
    await fresh.close()
    assert (ledger.opened, ledger.closed) == (0, 0)
    await fresh.updated()
    await fresh.updated()
    assert (ledger.opened, ledger.updates) == (1, 2)
    await fresh.close()
    assert ledger.closed == 1


async def test_what_need_not_be_of_now_is_there_at_once(ledger: Ledger) -> None:
    fresh = FreshIndex(ledger.open)
    await fresh.updated(now=False)
    assert ledger.updates == 1  # there was nothing yet
    ledger.gate.clear()
    waiting = asyncio.create_task(fresh.updated())
    await turns()
    await fresh.updated(now=False)
    assert ledger.updates == 2
    ledger.gate.set()
    await waiting


async def test_all_who_wait_share_one_update_that_began_after_they_came(ledger: Ledger) -> None:
    fresh = FreshIndex(ledger.open, pause_s=0)
    ledger.gate.clear()
    first = asyncio.create_task(fresh.updated())
    await turns()
    ledger.written = 7  # which the update under way has not read
    late = [asyncio.create_task(fresh.updated()) for _ in range(10)]
    await turns()
    assert ledger.updates == 1
    ledger.gate.set()
    await first
    await asyncio.gather(*late)
    assert (ledger.updates, ledger.indexed) == (2, 7)


async def test_a_caller_who_gives_up_does_not_stop_the_update(ledger: Ledger) -> None:
    fresh = FreshIndex(ledger.open, pause_s=0)
    ledger.gate.clear()
    gone, stays = asyncio.create_task(fresh.updated()), asyncio.create_task(fresh.updated())
    await turns()
    gone.cancel()
    await turns()
    ledger.gate.set()
    await stays
    assert gone.cancelled()
    assert ledger.updates == 1


async def test_an_update_that_takes_long_goes_on_for_those_who_come_later(ledger: Ledger) -> None:
    fresh = FreshIndex(ledger.open, wait_s=0, pause_s=0)
    ledger.gate.clear()
    with pytest.raises(EntenteError, match="not up to date yet"):
        await fresh.updated()
    ledger.gate.set()
    await turns()
    assert (ledger.updates, ledger.indexed) == (1, 0)
    await fresh.close()


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (StorageUnavailable("no ledger here"), "AUDIT_UNAVAILABLE"),
        (LedgerRefused(("broker entry 3: is another one",)), "LEDGER_INCONSISTENT"),
    ],
)
async def test_what_fails_is_told_and_tried_again(ledger: Ledger, failure: Exception, reason: str) -> None:
    fresh = FreshIndex(ledger.open, pause_s=0)
    ledger.failures.append(failure)
    with pytest.raises(EntenteError) as told:
        await fresh.updated()
    assert told.value.reason.name == reason
    assert "entry 3" not in str(told.value) and "no ledger here" not in str(told.value)
    await fresh.updated()
    assert ledger.updates == 2


async def test_a_ledger_that_cannot_be_opened_is_opened_the_next_time() -> None:
    tried = 0

    @asynccontextmanager
    async def open_ledger() -> AsyncIterator[Any]:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise StorageUnavailable("not now")
        ledger = Ledger()
        yield ledger, ledger

    fresh = FreshIndex(open_ledger)
    with pytest.raises(EntenteError):
        await fresh.updated()
    await fresh.updated()
    assert tried == 2


async def test_closing_ends_an_update_that_is_under_way(ledger: Ledger) -> None:
    fresh = FreshIndex(ledger.open)
    ledger.gate.clear()
    waiting = [asyncio.create_task(fresh.updated()) for _ in range(2)]
    await turns()
    await fresh.close()
    assert (ledger.running, ledger.closed) == (0, 1)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
