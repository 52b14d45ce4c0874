"""Groups, credit and buffers: exact credit, streams that join, part and merge, and what a class receives in the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.decide import Question
from broker.core.deliver import collect, group
from broker.core.deliver.budget import Budget
from broker.core.deliver.prepare import Prepared
from broker.core.deliver.session import Outgoing, Session
from broker.core.deliver.standing import Standing
from broker.errors import EntenteError, Reason
from broker.model.decision import Decision
from protos.entente.v1.exchange_pb2 import SubscribeResponse
from tests.fakes.delivery import RELEASE, WITHHOLD, World, ids_in, label_of

pytestmark = pytest.mark.usefixtures("quick_groups")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


async def fill(world: World, count: int, **fields: str) -> None:
    """Records "0", "1", … of alpha."""
    for number in range(count):
        await world.store("alpha", str(number), **fields)


def queued(session: Session) -> list[str]:
    """What was handed out and not yet written, taken out."""
    found: list[str] = []
    while session._outbox:
        found.extend(ids_in(session._outbox.popleft()))
    return found


async def test_credit_is_used_to_the_record(world: World) -> None:
    await fill(world, 10)
    session = world.session(records=3)
    assert await world.receive(session, 3) == ["0", "1", "2"]
    await world.idle()
    assert queued(session) == []
    assert session.standing.cursor == (3,)
    world.grant(session, 2)
    assert await world.receive(session, 2) == ["3", "4"]
    await world.idle()
    assert queued(session) == []


async def test_the_last_record_may_exceed_the_bytes(world: World) -> None:
    await fill(world, 10)
    session = world.session(records=10, size_bytes=1)
    assert await world.receive(session, 1) == ["0"]
    await world.idle()
    assert queued(session) == []
    assert session.budget().size_bytes < 0
    world.grant(session, 0, 1 - session.budget().size_bytes)
    assert await world.receive(session, 1) == ["1"]


async def test_without_credit_nothing_is_read_for_a_stream(world: World) -> None:
    await fill(world, 3)
    session = world.session(records=0)
    await world.idle()
    assert (world.log.reads, queued(session)) == (0, [])
    world.grant(session, 5)
    assert await world.receive(session, 3) == ["0", "1", "2"]


async def test_what_is_withheld_uses_no_credit_and_moves_the_cursor(world: World) -> None:
    world.decider.answer = lambda question: WITHHOLD if label_of(question) == "red" else RELEASE
    await fill(world, 5, label="red")
    session = world.session(records=1)
    await world.idle()
    assert session.standing.cursor == (5,)
    assert session.budget().records == 1


async def test_streams_of_a_class_at_one_place_share_decision_entry_and_bytes(world: World) -> None:
    sessions = [world.session(f"p-{n}", records=10) for n in range(5)]
    await fill(world, 1)
    for session in sessions:
        assert await world.receive(session, 1) == ["0"]
    assert len(world.ledger.entries) == 1
    assert world.decider.calls == 1


async def test_one_without_credit_does_not_hold_the_others_up(world: World) -> None:
    poor, rich = world.session("p-1", records=1), world.session("p-2", records=10)
    await fill(world, 4)
    assert await world.receive(rich, 4) == ["0", "1", "2", "3"]
    assert await world.receive(poor, 1) == ["0"]
    world.grant(poor, 10)
    assert await world.receive(poor, 3) == ["1", "2", "3"]


async def test_who_comes_later_meets_the_others_at_the_end(world: World) -> None:
    early = world.session("p-1", records=100)
    await fill(world, 3)
    assert await world.receive(early, 3) == ["0", "1", "2"]
    late = world.session("p-2", records=100)
    assert await world.receive(late, 3) == ["0", "1", "2"]
    await world.idle()
    entries = len(world.ledger.entries)
    await world.store("alpha", "x")
    assert await world.receive(early, 1) == await world.receive(late, 1) == ["x"]
    assert len(world.ledger.entries) == entries + 1


async def test_streams_of_different_classes_never_share(world: World) -> None:
    world.decider.answer = lambda question: WITHHOLD if "guest" in str(question.item["subject"]) else RELEASE
    reader, guest = world.session("p-1", records=9), world.session("p-2", role="guest", records=9)
    await fill(world, 3)
    assert await world.receive(reader, 3) == ["0", "1", "2"]
    await world.idle()
    assert queued(guest) == []
    assert guest.standing.cursor == (3,)


async def test_a_buffer_that_is_full_holds_the_stream_until_it_is_read(world: World) -> None:
    await fill(world, 4)
    session = world.session(records=100, buffer_limit_bytes=1)
    await world.idle()
    (first,) = [outgoing async for outgoing in _taken(session, 1)]
    assert ids_in(first) == ["0"]
    await world.idle()
    assert queued(session) == []
    world.fanout.written(session, first)
    assert await world.receive(session, 3) == ["1", "2", "3"]


async def test_a_stream_that_ends_gives_its_room_to_those_that_wait(world: World) -> None:
    tight = World(buffer_limit_bytes=1)
    await fill(tight, 2)
    stuck = tight.session("p-1", records=100)
    await tight.idle()
    waiting = tight.session("p-2", records=100)
    await tight.idle()
    assert queued(waiting) == []
    tight.fanout.end(stuck)
    assert await tight.receive(waiting, 2) == ["0", "1"]
    await tight.close()


async def test_streams_that_share_a_batch_share_the_common_room(world: World) -> None:
    tight = World(buffer_limit_bytes=4_000)
    await fill(tight, 1_000)
    sessions = [tight.session(f"p-{n}", records=1_000) for n in range(20)]
    await tight.idle()
    assert tight.fanout.buffers.used_bytes < 4_000 + 20 * 100
    for session in sessions:
        session.fail(EntenteError(Reason.INTERNAL))
        tight.fanout.end(session)
    assert tight.fanout.buffers.used_bytes == 0
    await tight.close()


async def test_a_batch_stays_below_what_clients_accept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "BATCH_BYTES", 2_000)
    monkeypatch.setattr(collect, "CHUNK_BYTES", 1_000)
    await fill(world, 200)
    session = world.session(records=1_000)
    found: list[str] = []
    while len(found) < 200:
        outgoing = await session.next()
        assert outgoing is not None
        assert outgoing.size_bytes < 3_100
        found += ids_in(outgoing)
        world.fanout.written(session, outgoing)
    assert found == [str(number) for number in range(200)]


@pytest.mark.parametrize(
    "foreign", [b"\xff\xff", b"", b"\x0a\x01x"], ids=["garbage", "empty", "half an event"]
)
async def test_what_no_exchange_stored_is_withheld_and_stops_nobody(world: World, foreign: bytes) -> None:
    await world.store("alpha", "0")
    await world.log.add(0, foreign, world.clock.now_ms())
    await world.store("alpha", "passing", expirytime="not a time")
    await world.store("nobody/..", "unplaced")
    await world.store("alpha", "1")
    session = world.session(records=5)
    assert await world.receive(session, 2) == ["0", "1"]
    (history,) = cast(list[Any], world.ledger.entries[-1].body["considered"])
    assert history["outcomes"] == {"release": 2, "unregistered": 3}
    assert history["withheld"] == []


async def test_after_the_end_nothing_is_served_whoever_makes_room() -> None:
    tight = World(buffer_limit_bytes=1)
    await fill(tight, 2)
    stuck = tight.session("p-1", records=100)
    await tight.idle()
    waiting = tight.session("p-2", records=100)
    await tight.idle()
    await tight.close()
    reads = tight.log.reads
    tight.fanout.end(stuck)
    tight.grant(waiting, 5)
    late = tight.session("p-3", records=100)
    await tight.idle()
    assert (queued(waiting), queued(late), tight.log.reads) == ([], [], reads)


async def test_retention_that_overtakes_a_stream_ends_it(world: World) -> None:
    await fill(world, 3)
    world.log.start = [2]
    session = world.session(records=5)
    assert await session.next() is None
    assert session.failure is not None
    assert session.failure.reason.name == "POSITION_EXPIRED"


async def test_a_record_that_expires_is_withheld_from_then_on(world: World) -> None:
    expiry = "2027-01-15T08:01:00Z"  # a minute after the clock's beginning
    await world.store("alpha", "passing", expirytime=expiry)
    await world.store("alpha", "lasting")
    early = world.session("p-1", records=5)
    assert await world.receive(early, 2) == ["passing", "lasting"]
    world.clock.advance(60)
    late = world.session("p-2", records=5)
    assert await world.receive(late, 1) == ["lasting"]


async def test_an_agreement_without_history_opens_only_what_comes_after_it(world: World) -> None:
    begin = datetime.fromtimestamp(world.clock.now_ms() / 1000, UTC) + timedelta(seconds=30)
    world.decider.answer = lambda _: replace(RELEASE, not_before=begin)
    await world.store("alpha", "before")
    world.clock.advance(30)
    await world.store("alpha", "after")
    session = world.session(records=5)
    assert await world.receive(session, 1) == ["after"]


async def test_a_decision_that_has_lapsed_releases_nothing(world: World) -> None:
    end = datetime.fromtimestamp(world.clock.now_ms() / 1000, UTC) + timedelta(seconds=30)
    world.decider.answer = lambda _: replace(RELEASE, valid_until=end)
    await world.store("alpha", "0")
    session = world.session(records=5)
    assert await world.receive(session, 1) == ["0"]
    world.clock.advance(30)
    await world.store("alpha", "1")
    await world.idle()
    assert queued(session) == []
    assert session.standing.cursor == (2,)


async def test_an_acknowledgement_is_answered_before_a_half_closed_stream_ends(world: World) -> None:
    session = world.session(records=0)
    session.settle()
    session.close_credit()
    assert not session.is_spent
    session.answer(Outgoing(b"acked"), settled=True)
    answer = await session.next()
    assert answer is not None
    assert answer.message == b"acked"
    assert await session.next() is None


async def test_answers_to_acknowledgements_do_not_pile_up(world: World) -> None:
    session = world.session(records=0)
    for number in range(100):
        session.answer(Outgoing(str(number).encode()), settled=True)
    session.close_credit()
    answer = await session.next()
    assert answer is not None
    assert answer.message == b"99"
    assert await session.next() is None


async def _taken(session: Session, count: int) -> AsyncIterator[Outgoing]:
    for _ in range(count):
        outgoing = await session.next()
        assert outgoing is not None
        yield outgoing


@dataclass(frozen=True)
class Plan:
    """A random run: records as (owner, partition, released), streams' grants, and answers that fail first."""

    records: list[tuple[str, int, bool]]
    grants: list[list[int]]
    failures: list[bool]


