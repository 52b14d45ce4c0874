"""Evidence first: nothing leaves before the ledger has it, and a ledger that fails stalls and never drops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from broker.model.ledger import LedgerEntry, Place
from tests.fakes.delivery import RELEASE, WITHHOLD, World, ids_in, label_of

pytestmark = pytest.mark.usefixtures("quick_groups")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


async def test_nothing_is_handed_out_while_the_ledger_writes(world: World) -> None:
    world.ledger.hold = asyncio.Event()
    session = world.session(records=10)
    waiting = asyncio.ensure_future(session.next())
    await world.store("alpha", "1")
    await world.ledger.asked.wait()
    await world.idle()
    assert not waiting.done()
    assert session.standing.cursor == (0,)
    assert session.budget().records == 10
    world.ledger.hold.set()
    outgoing = await waiting
    assert outgoing is not None
    assert ids_in(outgoing) == ["1"]
    assert world.ledger.released() == [(0, 0)]


async def test_every_record_that_leaves_is_already_accounted_for(world: World) -> None:
    sessions = [world.session(f"p-{n}", records=100) for n in range(3)]
    for number in range(20):
        await world.store("alpha", str(number))
    for session in sessions:
        left = 20
        while left:
            outgoing = await session.next()
            assert outgoing is not None
            ids = ids_in(outgoing)
            accounted = {offset for _, offset in world.ledger.released()}
            assert {int(record_id) for record_id in ids} <= accounted
            left -= len(ids)


async def test_a_failing_ledger_stalls_and_never_drops(world: World) -> None:
    world.ledger.failures = 5
    session = world.session(records=10)
    for number in range(4):
        await world.store("alpha", str(number))
    assert await world.receive(session, 4) == ["0", "1", "2", "3"]
    assert world.ledger.failures == 0
    assert world.ledger.released() == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert session.standing.cursor == (4,)


async def test_a_broken_log_stalls_and_resumes(world: World) -> None:
    session = world.session(records=10)
    await world.store("alpha", "0")
    assert await world.receive(session, 1) == ["0"]
    world.log.broken = True
    await world.store("alpha", "1")
    await world.idle()
    assert session.is_open
    world.log.broken = False
    assert await world.receive(session, 1) == ["1"]


async def test_one_entry_names_all_receivers_the_decision_and_what_was_withheld(world: World) -> None:
    world.decider.answer = lambda question: WITHHOLD if label_of(question) == "red" else RELEASE
    for number, label in enumerate(["red", "green", "red", "green"]):
        await world.store("alpha", str(number), label=label)
    first, second = world.session("p-1", records=10), world.session("p-2", records=10)
    assert await world.receive(first, 2) == await world.receive(second, 2) == ["1", "3"]
    (entry,) = world.ledger.entries
    body: dict[str, Any] = dict(entry.body)
    assert [receiver["subject"] for receiver in body["receivers"]] in (["p-1", "p-2"], ["p-2", "p-1"])
    assert [history["receivers"] for history in body["considered"]] == [[0, 1]]
    assert body["places"] == [[0, 1, 0], [0, 3, 0]]
    assert body["count"] == 2
    (decision,) = body["decisions"]
    assert decision["input"]["record"]["labels"]["dataclassification"] == "green"
    assert decision["output"]["effect"] == "release"
    (history,) = body["considered"]
    assert (history["from"], history["to"]) == ({"next": [0], "lags": []}, {"next": [4], "lags": []})
    assert history["outcomes"] == {"release": 2, "withhold": 2}
    ((withheld, count),) = history["withheld"]
    assert withheld["input"]["record"]["labels"]["dataclassification"] == "red"
    assert (withheld["output"]["effect"], withheld["output"]["reasons"], count) == (
        "withhold",
        ["scripted"],
        2,
    )
    assert body["rules"] == {"revision": "sha256:0", "engine": "scripted 1", "overlays": 0}


async def test_what_was_withheld_before_is_counted_with_the_next_release(world: World) -> None:
    world.decider.answer = lambda question: WITHHOLD if label_of(question) == "red" else RELEASE
    session = world.session(records=10)
    for number in range(3):
        await world.store("alpha", f"r{number}", label="red")
        await world.idle()
    assert world.ledger.entries == []
    await world.store("alpha", "g")
    assert await world.receive(session, 1) == ["g"]
    (entry,) = world.ledger.entries
    (history,) = cast(list[Any], entry.body["considered"])
    assert history["outcomes"] == {"release": 1, "withhold": 3}
    assert (history["from"]["next"], history["to"]["next"]) == ([0], [4])


async def test_an_entry_holds_no_payload(world: World) -> None:
    session = world.session(records=10)
    await world.store("alpha", "a-secret-token", subject="another-secret")
    assert await world.receive(session, 1) == ["a-secret-token"]
    assert "secret" not in repr(world.ledger.entries)


async def test_a_stream_that_changes_class_meanwhile_gets_nothing_of_its_old_class(world: World) -> None:
    """What was decided for a role is not handed to a principal who has lost it while the ledger was writing."""
    world.ledger.hold = asyncio.Event()
    changing, staying = world.session("p-1", records=10), world.session("p-2", records=10)
    world.decider.answer = lambda question: RELEASE if "reader" in str(question.item["subject"]) else WITHHOLD
    await world.store("alpha", "1")
    await world.ledger.asked.wait()
    world.fanout.remove(changing)
    changing.principal = world.principal("p-1", role="guest")
    world.fanout.park(changing)
    world.ledger.hold.set()
    assert await world.receive(staying, 1) == ["1"]
    await world.idle()
    assert changing.budget().records == 10
    assert changing.standing.cursor == (1,)


async def test_a_stream_that_ends_while_the_ledger_writes_gets_nothing(world: World) -> None:
    world.ledger.hold = asyncio.Event()
    ending, staying = world.session("p-1", records=10), world.session("p-2", records=10)
    await world.store("alpha", "1")
    await world.ledger.asked.wait()
    world.fanout.end(ending)
    world.ledger.hold.set()
    assert await world.receive(staying, 1) == ["1"]
    assert world.fanout.buffers.used_bytes == 0
    assert ending.budget().records == 10


async def test_a_takeover_while_the_ledger_writes_is_seen_before_the_release(world: World) -> None:
    world.ledger.hold = asyncio.Event()
    session = world.session(records=10, subscription="s")
    await world.store("alpha", "1")
    await world.ledger.asked.wait()
    key = session.subscription_key
    assert key is not None
    world.epochs.present[key] += 1
    world.ledger.hold.set()
    assert await session.next() is None
    assert session.failure is not None
    assert session.failure.reason.name == "SUBSCRIPTION_TAKEN_OVER"


async def test_a_token_that_expires_while_the_ledger_writes_ends_the_stream(world: World) -> None:
    world.ledger.hold = asyncio.Event()
    session = world.session(records=10)
    await world.store("alpha", "1")
    await world.ledger.asked.wait()
    world.clock.advance(3600)
    world.ledger.hold.set()
    assert await session.next() is None
    assert session.failure is not None
    assert session.failure.reason.name == "TOKEN_EXPIRED"


async def test_a_decision_that_lapses_while_the_ledger_writes_releases_nothing(world: World) -> None:
    end = datetime.fromtimestamp(world.clock.now_ms() / 1000, UTC) + timedelta(seconds=30)
    world.decider.answer = lambda _: replace(RELEASE, valid_until=end)
    world.ledger.hold = asyncio.Event()
    session = world.session(records=10)
    await world.store("alpha", "1")
    await world.ledger.asked.wait()
    world.clock.advance(30)
    world.ledger.hold.set()
    assert await session.next() is None
    assert session.failure is not None
    assert session.failure.reason.name == "LEDGER_UNAVAILABLE"
    assert session.standing.cursor == (0,), "who comes again is asked about from here"
    again = world.session(records=10)
    await world.idle()
    assert again.standing.cursor == (1,)
    assert world.ledger.released() == [(0, 0)], "it was accounted for once, before it lapsed"


async def test_what_was_prepared_ahead_is_not_released_once_its_decision_lapsed(world: World) -> None:
    end = datetime.fromtimestamp(world.clock.now_ms() / 1000, UTC) + timedelta(seconds=30)
    world.decider.answer = lambda question: replace(
        RELEASE, valid_until=end if label_of(question) == "red" else None
    )
    world.ledger.hold = asyncio.Event()
    session = world.session(records=10)
    await world.store("alpha", "1")
    await world.ledger.asked.wait()
    await world.store("alpha", "2", label="red")
    await world.idle()  # long enough to look ahead
    world.clock.advance(30)
    world.ledger.hold.set()
    assert await world.receive(session, 1) == ["1"]
    await world.idle()
    assert session.standing.cursor == (2,)
    assert world.ledger.released() == [(0, 0)]


async def test_a_fault_of_ours_ends_the_streams_and_skips_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(entries: Sequence[LedgerEntry], *, patient: bool) -> Sequence[Place]:
        raise ZeroDivisionError("a-secret-token")

    monkeypatch.setattr(world.ledger, "append", broken)
    session = world.session(records=10)
    await world.store("alpha", "1")
    assert await session.next() is None
    assert session.failure is not None
    assert session.failure.reason.name == "INTERNAL"
    assert session.standing.cursor == (0,)
