"""Instances that agree: activations, restrictions, leases and crashes, over a log in memory and a clock that is turned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from broker.core.control.applier import PreparationFailed
from broker.core.control.desk import Enacted
from broker.core.control.fold import EventVoid
from broker.errors import EntenteError, Reason, StorageUnavailable
from broker.model.control import Beat, ControlEvent
from broker.model.ledger import JsonValue
from tests.fakes.clock import TurnedClock
from tests.fakes.control import LEASE_S, Instance, SharedControl

PATIENCE_S = 60.0


class Exchange:
    """Some instances, and what a test does to time."""

    def __init__(self) -> None:
        self.shared = SharedControl()
        self.clock = TurnedClock()
        self.instances: list[Instance] = []

    async def add(self, name: str, **options: float) -> Instance:
        instance = Instance(self.shared, name, self.clock, **options)  # type: ignore[arg-type]
        self.instances.append(instance)
        await instance.start()
        return instance

    async def pass_lease(self, *awake: Instance) -> None:
        """A lease and a half goes by, in steps in which all who are awake are heard by all of them."""
        for _ in range(6):
            self.clock.advance(LEASE_S / 4)
            for instance in awake:
                await heard_again(instance)

    async def stop(self) -> None:
        for instance in self.instances:
            instance.log.deaf = instance.log.mute = False
            await instance.stop()


async def heard_again(instance: Instance) -> None:
    """It beats, and hears that beat, at the present time; at once if it stopped."""
    leases = instance.runtime.leases
    await until(lambda: leases.heard_s == leases.now_s() or instance.runtime.stopped.done())


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - the condition is over plain values
            await asyncio.sleep(0.005)


async def within(awaited: Awaitable[Enacted]) -> Enacted:
    async with asyncio.timeout(PATIENCE_S):
        return await awaited


@asynccontextmanager
async def exchange() -> AsyncIterator[Exchange]:
    made = Exchange()
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
async def two() -> AsyncIterator[tuple[Exchange, Instance, Instance]]:
    async with exchange() as made:
        yield made, await made.add("a"), await made.add("b")


def activate(instance: Instance, revision: str = "r2") -> Awaitable[Enacted]:
    return instance.desk.activate(revision, by={"agency": "exchange"}, proposal=None, rollback=False)


def suspended(number: int = 1) -> dict[str, JsonValue]:
    return {
        "id": f"s{number}",
        "kind": "agency",
        "target": "partner",
        "owner": None,
        "reason": "test",
        "by": {"agency": "exchange", "subject": "ada"},
        "since_ms": 0,
        "until_ms": None,
        "ratify_by_ms": None,
    }


async def test_all_switch_before_activate_returns(two: tuple[Exchange, Instance, Instance]) -> None:
    _, a, b = two
    enacted = await within(activate(a))
    assert enacted.fenced == () and enacted.took_ms >= 0
    assert a.applier.in_force == b.applier.in_force == ["r1", "r2"]
    assert a.desk.state == b.desk.state
    past = b.desk.state.activations.history[-1]
    assert (past.number, past.revision, past.proposal, past.rollback) == (2, "r2", None, False)
    await within(activate(b, "r1"))
    assert a.applier.in_force == ["r1", "r2", "r1"]


async def test_activate_waits_for_what_passes_under_the_older_one(
    two: tuple[Exchange, Instance, Instance],
) -> None:
    exchange, a, b = two
    b.applier.passing = asyncio.Event()
    task = asyncio.ensure_future(activate(a))
    await until(lambda: b.applier.in_force == ["r1", "r2"] and a.applier.in_force == ["r1", "r2"])
    for _ in range(3):
        await beaten(exchange, b)
    assert not task.done()
    b.applier.passing.set()
    assert (await within(task)).fenced == ()


async def beaten(exchange: Exchange, instance: Instance) -> None:
    """It beats once more."""
    count = len(exchange.shared.entries)

    def has_beaten() -> bool:
        new = exchange.shared.entries[count:]
        return any(
            isinstance(each.content, Beat) and each.content.run == instance.runtime.settings.run
            for each in new
        )

    await until(has_beaten)


async def test_an_instance_beats_at_once_for_what_somebody_waits_for_and_for_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A beat for each event would hold up the next one."""
    monkeypatch.setattr("tests.fakes.control.LEASE_S", 4 * PATIENCE_S)
    async with exchange() as made:
        a, b = await made.add("a"), await made.add("b")
        for number in range(3):
            await within(activate(a, f"r{number + 2}"))
            await within(a.desk.enact("suspended", suspended(number)))
        beats = [each.content for each in made.shared.entries if isinstance(each.content, Beat)]
    told = [beat.applied for beat in beats if beat.run == b.runtime.settings.run]
    assert len(told) == 1 + 2 * 3
    assert told == sorted(told)
    mine = [beat for beat in beats if beat.run == a.runtime.settings.run]
    assert len(mine) == 1, "whoever asked knows without a beat how far it is itself"