plans = st.builds(
    Plan,
    records=st.lists(
        st.tuples(st.sampled_from(["alpha", "beta", "gamma"]), st.integers(0, 1), st.booleans()), max_size=25
    ),
    grants=st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=6), min_size=1, max_size=3),
    failures=st.lists(st.booleans(), max_size=30),
)


@given(plan=plans)
@settings(max_examples=60, deadline=None)
def test_each_stream_gets_the_released_records_once_and_in_order(plan: Plan) -> None:
    with _no_waiting():
        asyncio.run(_run(plan))


@contextlib.contextmanager
def _no_waiting() -> Iterator[None]:
    with mock.patch.object(group, "BACKOFF_S", (0.0, 0.0005)), mock.patch.object(collect, "LINGER_S", 0.0):
        yield


async def _run(plan: Plan) -> None:
    world = World(partitions=2)
    failures = list(plan.failures)

    def answer(question: Question) -> Decision | None:
        if failures and failures.pop():
            return None
        return RELEASE if label_of(question) == "green" else WITHHOLD

    world.decider.answer = answer
    sessions = [world.session(f"p-{number}") for number in range(len(plan.grants))]
    readers = [
        asyncio.ensure_future(_read(world, session, grants, plan))
        for session, grants in zip(sessions, plan.grants, strict=True)
    ]
    for number, (owner, partition, released) in enumerate(plan.records):
        label = "green" if released else "red"
        await world.store(owner, f"{owner}-{partition}-{number}", partition=partition, label=label)
    for found in await asyncio.wait_for(asyncio.gather(*readers), 20):
        _check(plan, found)
    await world.close()


