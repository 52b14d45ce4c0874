"""The contract of the Witness port, for each adapter: one history is kept, and every other is told apart."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.adapters.kafka.admin import ClusterAdmin
from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.witness.file import FileWitness
from broker.adapters.witness.kafka import KafkaWitness
from broker.core.checkpoint.cosignature import cosignature_time_s
from broker.core.checkpoint.note import NoteSignature, SignedNote, VerifierKey
from broker.ports.witness import Witness, WitnessConflict, WitnessFork
from tests.fakes.clock import TurnedClock
from tests.fakes.witnessed_log import WitnessedLog
from tests.services.witness import served

LOG = WitnessedLog().grow(40)
SECOND = WitnessedLog("exchange-1/broker-2").grow(40, "second")


@dataclass(frozen=True, slots=True)
class Kept:
    """One witness's memory, which may be opened again and again. key: of its cosignatures, if it makes any."""

    open: Callable[[], Awaitable[Witness]]
    tells_latest: bool
    key: VerifierKey | None


@asynccontextmanager
async def _file(request: pytest.FixtureRequest) -> AsyncIterator[Kept]:
    path: Path = request.getfixturevalue("tmp_path") / "checkpoints.jsonl"
    await asyncio.to_thread(path.touch)

    async def open_it() -> Witness:
        return FileWitness("w1", path, TurnedClock())

    yield Kept(open_it, tells_latest=True, key=None)


@asynccontextmanager
async def _kafka(request: pytest.FixtureRequest) -> AsyncIterator[Kept]:
    bootstrap: str = request.getfixturevalue("kafka_bootstrap")
    connection = KafkaConnection(bootstrap=(bootstrap,), prefix=f"w{uuid.uuid4().hex[:12]}", replication=1)
    topic = connection.topic("checkpoints")
    admin = ClusterAdmin(connection)
    await admin.ensure_topic(topic, 1, {})

    async def open_it() -> Witness:
        return KafkaWitness("w1", connection, topic, TurnedClock(), timeout_s=30.0)

    yield Kept(open_it, tells_latest=True, key=None)
    await admin.call(lambda client: client.delete_topics([topic]))
    await admin.close()


@asynccontextmanager
async def _http(request: pytest.FixtureRequest) -> AsyncIterator[Kept]:
    directory: Path = request.getfixturevalue("tmp_path") / "w1"
    async with served(directory, [LOG, SECOND]) as service:

        async def open_it() -> Witness:
            return service.client()

        yield Kept(open_it, tells_latest=False, key=service.key)


@pytest.fixture(params=["file", pytest.param("kafka", marks=pytest.mark.kafka), "http"])
async def kept(request: pytest.FixtureRequest) -> AsyncIterator[Kept]:
    """Each kind of witness, fresh."""
    kinds = {"file": _file, "kafka": _kafka, "http": _http}
    async with kinds[request.param](request) as made:
        yield made


@pytest.fixture
async def opened(kept: Kept) -> AsyncIterator[Callable[[], Awaitable[Witness]]]:
    """Opens the witness anew; all that were opened are closed after the test."""
    async with AsyncExitStack() as stack:

        async def open_it() -> Witness:
            witness = await kept.open()
            stack.push_async_callback(witness.close)
            return witness

        yield open_it


@pytest.fixture
async def witness(opened: Callable[[], Awaitable[Witness]]) -> Witness:
    return await opened()


async def held(witness: Witness, log: WitnessedLog, kept: Kept) -> int:
    """The held size, after comparing what `latest` says with it."""
    size = await witness.held_size(log.origin, log.checkpoint(0))
    latest = await witness.latest(log.origin)
    assert latest == (log.checkpoint(size) if size and kept.tells_latest else None)
    return size


def check_line(kept: Kept, note: bytes, line: bytes | None) -> None:
    """A cosignature of this checkpoint, or none from a witness that makes none."""
    if kept.key is None:
        assert line is None
        return
    assert line is not None
    assert line.endswith(b"\n")
    signature = NoteSignature.parse(line.decode()[:-1])
    assert cosignature_time_s(SignedNote(SignedNote.parse(note).text, (signature,)), kept.key) is not None


async def test_what_was_never_offered_is_not_held(witness: Witness) -> None:
    assert await witness.latest(LOG.origin) is None
    assert await witness.held_size(LOG.origin, LOG.checkpoint(0)) == 0


async def test_a_history_that_grows_is_kept(
    witness: Witness, opened: Callable[[], Awaitable[Witness]], kept: Kept
) -> None:
    old = 0
    for new in (1, 2, 7, 8, 40):
        check_line(kept, LOG.checkpoint(new), await witness.offer(LOG.update(old, new)))
        assert await held(witness, LOG, kept) == new
        old = new
    assert await held(await opened(), LOG, kept) == 40


async def test_the_same_again_changes_nothing(
    witness: Witness, opened: Callable[[], Awaitable[Witness]], kept: Kept
) -> None:
    await witness.offer(LOG.update(0, 12))
    again = await opened()
    for each in (witness, again, witness):
        check_line(kept, LOG.checkpoint(12), await each.offer(LOG.update(12, 12)))
        assert await held(each, LOG, kept) == 12


async def test_another_size_than_the_held_one_is_a_conflict(
    witness: Witness, opened: Callable[[], Awaitable[Witness]], kept: Kept
) -> None:
    await witness.offer(LOG.update(0, 12))
    again = await opened()
    for old, new in ((0, 5), (5, 5), (5, 12), (5, 40), (0, 40), (13, 40)):
        for each in (witness, again):
            with pytest.raises(WitnessConflict) as conflict:
                await each.offer(LOG.update(old, new))
            assert conflict.value.held_size == 12
    assert await held(again, LOG, kept) == 12


@pytest.mark.parametrize("count", [3, 10])
async def test_another_history_is_told_apart(witness: Witness, kept: Kept, count: int) -> None:
    """Of the same size as the one that is held, and of a later one."""
    await witness.offer(LOG.update(0, 12))
    other = LOG.fork(9).grow(count, "other")
    with pytest.raises(WitnessFork, match="w1"):
        await witness.offer(other.update(12))
    assert await held(witness, LOG, kept) == 12
    await witness.offer(LOG.update(12, 40))


async def test_logs_are_kept_apart(
    witness: Witness, opened: Callable[[], Awaitable[Witness]], kept: Kept
) -> None:
    await witness.offer(LOG.update(0, 12))
    await witness.offer(SECOND.update(0, 30))
    await witness.offer(LOG.update(12, 13))
    for each in (witness, await opened()):
        assert await held(each, LOG, kept) == 13
        assert await held(each, SECOND, kept) == 30


async def test_closing_twice_is_closing(kept: Kept) -> None:
    witness = await kept.open()
    await witness.offer(LOG.update(0, 1))
    await witness.close()
    await witness.close()
