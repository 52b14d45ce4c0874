"""Checkpoints as the ledger grows: when they are made, what they are signed with, who holds them, and what goes wrong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from broker.core.checkpoint.checkpoint import Checkpoint, open_checkpoint
from broker.core.checkpoint.note import SignedNote, VerifierKey
from broker.core.ledger.checkpointer import Checkpointer, CheckpointSettings
from broker.core.ledger.signing import CheckpointSigner, LedgerKeys, key_name, origin_of
from broker.core.ledger.writer import LedgerWriter
from broker.errors import EntenteError, LedgerRefused, Reason
from broker.model.ledger import JsonValue, LedgerEntry, StoredCheckpoint
from broker.ports.witness import WitnessUnavailable
from tests.fakes.clock import TurnedClock
from tests.fakes.ledger_log import EXCHANGE, MemoryLedgerLog, MemoryStore, TestKeys, rebuilt_of
from tests.unit.test_witness_push import ScriptedWitness

OFTEN = CheckpointSettings(interval_s=0.005)
NEVER = CheckpointSettings(interval_s=3_600, entries=1_000_000)
DAY_MS = 86_400_000


@dataclass
class Opened:
    """A ledger with its checkpointer, as the server opens it."""

    log: MemoryLedgerLog
    writer: LedgerWriter
    checkpointer: Checkpointer
    signer: CheckpointSigner
    clock: TurnedClock
    recorded: list[tuple[str, Mapping[str, JsonValue]]] = field(default_factory=list)
    refusing: bool = False

    @property
    def stored(self) -> list[StoredCheckpoint]:
        return self.log.store.stored.get("broker", [])

    @property
    def sizes(self) -> list[int]:
        return [read(each.note).size for each in self.stored]

    async def write(self, count: int = 1) -> None:
        await self.writer.append([LedgerEntry("publish", n, {"call": n}) for n in range(count)])

    async def record(self, kind: str, body: Mapping[str, JsonValue]) -> None:
        if self.refusing:
            raise EntenteError(Reason.LEDGER_UNAVAILABLE)
        await self.writer.append([LedgerEntry(kind, 0, body)])
        self.recorded.append((kind, body))


@asynccontextmanager
async def opened(
    store: MemoryStore | None = None,
    *witnesses: ScriptedWitness,
    settings: CheckpointSettings = OFTEN,
    keys: TestKeys | None = None,
    start: bool = True,
) -> AsyncIterator[Opened]:
    log, clock, keys = MemoryLedgerLog(store), TurnedClock(), keys or TestKeys()
    epoch = await log.claim()
    rebuilt = await rebuilt_of(log, keys=keys, retention=settings.retention_ms is not None)
    writer = LedgerWriter(log, "broker", epoch, rebuilt.tree)
    signer = CheckpointSigner(origin_of(EXCHANGE, "broker"), LedgerKeys(keys, EXCHANGE), rebuilt)
    checkpointer = Checkpointer(
        log, writer, rebuilt, signer=signer, witnesses=witnesses, clock=clock, settings=settings
    )
    ledger = Opened(log, writer, checkpointer, signer, clock)
    try:
        await checkpointer.begin()
        if start:
            checkpointer.start(ledger.record)
        yield ledger
    finally:
        await checkpointer.close()
        await writer.close()


def read(note: bytes) -> Checkpoint:
    return Checkpoint.parse(SignedNote.parse(note).text)


def signed_by(note: bytes, *key_ids: int) -> list[int]:
    """Which of these keys signed it."""
    public = {n: LedgerKeys(TestKeys(n), EXCHANGE).current for n in key_ids}
    _, signed = open_checkpoint(note, list(public.values()))
    origin = origin_of(EXCHANGE, "broker")
    return [n for n, key in public.items() if signed.is_signed_by(key.named(origin))]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - other tasks bring it about
            await asyncio.sleep(0.001)


async def test_there_is_a_checkpoint_from_the_start_and_one_of_nothing_is_not_stored() -> None:
    async with opened() as ledger:
        assert read(ledger.checkpointer.latest_checkpoint).size == 0
        assert ledger.stored == []


async def test_each_interval_in_which_the_ledger_grew_has_one_checkpoint() -> None:
    async with opened() as ledger:
        for count in (3, 1, 5):
            await ledger.write(count)
            await until(lambda: bool(ledger.sizes) and ledger.sizes[-1] == ledger.writer.size)
            await until(lambda: read(ledger.checkpointer.latest_checkpoint).size == ledger.writer.size)
        assert ledger.sizes[-1] == 9
        assert ledger.sizes == sorted(set(ledger.sizes))
        newest = ledger.stored[-1]
        tree = ledger.writer.tree
        assert read(newest.note).root == tree.root()
        assert newest.frontier == tree.frontier
        assert signed_by(newest.note, 0, 1) == [0]


async def test_so_many_entries_make_one_due_at_once() -> None:
    async with opened(settings=CheckpointSettings(interval_s=3_600, entries=10)) as ledger:
        await ledger.write(9)
        for _ in range(20):
            await asyncio.sleep(0)
        assert ledger.sizes == []
        await ledger.write(1)
        await until(lambda: ledger.sizes == [10])


async def test_the_last_checkpoint_covers_the_last_entry_and_a_start_makes_none_again() -> None:
    store = MemoryStore()
    async with opened(store, settings=NEVER) as ledger:
        await ledger.write(4)
    assert [read(each.note).size for each in store.stored["broker"]] == [4]
    async with opened(store, settings=NEVER) as ledger:
        assert ledger.checkpointer.latest_checkpoint == store.stored["broker"][0].note
    assert len(store.stored["broker"]) == 1


async def test_entries_after_the_last_checkpoint_of_a_killed_broker_are_covered_at_the_next_start() -> None:
    store = MemoryStore()
    async with opened(store, start=False) as ledger:
        await ledger.write(4)
    assert store.stored == {}
    async with opened(store, start=False) as ledger:
        assert ledger.sizes == [4]


async def test_what_cannot_be_stored_is_not_shown_is_told_once_and_is_covered_by_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="broker.core.ledger.checkpointer")
    async with opened() as ledger:
        ledger.log.broken = True
        for refusals in range(1, 6):
            await ledger.write()
            await until(lambda refusals=refusals: ledger.log.refusals >= refusals)  # type: ignore[misc]
        assert read(ledger.checkpointer.latest_checkpoint).size == 0
        assert ledger.sizes == []
        assert ledger.writer.size == 5
        ledger.log.broken = False
        await until(lambda: read(ledger.checkpointer.latest_checkpoint).size == 5)
        assert ledger.sizes == [5]
    told = [each.message for each in caplog.records]
    assert told == [
        "the ledger's checkpoints cannot be stored now: scripted",
        "the ledger's checkpoints are stored again",
    ]


async def test_cosignatures_are_shown_and_stored() -> None:
    witness = ScriptedWitness(line="— w1 AAAAAAEC\n".encode())
    store = MemoryStore()
    async with opened(store, witness) as ledger:
        await ledger.write(3)
        await until(lambda: read(ledger.checkpointer.latest_checkpoint).size == 3)
        await until(lambda: b"w1 AAAAAAEC" in ledger.checkpointer.latest_checkpoint)
        assert signed_by(ledger.checkpointer.latest_checkpoint, 0) == [0]
    merged = [each for each in store.stored["broker"] if b"w1 AAAAAAEC" in each.note]
    assert read(merged[-1].note).size == 3
    # They are part of what the next start reads, and do not disturb it.
    assert (await rebuilt_of(MemoryLedgerLog(store))).newest_size == 3
    assert witness.closed


async def test_a_witness_that_does_not_answer_holds_nothing_up() -> None:
    quick, slow = ScriptedWitness("quick"), ScriptedWitness("slow")
    slow_line = "— slow AAAAAAEC\n".encode()
    async with opened(None, quick, slow) as ledger:
        slow.open.clear()
        for size in (1, 2, 3):
            await ledger.write()
            await until(lambda size=size: quick.size == size)  # type: ignore[misc]
            await until(lambda size=size: read(ledger.checkpointer.latest_checkpoint).size == size)  # type: ignore[misc]
        assert slow.size == 0
        assert slow_line not in ledger.checkpointer.latest_checkpoint
        slow.open.set()
        await until(lambda: slow.size == 3)


async def test_a_witness_that_is_away_at_the_start_is_told_of_and_catches_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemoryStore()
    witness = ScriptedWitness()
    async with opened(store, witness) as ledger:
        await ledger.write(5)
        await until(lambda: witness.size == 5)
    async with opened(store, start=False) as ledger:
        await ledger.write(40)
    witness.failures = [WitnessUnavailable("w1: away")]
    async with opened(store, witness) as ledger:
        assert any("w1: away" in each.message for each in caplog.records)
        await ledger.write(1)
        # From size 5 on, far before what this run has seen: its proof is read from the log.
        await until(lambda: witness.size == 46)
    assert witness.offered[-1].old_size in (5, 45)


@pytest.mark.parametrize("kept", [3, 0])
async def test_a_ledger_that_went_back_behind_its_witness_is_refused(kept: int) -> None:
    store, witness = MemoryStore(), ScriptedWitness()
    async with opened(store, witness) as ledger:
        await ledger.write(5)
        await until(lambda: witness.size == 5)
    # An older copy of the whole store: consistent in itself.
    store.records["broker"] = [1, *store.entries()[:kept]]
    store.stored["broker"] = []
    with pytest.raises(LedgerRefused, match=r"instance broker: w1: holds a checkpoint of .* size 5"):
        async with opened(store, witness):
            pass


async def test_a_ledger_that_was_written_anew_behind_its_witness_is_refused() -> None:
    store, witness = MemoryStore(), ScriptedWitness()
    async with opened(store, witness) as ledger:
        await ledger.write(5)
        await until(lambda: witness.size == 5)
    async with opened(start=False) as other:
        await other.write(7)
    with pytest.raises(LedgerRefused, match="instance broker: w1: "):
        async with opened(other.log.store, witness):
            pass


async def test_a_new_key_is_announced_and_the_checkpoint_over_that_has_both_signatures() -> None:
    store = MemoryStore()
    async with opened(store, settings=NEVER, keys=TestKeys(0)) as ledger:
        assert ledger.signer.change is None
        await ledger.record("configuration", start_of(0))
    async with opened(store, settings=NEVER, keys=TestKeys(0, 1), start=False) as ledger:
        change = ledger.signer.change
        assert change == {
            "use": "ledger",
            "from": {"id": 0, "key": text_of(0)},
            "to": {"id": 1, "key": text_of(1)},
        }
        await ledger.record("key_rotated", {"change": change})
        ledger.signer.change_written(ledger.writer.size)
        assert ledger.signer.change is None
        ledger.checkpointer.start(ledger.record)
        await until(lambda: ledger.sizes[-1] == 2)
        await ledger.record("configuration", start_of(1))
    notes = [each.note for each in store.stored["broker"]]
    assert [(read(note).size, signed_by(note, 0, 1)) for note in notes] == [(1, [0]), (2, [0, 1]), (3, [1])]
    async with opened(store, keys=TestKeys(0, 1)) as ledger:
        assert ledger.signer.change is None


async def test_a_change_that_a_killed_broker_announced_is_signed_with_both_keys_at_the_next_start() -> None:
    store = MemoryStore()
    async with opened(store, settings=NEVER, keys=TestKeys(0)) as ledger:
        await ledger.record("configuration", start_of(0))
    async with opened(store, keys=TestKeys(0, 1), start=False) as ledger:
        await ledger.record("key_rotated", {"change": ledger.signer.change})
    async with opened(store, settings=NEVER, keys=TestKeys(0, 1)) as ledger:
        assert ledger.signer.change is None
        await ledger.write()
    notes = [each.note for each in store.stored["broker"]]
    assert [(read(note).size, signed_by(note, 0, 1)) for note in notes] == [(1, [0]), (2, [0, 1]), (3, [1])]


async def test_a_step_of_the_clock_is_an_entry_as_soon_as_it_can_be_written() -> None:
    async with opened() as ledger:
        ledger.refusing = True
        ledger.clock.wall_ms += 7_000
        await asyncio.sleep(0.02)
        assert ledger.recorded == []
        ledger.refusing = False
        await until(lambda: bool(ledger.recorded))
        await asyncio.sleep(0.02)
    now = ledger.clock.now_ms()
    assert ledger.recorded == [("clock_step", {"step": {"expected_ms": now - 7_000, "found_ms": now}})]


async def test_retention_is_enforced_each_hour_while_checkpoints_are_stored() -> None:
    async with opened(settings=CheckpointSettings(interval_s=0.005, retention_ms=DAY_MS)) as ledger:
        await until(lambda: len(ledger.log.expired_before) == 1)
        assert ledger.log.expired_before == [ledger.clock.now_ms() - DAY_MS]
        ledger.log.broken = True
        await ledger.write()
        ledger.clock.advance(4_000)
        await asyncio.sleep(0.02)
        assert len(ledger.log.expired_before) == 1
        ledger.log.broken = False
        await until(lambda: len(ledger.log.expired_before) == 2)


async def test_without_retention_nothing_expires() -> None:
    async with opened() as ledger:
        await ledger.write()
        await until(lambda: ledger.sizes == [1])
        assert ledger.log.expired_before == []


@pytest.mark.parametrize(
    ("exchange", "name"),
    [("Cross Agency", "Cross-Agency"), ("a+b", "a-b"), ("tab\tno\u00a0break", "tab-no-break"), ("é", "é")],
)
def test_names_of_exchanges_are_fit_for_notes(exchange: str, name: str) -> None:
    assert key_name(exchange) == name
    key = VerifierKey.ed25519(origin_of(exchange, "broker"), bytes(32))
    assert VerifierKey.parse(key.text()) == key


def start_of(key_id: int) -> dict[str, JsonValue]:
    return {"start": {"ledger_key": text_of(key_id)}}


def text_of(key_id: int) -> str:
    return LedgerKeys(TestKeys(key_id), EXCHANGE).current.text()