async def test_a_failed_preparation_names_instance_and_cause_and_changes_nothing(
    two: tuple[Exchange, Instance, Instance],
) -> None:
    _, a, b = two
    b.applier.refused["r2"] = "opa did not start"
    with pytest.raises(EntenteError, match="instance 'b' cannot prepare it: opa did not start") as refused:
        await within(activate(a))
    assert refused.value.reason is Reason.ACTIVATION_FAILED
    assert a.applier.in_force == b.applier.in_force == ["r1"]
    assert a.desk.state.activations.pending is None
    await until(lambda: all(held.discarded for held in a.applier.held))
    await within(activate(a, "r3"))
    assert b.applier.in_force == ["r1", "r3"]


async def test_a_fault_in_preparing_shows_nothing_of_itself(two: tuple[Exchange, Instance, Instance]) -> None:
    _, a, b = two

    async def fail(_: str) -> None:
        raise RuntimeError("a secret value")

    b.applier.prepare = fail  # type: ignore[method-assign, assignment]
    with pytest.raises(EntenteError, match="instance 'b'") as refused:
        await within(activate(a))
    assert "secret" not in str(refused.value)


async def test_a_second_activation_is_refused_and_names_the_first(
    two: tuple[Exchange, Instance, Instance],
) -> None:
    _, a, b = two
    b.applier.slow = asyncio.Event()
    first = asyncio.ensure_future(activate(a))
    await until(lambda: b.desk.state.activations.pending is not None)
    for instance in (a, b):
        with pytest.raises(EntenteError, match="revision r2, led by the instance 'a'") as refused:
            await within(activate(instance, "r3"))
        assert refused.value.reason is Reason.ACTIVATION_UNDER_WAY
    b.applier.slow.set()
    await within(first)
    assert b.applier.in_force == ["r1", "r2"]


async def test_two_that_begin_at_once_do_not_both_succeed(two: tuple[Exchange, Instance, Instance]) -> None:
    _, a, b = two
    outcomes = await asyncio.gather(activate(a, "r2"), activate(b, "r3"), return_exceptions=True)
    assert sorted(type(each).__name__ for each in outcomes) == ["Enacted", "EntenteError"]
    assert a.applier.in_force == b.applier.in_force and len(a.applier.in_force) == 2


async def test_an_instance_that_died_is_fenced_and_not_waited_for_longer(
    two: tuple[Exchange, Instance, Instance],
) -> None:
    exchange, a, b = two
    b.die()
    task = asyncio.ensure_future(activate(a))
    await exchange.pass_lease(a)
    enacted = await within(task)
    assert enacted.fenced == ("b",)
    assert exchange.shared.fenced == [("b", 1)]
    assert a.accounted == ["b-1"]
    assert not b.runtime.may_release()
    assert (await within(activate(a, "r3"))).fenced == ()


async def test_one_that_was_fenced_stops_when_it_goes_on(two: tuple[Exchange, Instance, Instance]) -> None:
    exchange, a, b = two
    b.die()
    task = asyncio.ensure_future(activate(a))
    await exchange.pass_lease(a)
    await within(task)
    b.log.mute = False
    b.log.listen()
    assert b.runtime.stopped.done() and not b.runtime.may_release()
    assert b.applier.in_force == ["r1"]
    with pytest.raises(EntenteError) as refused:
        await b.desk.enact("suspended", suspended())
    assert refused.value.reason is Reason.AGREEMENT_UNAVAILABLE


