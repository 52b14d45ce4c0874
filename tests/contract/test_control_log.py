"""The contract of the control log and of the fence at the ledger, which every backend keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from broker.core.control.encoding import LARGEST_BYTES
from broker.core.ledger.leaf import encode
from broker.errors import LedgerFenced, StorageUnavailable
from broker.model.control import Beat, ControlEvent, Heard
from broker.model.ledger import EncodedEntry, LedgerEntry, ReadPoint
from broker.ports.control import ControlLog
from tests.contract.backend import Backend
from tests.contract.samples import START_MS

PATIENCE_S = 60.0


class Ear:
    """Hears a log, and waits for what comes."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.lost = 0
        self._news = asyncio.Event()

    def hear(self, entries: Sequence[Heard]) -> None:
        self.heard.extend(entries)
        self._news.set()

    def lose(self) -> None:
        self.lost += 1

    async def until(self, count: int) -> list[Heard]:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.heard) < count:
                self._news.clear()
                await self._news.wait()
        return self.heard

    @property
    def events(self) -> list[ControlEvent]:
        return [each.content for each in self.heard if isinstance(each.content, ControlEvent)]

    @property
    def beats(self) -> list[Beat]:
        return [each.content for each in self.heard if isinstance(each.content, Beat)]


@pytest.fixture
async def log(backend: Backend) -> AsyncIterator[ControlLog]:
    opened = await backend.open_control_log()
    yield opened
    await opened.close()


async def follow(log: ControlLog) -> Ear:
    ear = Ear()
    await log.follow(ear.hear, ear.lose)
    return ear


def event(number: int, filler: str = "") -> ControlEvent:
    return ControlEvent("preparing", START_MS + number, "broker", {"number": number, "filler": filler})


def beat(number: int, instance: str = "broker") -> Beat:
    return Beat(instance, f"{instance}-run", number, 7 * number)


async def test_what_is_stored_is_handed_over_before_follow_returns(backend: Backend) -> None:
    log = await backend.open_control_log()
    positions = [await log.append(event(number)) for number in range(5)]
    await log.beat(beat(1))
    await log.close()
    log = await backend.open_control_log()
    ear = await follow(log)
    assert ear.events == [event(number) for number in range(5)]
    assert ear.beats == [beat(1)]
    assert [each.position for each in ear.heard[:5]] == positions == sorted(set(positions))
    await log.close()
    await log.close()
    assert ear.lost == 0


async def test_what_comes_is_heard_in_order_with_its_own_position(log: ControlLog) -> None:
    ear = await follow(log)
    assert ear.heard == []
    positions = await asyncio.gather(*(log.append(event(number)) for number in range(50)))
    heard = await ear.until(50)
    assert [each.position for each in heard] == sorted(positions)
    by_position = dict(zip(positions, range(50), strict=True))
    assert [each.content for each in heard] == [event(by_position[each.position]) for each in heard]
    await log.beat(beat(1))
    await log.append(event(51))
    await ear.until(52)
    assert [type(each.content) for each in ear.heard[50:]] == [Beat, ControlEvent]
    assert ear.lost == 0


async def test_of_beats_at_least_the_newest_is_kept_and_of_events_all(backend: Backend) -> None:
    log = await backend.open_control_log()
    for number in range(20):
        await log.beat(beat(number))
        await log.beat(beat(number, "second"))
        await log.append(event(number))
    await log.close()
    log = await backend.open_control_log()
    ear = await follow(log)
    assert ear.events == [event(number) for number in range(20)]
    for instance in ("broker", "second"):
        assert [each for each in ear.beats if each.instance == instance][-1] == beat(19, instance)
    positions = [each.position for each in ear.heard]
    assert positions == sorted(set(positions))
    await log.close()


async def test_positions_go_on_after_another_start(backend: Backend) -> None:
    positions = []
    for number in range(3):
        log = await backend.open_control_log()
        await log.beat(beat(number))
        positions.append(await log.append(event(number)))
        await log.close()
    assert positions == sorted(set(positions))


async def test_an_event_as_large_as_allowed_comes_back_and_a_larger_one_is_refused(log: ControlLog) -> None:
    ear = await follow(log)
    largest = event(1, "x" * (LARGEST_BYTES - 300))
    await log.append(largest)
    await ear.until(1)
    assert ear.events == [largest]
    with pytest.raises(ValueError, match="larger"):
        await log.append(event(2, "x" * LARGEST_BYTES))
    await log.append(event(3))
    await ear.until(2)
    assert ear.events == [largest, event(3)]


class OtherKeys:
    """Those of somebody who can write to the store, and has not the exchange's."""

    def current(self, use: str) -> tuple[int, bytes]:
        return 0, b"other".ljust(32, use[:1].encode())

    def by_id(self, use: str, key_id: int) -> bytes | None:
        return self.current(use)[1]


@pytest.mark.parametrize("forged", ["event", "beat"])
async def test_what_another_key_sealed_is_not_believed_and_nothing_after_it(
    backend: Backend, forged: str
) -> None:
    own = await backend.open_control_log()
    await own.append(event(1))
    await own.close()
    other = await backend.open_control_log(OtherKeys())
    await (other.append(event(2)) if forged == "event" else other.beat(beat(9)))
    await other.close()
    own = await backend.open_control_log()
    ear, refused = Ear(), False
    try:
        await own.append(event(3))
        await own.follow(ear.hear, ear.lose)
    except StorageUnavailable:
        refused = True
    assert refused or ear.lost == 1
    assert [each.content for each in ear.heard] in ([], [event(1)])
    await own.close()


async def test_nothing_is_written_once_it_is_closed(backend: Backend) -> None:
    log = await backend.open_control_log()
    await log.close()
    with pytest.raises(StorageUnavailable):
        await log.append(event(1))
    with pytest.raises(StorageUnavailable):
        await log.beat(beat(1))


def stored(epoch: int, index: int, instance: str) -> list[EncodedEntry]:
    return [encode(LedgerEntry("publish", START_MS, {"call": index}), instance, epoch, index, b"s" * 32)]


async def test_a_fence_ends_one_writer_and_neither_others_nor_its_next_start(backend: Backend) -> None:
    fencer, fenced, again = await backend.open_ledger_logs("one", "two", "two")
    try:
        mine, theirs = await fencer.claim(), await fenced.claim()
        await fenced.append(stored(theirs, 0, "two"))
        await fencer.fence("two", theirs)
        with pytest.raises(LedgerFenced):
            await fenced.append(stored(theirs, 1, "two"))
        await fencer.append(stored(mine, 0, "one"))
        newer = await again.claim()
        assert newer > theirs
        await fencer.fence("two", theirs)
        await again.append(stored(newer, 1, "two"))
        found = [each async for page in fencer.read("two", ReadPoint()) for each in page.entries]
        assert found == stored(theirs, 0, "two") + stored(newer, 1, "two")
        await fencer.fence("nobody", 1)
        assert list(await fencer.instances()) == ["one", "two"]
    finally:
        for each in (fencer, fenced, again):
            await each.close()
