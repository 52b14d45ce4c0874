"""The life of a stream in the ledger: why it begins where it does, by which decision, what was acknowledged, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import pytest

from broker.core import acknowledgements
from broker.core.cursor import Cursor
from broker.core.decide import Ruling
from broker.core.deliver.session import Session
from broker.core.places import Start, StartAt
from broker.errors import EntenteError, Reason
from broker.model.record import Positions
from tests.fakes.chains import read_chains
from tests.fakes.delivery import TOPIC, WITHHOLD
from tests.fakes.streams import StreamWorld

pytestmark = pytest.mark.usefixtures("quick_groups")


@pytest.fixture
async def world() -> AsyncIterator[StreamWorld]:
    made = StreamWorld()
    for number in range(4):
        await made.store("alpha", str(number))
    yield made
    await made.close()


def bodies(world: StreamWorld, kind: str) -> list[Any]:
    """The bodies of the entries of a kind."""
    return [dict(entry.body) for entry in world.ledger.of(kind)]


def moves(world: StreamWorld) -> list[tuple[str, bool, Any, Any]]:
    """Of each `moved` entry: cause, whether a stream moved and not a call, from and to."""
    return [
        (m["move"]["cause"], bool(m["stream"]["stream"]), m["move"]["from"], m["move"]["to"])
        for m in bodies(world, "moved")
    ]


def cursor_at(world: StreamWorld, session: Session, positions: Positions) -> bytes:
    """A cursor of the stream for these positions."""
    return world.codec.seal(Cursor(positions, session.epoch), session.binding.associated_data())


async def test_a_stream_is_opened_with_its_decision_and_its_beginning_next_to_each_other(
    world: StreamWorld,
) -> None:
    session = await world.open(start=StartAt(place=Start.LATEST))
    opened, moved = world.ledger.entries
    body: Any = opened.body
    assert (opened.kind, moved.kind) == ("stream_opened", "moved")
    assert body["stream"] == {
        "topic": TOPIC,
        "purpose": "work",
        "subscription": "",
        "epoch": 0,
        "stream": session.stream,
    }
    assert body["who"]["token"] == "token-p-1"
    ((decision),) = body["decisions"]
    assert decision["input"]["action"] == "subscribe"
    assert decision["output"]["effect"] == "release"
    assert moves(world) == [("start", True, None, [4])]
    assert len(session.stream) == 16


async def test_streams_have_ids_of_their_own(world: StreamWorld) -> None:
    assert len({(await world.open()).stream for _ in range(20)}) == 20


async def test_a_named_one_is_created_then_resumed_then_taken_over(world: StreamWorld) -> None:
    first = await world.open(subscription="s", records=2)
    assert await world.receive(first, 2) == ["0", "1"]
    await world.streams.acknowledge(first, first.cursor())
    await world.streams.close(first, "completed")
    second = await world.open(subscription="s")
    third = await world.open(subscription="s")
    assert moves(world) == [
        ("created", False, None, [0]),
        ("resumed", True, [0], [0]),
        ("resumed", True, [2], [2]),
        ("takeover", True, [2], [2]),
    ]
    assert (second.epoch, third.epoch) == (2, 3)
    assert second.failure is not None
    assert bodies(world, "subscription")[0]["change"] == {
        "change": "create",
        "subscription": "s",
        "topic": TOPIC,
        "purpose": "work",
    }


async def test_a_position_that_has_expired_is_told_from_where_to_where(world: StreamWorld) -> None:
    await world.desk.create(world.principal("p-1"), "s", TOPIC, "work", StartAt(place=Start.EARLIEST))
    world.log.start = [3]
    session = await world.open(subscription="s", earliest_on_expired=True)
    assert session.standing.next == (3,)
    assert moves(world)[-1] == ("expired", True, [0], [3])


async def test_calls_tell_where_a_subscription_stands_from_then_on(world: StreamWorld) -> None:
    principal = world.principal("p-1")
    for _ in range(2):  # the second finds it there
        await world.desk.create(principal, "s", TOPIC, "work", StartAt(place=Start.LATEST))
    await world.desk.seek(principal, "s", StartAt(place=Start.EARLIEST))
    await world.desk.delete(principal, "s")
    changes = [body["change"]["change"] for body in bodies(world, "subscription")]
    assert changes == ["create", "create", "seek", "delete"]
    assert moves(world) == [("created", False, None, [4]), ("seek", False, [4], [0])]
    assert bodies(world, "moved")[1]["stream"] == {
        "topic": TOPIC,
        "purpose": "work",
        "subscription": "s",
        "epoch": 0,
        "stream": "",
    }


async def test_a_subscription_is_moved_to_a_cursor_of_its_own_of_any_life(world: StreamWorld) -> None:
    principal = world.principal("p-1")
    session = await world.open(subscription="s", records=4)
    assert await world.receive(session, 4) == ["0", "1", "2", "3"]
    older, newest = cursor_at(world, session, (1,)), session.cursor()
    await world.streams.acknowledge(session, newest)
    moved = await world.desk.seek(principal, "s", StartAt(cursor=older))
    assert moved.positions == (1,)
    assert moves(world)[-1] == ("seek", False, [4], [1])
    await world.desk.delete(principal, "s")
    made = await world.desk.create(principal, "s", TOPIC, "work", StartAt(cursor=newest))
    assert made.positions == (4,)
    assert moves(world)[-1] == ("created", False, None, [4])


async def test_a_cursor_of_ones_stream_without_a_name_is_as_good(world: StreamWorld) -> None:
    unnamed = await world.open(start=StartAt(place=Start.LATEST))
    await world.desk.create(world.principal("p-1"), "s", TOPIC, "work", StartAt(place=Start.EARLIEST))
    moved = await world.desk.seek(world.principal("p-1"), "s", StartAt(cursor=unnamed.cursor()))
    assert moved.positions == (4,)


async def test_a_subscription_is_moved_to_nobody_elses_cursor_and_nothing_tells_of_a_move(
    world: StreamWorld,
) -> None:
    principal = world.principal("p-1")
    mine = await world.desk.create(principal, "s", TOPIC, "work", StartAt(place=Start.LATEST))
    own = world.desk.cursor(mine)
    theirs = await world.open("p-2", subscription="s")
    other = await world.open("p-2")
    sibling = await world.open(subscription="t")
    elsewhere = replace(sibling.binding, incarnation=b"another topic", subscription="s")
    foreign = world.codec.seal(Cursor((0,), 0), elsewhere.associated_data())
    tampered = own[:-1] + bytes([own[-1] ^ 1])
    entries = len(world.ledger.entries)
    for cursor in (theirs.cursor(), other.cursor(), sibling.cursor(), foreign, tampered, b"", own + b"x"):
        with pytest.raises(EntenteError) as refused:
            await world.desk.seek(principal, "s", StartAt(cursor=cursor))
        assert refused.value.reason is Reason.CURSOR_INVALID
        with pytest.raises(EntenteError) as refused:
            await world.desk.create(principal, "new", TOPIC, "work", StartAt(cursor=cursor))
        assert refused.value.reason is Reason.CURSOR_INVALID
    assert len(world.ledger.entries) == entries
    assert (await world.desk.get(principal, "s")).positions == mine.positions


async def test_a_cursor_past_retention_is_left_to_the_stream_that_opens_there(world: StreamWorld) -> None:
    principal = world.principal("p-1")
    old = world.desk.cursor(
        await world.desk.create(principal, "s", TOPIC, "work", StartAt(place=Start.EARLIEST))
    )
    world.log.start = [3]
    assert (await world.desk.seek(principal, "s", StartAt(cursor=old))).positions == (0,)
    with pytest.raises(EntenteError) as refused:
        await world.open(subscription="s")
    assert refused.value.reason is Reason.POSITION_EXPIRED
    session = await world.open(subscription="s", earliest_on_expired=True)
    assert session.standing.next == (3,)


async def test_without_the_ledger_no_stream_opens_and_the_life_goes_on_without_a_hole(
    world: StreamWorld,
) -> None:
    """A takeover that could not be entered has happened: its epoch is missing, and nothing else."""
    first = await world.open(subscription="s", records=1)
    assert await world.receive(first, 1) == ["0"]
    await world.streams.acknowledge(first, first.cursor())
    world.ledger.failures = 1
    with pytest.raises(EntenteError) as refused:
        await world.open(subscription="s")
    assert refused.value.reason is Reason.LEDGER_UNAVAILABLE
    world.fanout.sweep()
    assert first.failure is not None
    await world.streams.close(first, first.failure.reason.name)
    later = await world.open(subscription="s", records=3)
    assert await world.receive(later, 3) == ["1", "2", "3"]
    await world.streams.close(later, "completed")
    epochs = [body["stream"]["epoch"] for body in bodies(world, "stream_opened")]
    assert epochs == [1, 3]
    assert moves(world)[-1] == ("resumed", True, [1], [1])
    chains = read_chains(world.log, world.ledger.entries)
    assert [chains[s.stream].at["next"] for s in (first, later)] == [[1], [4]]


async def test_a_subscription_is_in_the_ledger_before_it_exists(world: StreamWorld) -> None:
    world.ledger.failures = 1
    with pytest.raises(EntenteError):
        await world.open(subscription="s")
    assert world.subscriptions.stored == {}
    await world.open(subscription="s")
    assert [cause for cause, *_ in moves(world)] == ["created", "resumed"]


async def test_an_end_that_cannot_be_written_is_written_later_and_hides_nothing(world: StreamWorld) -> None:
    session = await world.open(records=1)
    assert await world.receive(session, 1) == ["0"]
    await world.streams.acknowledge(session, session.cursor())
    world.ledger.failures = 2
    await world.streams.close(session, "CONSUMER_TOO_SLOW")  # raises nothing
    assert world.ledger.of("stream_closed") == []
    await world.streams.settle()  # once more in vain
    await world.streams._acknowledgements.flush()
    assert [entry.kind for entry in world.ledger.entries[-2:]] == ["acknowledged", "stream_closed"]
    assert bodies(world, "stream_closed")[0]["end"]["cause"] == "CONSUMER_TOO_SLOW"
    assert read_chains(world.log, world.ledger.entries)[session.stream].ended == "CONSUMER_TOO_SLOW"


async def test_acknowledged_positions_are_entered_together_and_only_once(world: StreamWorld) -> None:
    named = await world.open("p-1", subscription="s", records=4)
    unnamed = await world.open("p-2", records=4)
    for session in (named, unnamed):
        await world.receive(session, 4)
        for position in (1, 3, 2):
            await world.streams.acknowledge(session, cursor_at(world, session, (position,)))
    written = world.streams._acknowledgements
    await written.flush()
    await written.flush()
    for session in (named, unnamed):
        await world.streams.acknowledge(session, cursor_at(world, session, (3,)))
    await written.flush()
    (entry,) = bodies(world, "acknowledged")
    assert entry["acknowledged"] == [
        {
            "agency": "consumer",
            "subject": f"p-{number}",
            "topic": TOPIC,
            "subscription": session.binding.subscription,
            "epoch": session.epoch,
            "stream": session.stream,
            "to": [3],
        }
        for number, session in ((1, named), (2, unnamed))
    ]


async def test_acknowledgements_are_written_about_each_second_without_being_asked(
    world: StreamWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acknowledgements, "INTERVAL_S", 0.001)
    session = await world.open(records=4)
    await world.receive(session, 4)
    world.ledger.failures = 3  # the writer outlives failures
    await world.streams.acknowledge(session, session.cursor())
    world.ledger.grown.clear()
    await asyncio.wait_for(world.ledger.grown.wait(), 30)
    assert bodies(world, "acknowledged")[0]["acknowledged"][0]["to"] == [4]
    assert world.ledger.failures == 0


async def test_the_last_acknowledgement_goes_with_the_end(world: StreamWorld) -> None:
    session = await world.open(records=4)
    await world.receive(session, 4)
    await world.streams.acknowledge(session, session.cursor())
    await world.streams.close(session, "completed")
    assert [entry.kind for entry in world.ledger.entries[-2:]] == ["acknowledged", "stream_closed"]
    await world.streams.settle()
    assert len(bodies(world, "acknowledged")) == 1


async def test_many_acknowledgements_are_cut_into_entries(
    world: StreamWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acknowledgements, "ROWS", 2)
    for number in range(5):
        session = await world.open(f"p-{number}", records=4)
        await world.receive(session, 4)
        await world.streams.acknowledge(session, session.cursor())
    await world.streams._acknowledgements.flush()
    assert [len(body["acknowledged"]) for body in bodies(world, "acknowledged")] == [2, 2, 1]


async def test_a_stream_that_may_not_be_opened_tells_the_ledger_why_and_nobody_else(
    world: StreamWorld,
) -> None:
    world.decider.answer = lambda _: WITHHOLD
    with pytest.raises(EntenteError) as hidden:
        await world.open()
    (decision,) = hidden.value.decisions
    shown: Any = cast(Ruling, decision).value
    assert shown["input"]["topic"] == TOPIC
    assert shown["output"]["reasons"] == ["scripted"]
    assert "scripted" not in f"{hidden.value}{hidden.value.detail}{hidden.value.metadata}"


async def test_a_refresh_that_is_refused_carries_its_decision(world: StreamWorld) -> None:
    session = await world.open()
    world.decider.answer = lambda _: WITHHOLD
    with pytest.raises(EntenteError) as refused:
        await world.streams.refresh(session, world.principal("p-1"))
    assert refused.value.reason is Reason.POLICY_DENIED
    assert len(refused.value.decisions) == 1