async def _read(world: World, session: Session, grants: list[int], plan: Plan) -> list[str]:
    """Everything that is released to the stream, with credit in portions; checks credit at each batch."""
    expected = sum(released for _, _, released in plan.records)
    found: list[str] = []
    credit, turn = 0, 0
    while len(found) < expected:
        if credit == 0:
            credit = grants[turn % len(grants)]
            turn += 1
            world.grant(session, credit)
        outgoing = await session.next()
        assert outgoing is not None
        ids = ids_in(outgoing)
        assert 0 < len(ids) <= credit
        credit -= len(ids)
        found.extend(ids)
        accounted = set(world.ledger.released())
        offsets = {_place(plan, record_id) for record_id in ids}
        assert offsets <= accounted
        world.fanout.written(session, outgoing)
    await world.idle()
    assert not session._outbox
    return found


def _place(plan: Plan, record_id: str) -> tuple[int, int]:
    number = int(record_id.rpartition("-")[2])
    partition = plan.records[number][1]
    return partition, sum(other == partition for _, other, _ in plan.records[:number])


def _check(plan: Plan, found: list[str]) -> None:
    assert len(set(found)) == len(found)
    for owner in ("alpha", "beta", "gamma"):
        for partition in (0, 1):
            expected = [
                f"{owner}-{partition}-{number}"
                for number, record in enumerate(plan.records)
                if record == (owner, partition, True)
            ]
            assert [
                record_id for record_id in found if record_id.startswith(f"{owner}-{partition}-")
            ] == expected