async def test_one_that_lives_but_never_gets_there_is_fenced(
    two: tuple[Exchange, Instance, Instance],
) -> None:
    exchange, a, b = two
    b.applier.passing = asyncio.Event()
    task = asyncio.ensure_future(a.desk.enact("suspended", suspended()))
    await until(lambda: len(b.applier.overlays) == 2)
    await exchange.pass_lease(a, b)
    assert (await within(task)).fenced == ("b",)
    await until(b.runtime.stopped.done)


async def test_who_was_asleep_itself_judges_nobody_by_it(two: tuple[Exchange, Instance, Instance]) -> None:
    exchange, a, b = two
    a.log.deaf = True
    task = asyncio.ensure_future(a.desk.enact("suspended", suspended()))
    exchange.clock.advance(3 * LEASE_S)
    await heard_again(b)
    assert not a.runtime.may_release() and b.runtime.may_release()
    a.log.listen()
    assert (await within(task)).fenced == ()
    await until(a.runtime.may_release)


async def test_a_lease_counts_from_when_its_beat_was_sent(two: tuple[Exchange, Instance, Instance]) -> None:
    exchange, a, _ = two
    await heard_again(a)
    a.log.deaf = True
    exchange.clock.advance(0.9 * LEASE_S)
    await beaten(exchange, a)
    exchange.clock.advance(0.2 * LEASE_S)
    assert not a.runtime.may_release(), "what it did not hear back does not count"
    a.log.listen()
    assert a.runtime.may_release()
    a.log.deaf = True
    exchange.clock.advance(0.9 * LEASE_S)
    assert not a.runtime.may_release()


async def test_an_activation_whose_leader_died_is_abandoned_by_the_next(
    two: tuple[Exchange, Instance, Instance],
) -> None:
    exchange, a, b = two
    b.applier.slow = asyncio.Event()
    lost = asyncio.ensure_future(activate(a))
    await until(lambda: b.desk.state.activations.pending is not None)
    a.die()
    lost.cancel()
    await exchange.pass_lease(b)
    b.applier.slow.set()
    await within(activate(b, "r3"))
    assert b.applier.in_force == ["r1", "r3"]
    assert exchange.shared.fenced == [("a", 1)]
    assert [held.revision for held in b.applier.held if held.discarded] == ["r2"]


async def test_an_instance_that_joins_meanwhile_is_waited_for(
    two: tuple[Exchange, Instance, Instance],
) -> None:
    exchange, a, b = two
    b.applier.slow = asyncio.Event()
    task = asyncio.ensure_future(activate(a))
    await until(lambda: a.desk.state.activations.pending is not None)
    c = await exchange.add("c")
    b.applier.slow.set()
    await within(task)
    assert c.applier.in_force == ["r1", "r2"]


async def test_one_that_starts_takes_what_is_in_force_and_every_restriction() -> None:
    async with exchange() as made:
        a = await made.add("a")
        await within(activate(a))
        await within(a.desk.enact("suspended", suspended()))
        b = await made.add("b")
        assert b.applier.in_force == ["r1", "r2"]
        assert b.applier.overlays == [a.desk.state.overlays.overlays]
        assert [each.discarded for each in b.applier.held] == [False]


async def test_one_that_cannot_take_what_is_in_force_does_not_start() -> None:
    async with exchange() as made:
        a = await made.add("a")
        await within(activate(a))
        b = Instance(made.shared, "b", made.clock)
        b.applier.refused["r2"] = "not in the store"
        with pytest.raises(PreparationFailed, match="not in the store"):
            await b.start()
        assert not b.runtime.may_release()
        await b.stop()


async def test_another_start_of_an_instance_takes_its_place(two: tuple[Exchange, Instance, Instance]) -> None:
    exchange, a, b = two
    b.die()
    again = await exchange.add("b", epoch=2)
    assert (await within(activate(a))).fenced == ()
    assert again.applier.in_force == ["r1", "r2"]
    b.log.mute = False
    b.log.listen()
    assert "another broker has taken over the ledger 'b'" in str(b.runtime.stopped.result())


