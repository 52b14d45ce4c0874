"""Handing checkpoints over: each witness by itself, the newest counts, and a ledger that went back is found at start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from broker.core.checkpoint.checkpoint import Checkpoint
from broker.core.checkpoint.note import SignedNote
from broker.core.merkle.proofs import ProofInvalid
from broker.core.witness.judge import RootConflict, judge
from broker.core.witness.push import WitnessPusher
from broker.errors import StorageUnavailable
from broker.ports.witness import WitnessFork, WitnessUnavailable, WitnessUpdate
from tests.fakes.witnessed_log import WitnessedLog

LINE = "— witness.example/w1 AAAAAAEC\n".encode()
GRACE_S = 30.0
"""An upper bound; nothing here waits for so long unless it fails."""


class ScriptedWitness:
    """Judges as every witness does; may be away, slow, or say something else first."""

    def __init__(self, name: str = "w1", line: bytes | None = LINE) -> None:
        self.name = name
        self.held: bytes | None = None
        self.offered: list[WitnessUpdate] = []
        self.asked = 0
        self.failures: list[Exception] = []
        self.open = asyncio.Event()
        self.open.set()
        self.closed = False
        self._line = line

    @property
    def size(self) -> int:
        return 0 if self.held is None else _size(self.held)

    async def held_size(self, origin: str, checkpoint: bytes) -> int:
        self.asked += 1
        self._fail()
        return self.size

    async def latest(self, origin: str) -> bytes | None:
        return self.held

    async def offer(self, update: WitnessUpdate) -> bytes | None:
        self.offered.append(update)
        await self.open.wait()
        self._fail()
        held = None if self.held is None else _read(self.held)
        try:
            judge(held, update.old_size, update.proof, _read(update.note))
        except (RootConflict, ProofInvalid) as error:
            raise WitnessFork(f"{self.name}: {error}") from None
        self.held = update.note
        return self._line

    async def close(self) -> None:
        self.closed = True

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


def _read(note: bytes) -> Checkpoint:
    return Checkpoint.parse(SignedNote.parse(note).text)


def _size(note: bytes) -> int:
    return _read(note).size


class Ledger:
    """The pusher over one log, and what it reported."""

    def __init__(self, log: WitnessedLog, *witnesses: ScriptedWitness) -> None:
        self.log = log
        self.cosigned: list[bytes] = []
        self.proved: list[tuple[int, int]] = []
        self.failures: list[Exception] = []
        self.pusher = WitnessPusher(
            log.origin,
            witnesses,
            prove=self.prove,
            cosigned=self.keep,
            first_pause_s=0.0,
            longest_pause_s=0.0,
        )

    async def prove(self, old_size: int, new_size: int) -> Sequence[bytes]:
        self.proved.append((old_size, new_size))
        if self.failures:
            raise self.failures.pop(0)
        return self.log.proof(old_size, new_size)

    async def keep(self, note: bytes) -> None:
        self.cosigned.append(note)

    async def settle(self) -> None:
        """Wait until every witness has the newest checkpoint; what `close` does first."""
        await self.pusher.close(GRACE_S)


@asynccontextmanager
async def ledger(log: WitnessedLog, *witnesses: ScriptedWitness) -> AsyncIterator[Ledger]:
    opened = Ledger(log, *witnesses)
    yield opened
    await opened.pusher.close(0.0)
    assert all(witness.closed for witness in witnesses)


async def until(holds: Callable[[], object]) -> None:
    """Let the loop turn until a condition holds."""

    async with asyncio.timeout(GRACE_S):
        while not holds():  # noqa: ASYNC110 - the conditions are over plain attributes
            await asyncio.sleep(0)


async def test_each_checkpoint_comes_with_the_proof_from_the_one_before() -> None:
    log, witness = WitnessedLog(), ScriptedWitness()
    async with ledger(log, witness) as opened:
        for count in (3, 1, 4):
            opened.pusher.offer(log.grow(count).checkpoint())
            size = log.size
            await until(lambda size=size: len(opened.cosigned) and _size(opened.cosigned[-1]) == size)
        assert [(update.old_size, _size(update.note)) for update in witness.offered] == [
            (0, 3),
            (3, 4),
            (4, 8),
        ]
        assert opened.proved == [(3, 4), (4, 8)]
        assert opened.cosigned == [log.checkpoint(size) + LINE for size in (3, 4, 8)]
        assert witness.asked == 1


async def test_of_those_that_wait_only_the_newest_is_handed_over() -> None:
    log, witness = WitnessedLog(), ScriptedWitness()
    witness.open.clear()
    async with ledger(log, witness) as opened:
        opened.pusher.offer(log.grow(1).checkpoint())
        await until(lambda: witness.offered)
        for _ in range(5):
            opened.pusher.offer(log.grow(1).checkpoint())
        witness.open.set()
        await opened.settle()
        assert [_size(update.note) for update in witness.offered] == [1, 6]


async def test_a_slow_witness_holds_up_no_other() -> None:
    log, slow, quick = WitnessedLog(), ScriptedWitness("slow"), ScriptedWitness("quick")
    slow.open.clear()
    async with ledger(log, slow, quick) as opened:
        for _ in range(3):
            opened.pusher.offer(log.grow(1).checkpoint())
            size = log.size
            await until(lambda size=size: quick.size == size)
        assert slow.size == 0
        assert [standing.held_size for standing in opened.pusher.standings] == [None, 3]


async def test_a_witness_that_was_away_is_asked_what_it_holds_and_brought_up_to_date() -> None:
    log, witness = WitnessedLog().grow(5), ScriptedWitness()
    witness.held = log.checkpoint(2)
    witness.failures = [WitnessUnavailable("w1: is away"), WitnessUnavailable("w1: is away")]
    async with ledger(log, witness) as opened:
        opened.pusher.offer(log.checkpoint())
        await until(lambda: witness.size == 5)
        assert witness.held == log.checkpoint()
        assert opened.proved == [(2, 5)]
        assert witness.asked == 3
        (standing,) = opened.pusher.standings
        assert (standing.held_size, standing.fault, standing.forked) == (5, None, False)


async def test_a_fault_is_told_while_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    log, witness = WitnessedLog().grow(5), ScriptedWitness()
    witness.failures = [WitnessUnavailable("w1: is away")] * 1000
    async with ledger(log, witness) as opened:
        opened.pusher.offer(log.checkpoint())
        await until(lambda: witness.asked > 20)
        (standing,) = opened.pusher.standings
        assert (standing.held_size, standing.fault, standing.forked) == (None, "w1: is away", False)
    assert caplog.text.count("w1: is away") == 1, "told once, not at each attempt"


async def test_an_answer_that_was_lost_is_no_conflict_for_long() -> None:
    """The witness took the checkpoint, and only its answer was lost."""
    log, witness = WitnessedLog().grow(5), ScriptedWitness()
    async with ledger(log, witness) as opened:
        opened.pusher.offer(log.checkpoint(3))
        await until(lambda: witness.size == 3)
        witness.held = log.checkpoint(4)
        opened.pusher.offer(log.checkpoint(5))
        await until(lambda: witness.size == 5)
        assert witness.size == 5
        assert [update.old_size for update in witness.offered] == [0, 3, 4]


async def test_a_proof_that_cannot_be_made_now_is_made_later() -> None:
    log, witness = WitnessedLog().grow(5), ScriptedWitness()
    witness.held = log.checkpoint(2)
    async with ledger(log, witness) as opened:
        opened.failures = [StorageUnavailable("the store is away"), RuntimeError("a bug")]
        opened.pusher.offer(log.checkpoint())
        await until(lambda: witness.size == 5)
        assert witness.size == 5
        assert opened.proved == [(2, 5)] * 3


async def test_a_witness_without_cosignatures_is_one_too() -> None:
    log, witness = WitnessedLog().grow(5), ScriptedWitness(line=None)
    async with ledger(log, witness) as opened:
        opened.pusher.offer(log.checkpoint())
        await opened.settle()
        assert witness.size == 5
        assert not opened.cosigned


async def test_start_brings_every_witness_up_to_date() -> None:
    log = WitnessedLog().grow(9)
    behind, fresh, level = ScriptedWitness("behind"), ScriptedWitness("fresh"), ScriptedWitness("level")
    behind.held, level.held = log.checkpoint(4), log.checkpoint(9)
    async with ledger(log, behind, fresh, level) as opened:
        assert await opened.pusher.check(log.checkpoint()) == ()
        assert {witness.size for witness in (behind, fresh, level)} == {9}
        assert opened.proved == [(4, 9)]


async def test_an_empty_ledger_starts_with_witnesses_that_hold_nothing() -> None:
    log, witness = WitnessedLog(), ScriptedWitness()
    async with ledger(log, witness) as opened:
        assert await opened.pusher.check(log.checkpoint()) == ()
        opened.pusher.offer(log.grow(2).checkpoint())
        await opened.settle()
        assert witness.size == 2


@pytest.mark.parametrize("size", [0, 4])
async def test_a_ledger_that_was_rolled_back_is_found_at_start(size: int) -> None:
    log, witness, other = WitnessedLog().grow(9), ScriptedWitness(), ScriptedWitness("w2")
    witness.held = log.checkpoint()
    async with ledger(log.fork(size), other, witness) as opened:
        with pytest.raises(WitnessFork, match=f"w1: holds .* of size 9 while the ledger has {size} entries"):
            await opened.pusher.check(log.checkpoint(size))
        assert witness.held == log.checkpoint()


async def test_a_ledger_that_was_rolled_back_and_grew_again_is_found_at_start() -> None:
    log, witness = WitnessedLog().grow(9), ScriptedWitness()
    witness.held = log.checkpoint()
    for count in (3, 5):
        other = log.fork(6).grow(count, "other")
        async with ledger(other, witness) as opened:
            with pytest.raises(WitnessFork):
                await opened.pusher.check(other.checkpoint())
        assert witness.held == log.checkpoint()


async def test_who_could_not_be_asked_at_start_is_named() -> None:
    log, witness, away = WitnessedLog().grow(2), ScriptedWitness(), ScriptedWitness("w2")
    away.failures = [WitnessUnavailable("w2: is away")]
    async with ledger(log, witness, away) as opened:
        assert await opened.pusher.check(log.checkpoint()) == ("w2: is away",)
        assert (witness.size, away.size) == (2, 0)


async def test_a_rollback_of_who_could_not_be_asked_is_found_later(caplog: pytest.LogCaptureFixture) -> None:
    log, witness = WitnessedLog().grow(9), ScriptedWitness()
    witness.held = log.checkpoint()
    witness.failures = [WitnessUnavailable("w1: is away")]
    other = log.fork(6)
    async with ledger(other, witness) as opened:
        assert await opened.pusher.check(other.checkpoint()) == ("w1: is away",)
        opened.pusher.offer(other.grow(1, "other").checkpoint())
        await until(lambda: opened.pusher.standings[0].forked)
        assert "rolled back" in str(opened.pusher.standings[0].fault)
        assert witness.held == log.checkpoint()
    assert any(record.levelname == "ERROR" for record in caplog.records)


async def test_closing_does_not_wait_for_a_witness_that_fails() -> None:
    log, witness = WitnessedLog().grow(1), ScriptedWitness()
    witness.failures = [WitnessUnavailable("w1: is away")] * 1000
    async with ledger(log, witness) as opened:
        opened.pusher.offer(log.checkpoint())
        async with asyncio.timeout(GRACE_S):
            await opened.pusher.close(10 * GRACE_S)
        assert (witness.size, witness.closed) == (0, True)


async def test_closing_waits_only_so_long_for_a_witness() -> None:
    log, witness = WitnessedLog().grow(1), ScriptedWitness()
    witness.open.clear()
    async with ledger(log, witness) as opened:
        opened.pusher.offer(log.checkpoint())
        await until(lambda: witness.offered)
        await opened.pusher.close(0.0)
        assert (witness.size, witness.closed) == (0, True)