@given(plan=plans, breaks=st.lists(st.booleans(), min_size=1, max_size=10))
@settings(max_examples=60, deadline=None)
def test_streams_that_break_and_resume_from_their_cursor_lose_nothing(plan: Plan, breaks: list[bool]) -> None:
    with _no_waiting():
        asyncio.run(_run_with_breaks(plan, breaks))


async def _run_with_breaks(plan: Plan, breaks: list[bool]) -> None:
    world = World(partitions=2)
    failures = list(plan.failures)
    world.decider.answer = lambda question: (
        None if failures and failures.pop() else (RELEASE if label_of(question) == "green" else WITHHOLD)
    )
    for number, (owner, partition, released) in enumerate(plan.records):
        label = "green" if released else "red"
        await world.store(owner, f"{owner}-{partition}-{number}", partition=partition, label=label)
    expected = {
        f"{owner}-{partition}-{n}" for n, (owner, partition, green) in enumerate(plan.records) if green
    }
    bystander = world.session("p-0", records=1_000)
    session, found, turn = world.session("p-1", records=5), set[str](), 0
    while found != expected:
        outgoing = await asyncio.wait_for(session.next(), 20)
        assert outgoing is not None
        found |= set(ids_in(outgoing))
        assert found <= expected
        cursor = SubscribeResponse.FromString(outgoing.message).batch.cursor
        world.fanout.written(session, outgoing)
        if breaks[turn % len(breaks)]:
            positions = session.open_cursor(cursor).positions
            world.fanout.end(session)
            session = world.session("p-1", records=5, standing=Standing(positions))
        else:
            world.grant(session, 5)
        turn += 1
    assert set(await world.receive(bystander, len(expected))) == expected
    await world.close()


async def test_a_batch_that_leaves_first_counts_in_credit_and_not_in_what_a_message_may_hold() -> None:
    ready = [cast(Session, mock.Mock(budget=lambda sharing: Budget(1_000, 64 << 20)))]
    largest = collect.shared_budget(ready).size_bytes
    first = Prepared(Standing((0,)), cast(Any, None), deliveries=[b"x"] * 300, size_bytes=collect.BATCH_BYTES)
    following = collect.shared_budget(ready, first)
    assert (following.records, following.size_bytes) == (700, largest)
    first.size_bytes = (64 << 20) - 10
    assert collect.shared_budget(ready, first).size_bytes == 10