async def test_an_older_start_cannot_join_after_a_newer_one() -> None:
    async with exchange() as made:
        await made.add("a", epoch=2)
        older = Instance(made.shared, "a", made.clock, epoch=1)
        with pytest.raises(StorageUnavailable, match="newer start of the instance 'a'"):
            await older.start()
        assert not older.runtime.may_release()
        await older.stop()


async def test_a_restriction_works_everywhere_when_enact_returns(
    two: tuple[Exchange, Instance, Instance],
) -> None:
    _, a, b = two
    enacted = await within(a.desk.enact("suspended", suspended()))
    assert enacted.fenced == ()
    for instance in (a, b):
        assert set(instance.applier.overlays[-1].suspensions) == {"s1"}
    with pytest.raises(EventVoid):
        await b.desk.record("suspended", suspended())
    assert len(a.applier.overlays) == len(b.applier.overlays) == 2


async def test_whoever_left_is_not_waited_for(two: tuple[Exchange, Instance, Instance]) -> None:
    exchange, a, b = two
    await b.stop()
    assert (await within(activate(a))).fenced == ()
    assert exchange.shared.fenced == []


@pytest.mark.parametrize("kind", ["preparing", "activated"])
async def test_an_outcome_that_was_unknown_is_found_out(
    two: tuple[Exchange, Instance, Instance], kind: str
) -> None:
    """Kafka took the event, and did not say so in time."""
    _, a, b = two
    a.log.late.add(kind)
    if kind == "activated":
        assert (await within(activate(a))).fenced == ()
        assert a.applier.in_force == b.applier.in_force == ["r1", "r2"]
    else:
        with pytest.raises(EntenteError) as refused:
            await within(activate(a))
        assert refused.value.reason is Reason.ACTIVATION_FAILED
        assert a.applier.in_force == b.applier.in_force == ["r1"]
    assert a.desk.state.activations.pending is None
    await within(activate(b, "r3"))


async def test_one_that_takes_too_long_to_prepare_is_named() -> None:
    async with exchange() as made:
        a = await made.add("a", prepare_timeout_s=2.0)
        b = await made.add("b")
        b.applier.slow = asyncio.Event()
        task = asyncio.ensure_future(activate(a))
        await until(lambda: a.desk.state.activations.pending is not None)
        for _ in range(20):
            made.clock.advance(LEASE_S / 3)
            await heard_again(a)
            await heard_again(b)
        with pytest.raises(EntenteError, match="'b' took longer than 2 s"):
            await within(task)
        assert a.applier.in_force == ["r1"]


async def test_an_event_of_an_unknown_kind_stops_an_instance(
    two: tuple[Exchange, Instance, Instance],
) -> None:
    exchange, a, _ = two
    exchange.shared.put(ControlEvent("quarantined", 0, "b", {}))
    await until(a.runtime.stopped.done)
    assert "upgrade this instance" in str(a.runtime.stopped.result())
    assert not a.runtime.may_release()


async def test_a_switch_that_fails_stops_the_instance(two: tuple[Exchange, Instance, Instance]) -> None:
    _, a, b = two

    def fail(_: object) -> None:
        raise RuntimeError

    b.applier.switch = fail  # type: ignore[method-assign, assignment]
    task = asyncio.ensure_future(activate(a))
    await until(b.runtime.stopped.done)
    assert not b.runtime.may_release()
    task.cancel()


async def test_what_cannot_be_written_is_refused_and_may_be_asked_again(
    two: tuple[Exchange, Instance, Instance],
) -> None:
    _, a, b = two
    a.log.mute = True
    with pytest.raises(EntenteError) as refused:
        await a.desk.enact("suspended", suspended())
    assert refused.value.reason is Reason.AGREEMENT_UNAVAILABLE
    a.log.mute = False
    await within(a.desk.enact("suspended", suspended()))
    assert set(b.applier.overlays[-1].suspensions) == {"s1"}


async def test_a_lost_log_stops_the_instance() -> None:
    async with exchange() as made:
        a = await made.add("a")
        a.runtime._lost()
        assert a.runtime.stopped.done() and not a.runtime.may_release()
        with pytest.raises(StorageUnavailable):
            await a.runtime.append("left", {"run": "a-1"})
