"""A broker that keeps a sound tree of false accounts is found out by what its entries say of each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from broker.core.audit.trust import Trust
from broker.core.audit.verify import Level, verify
from broker.model.audit import Finding, Severity
from tests.fakes.ledgers import PEOPLE, FakeLedgers, Instance, Stream

Body = dict[str, Any]


async def faults(ledgers: FakeLedgers) -> list[Finding]:
    ledgers.finish()
    found = await verify(ledgers.reader(), Trust())
    assert (found.level is Level.FAULTY) == any(f.severity is Severity.FAULT for f in found.findings)
    return [finding for finding in found.findings if finding.severity is Severity.FAULT]


def exchange(records: int = 40, *, withhold: bool = True) -> tuple[FakeLedgers, Instance]:
    """Records of one topic, and nobody who subscribes yet; the seed lets no owner lag."""
    ledgers = FakeLedgers(seed=12, withhold=withhold)
    broker = ledgers.instances["broker"]
    for _ in range(records // 4):
        ledgers.publish(broker, "crash-reports", 4)
    ledgers.random.random = lambda: 0.9  # type: ignore[method-assign]
    return ledgers, broker


def deliver_all(ledgers: FakeLedgers, broker: Instance, stream: Stream) -> None:
    for _ in range(12):
        ledgers.deliver(broker, stream)


def once(kind: str, change: Callable[[Body], object], number: int = 1) -> Callable[[str, Body], None]:
    """Lie in the n-th entry of a kind."""
    seen = [0]

    def lie(written: str, body: Body) -> None:
        seen[0] += written == kind
        if written == kind and seen[0] == number:
            change(body)

    return lie


def lies(path: str, change: Callable[[Any], Any]) -> Callable[[Body], None]:
    """Change what stands at a path such as `considered.0.from.next.0`."""
    *above, last = [int(step) if step.isdigit() else step for step in path.split(".")]

    def lie(body: Body) -> None:
        at: Any = body
        for step in above:
            at = at[step]
        at[last] = change(at[last])

    return lie


def more(value: int) -> int:
    return value + 1


def less(value: int) -> int:
    return value - 1


DELIVERIES = [
    ("considered.0.from.next.0", less, "does not begin where its entry"),
    ("considered.0.from.next.0", more, "does not begin where its entry"),
    ("considered.0.to.next.1", more, "do not add up"),
    ("considered.0.to.next.1", less, "do not add up"),
    ("considered.0.to.next", lambda value: [0, 0], "ends before it begins"),
    ("considered.0.outcomes.withhold", less, "do not add up"),
    ("considered.0.outcomes.release", less, "counts other releases"),
    ("considered.0.withheld.0.1", lambda n: n + 5, "more decisions withheld"),
    ("places.0.1", lambda offset: 39_000, "lies outside what was considered"),
    ("places.0.1", lambda offset: 0, "lies outside what was considered"),
    ("count", more, "the count is not that"),
    ("decisions.0.output.effect", lambda _: "withhold", "its decision withholds"),
    ("decisions.0.input.subject.agency", lambda _: "ems", "another class"),
    ("decisions.0.input.subject.purpose", lambda _: "marketing", "another class"),
    ("decisions.0.input.topic", lambda _: "indicators", "another class"),
    ("receivers.0.subject", lambda _: "analyst-7", "another principal's"),
    ("receivers.0.epoch", more, "another principal's"),
    ("class.purpose", lambda _: "marketing", "another principal's"),
    ("receivers.0.stream", lambda _: "00" * 8, "never opened"),
    ("receivers.0.stream", lambda _: "no stream", "have not their documented form"),
    ("considered.0.receivers", lambda _: [7], "not of one receiver each"),
    ("considered.0.receivers", lambda numbers: [*numbers, *numbers], "not of one receiver each"),
    ("places.0.2", lambda _: 9, "have not their documented form"),
    ("considered", lambda _: {}, "not of one receiver each"),
]


@pytest.mark.parametrize(
    ("path", "change", "what"), DELIVERIES, ids=[f"{n}-{d[0]}" for n, d in enumerate(DELIVERIES)]
)
async def test_a_delivery_that_does_not_add_up(path: str, change: Callable[[Any], Any], what: str) -> None:
    ledgers, broker = exchange()
    stream = ledgers.open(broker, PEOPLE[0], "crash-reports", "main")
    ledgers.lie = once("delivery", lies(path, change), number=3)
    deliver_all(ledgers, broker, stream)
    deliveries = [n for n, entry in enumerate(broker.plain) if entry.kind == "delivery"]
    found = await faults(ledgers)
    assert any(what in fault.what and fault.index in deliveries[2:4] for fault in found), found


async def test_a_sound_one_adds_up() -> None:
    ledgers, broker = exchange()
    stream = ledgers.open(broker, PEOPLE[0], "crash-reports", "main")
    deliver_all(ledgers, broker, stream)
    ledgers.acknowledge(broker, [stream])
    ledgers.close(broker, stream)
    assert await faults(ledgers) == []


async def test_histories_of_receivers_that_came_different_ways() -> None:
    """The first withheld records, and another history follows: read by the pattern of one, it was no JSON."""
    ledgers, broker = exchange()
    streams = [ledgers.open(broker, person, "crash-reports") for person in PEOPLE[:2]]

    def split(body: Body) -> None:
        (history,) = body["considered"]
        assert history["withheld"] and history["receivers"] == [0, 1]
        body["considered"] = [history | {"receivers": [number]} for number in (0, 1)]

    ledgers.lie = once("delivery", split, number=3)
    deliver_all(ledgers, broker, streams[0])
    assert await faults(ledgers) == []


async def test_a_batch_that_was_never_accounted_for() -> None:
    """The broker handed something out and wrote no entry: the next one does not join."""
    ledgers, broker = exchange()
    stream = ledgers.open(broker, PEOPLE[0], "crash-reports")
    ledgers.deliver(broker, stream)
    kept = ledgers.write
    ledgers.write = lambda *args, **body: None  # type: ignore[method-assign,assignment]
    ledgers.deliver(broker, stream)
    ledgers.write = kept  # type: ignore[method-assign]
    ledgers.deliver(broker, stream)
    (fault,) = await faults(ledgers)
    assert "a stretch is missing or doubled" in fault.what
    assert fault.index == len(broker.plain) - 1


async def test_a_batch_twice() -> None:
    ledgers, broker = exchange()
    stream = ledgers.open(broker, PEOPLE[0], "crash-reports")
    before = stream.standing()
    ledgers.deliver(broker, stream)
    stream.next, stream.since = list(before["next"]), before  # type: ignore[arg-type]
    ledgers.deliver(broker, stream)
    (fault,) = await faults(ledgers)
    assert "a stretch is missing or doubled" in fault.what


async def test_more_acknowledged_than_handed_out() -> None:
    ledgers, broker = exchange()
    stream = ledgers.open(broker, PEOPLE[0], "crash-reports", "main")
    ledgers.deliver(broker, stream)
    ledgers.lie = once("acknowledged", lies("acknowledged.0.to.0", lambda position: position + 3))
    ledgers.acknowledge(broker, [stream])
    acknowledged = len(broker.plain) - 1
    ledgers.lie = None
    ledgers.close(broker, stream)
    (fault,) = await faults(ledgers)
    assert (fault.index, "more was acknowledged" in fault.what) == (acknowledged, True)


class TestLives:
    async def test_a_subscription_that_leaps_over_what_it_was_not_handed(self) -> None:
        ledgers, broker = exchange()
        stream = ledgers.open(broker, PEOPLE[0], "crash-reports", "main")
        ledgers.deliver(broker, stream)
        ledgers.acknowledge(broker, [stream])
        ledgers.close(broker, stream)
        key = ("transport", "analyst-1", "main")
        epoch, positions = ledgers.store[key]
        ledgers.store[key] = (epoch, [position + 2 for position in positions])
        ledgers.open(broker, PEOPLE[0], "crash-reports", "main")
        (fault,) = await faults(ledgers)
        assert "goes on from where neither" in fault.what
        assert fault.index == len(broker.plain) - 1

    async def test_a_subscription_that_falls_back(self) -> None:
        """What was acknowledged is not delivered again, unless a call moved the subscription."""
        for told in (True, False):
            ledgers, broker = exchange()
            stream = ledgers.open(broker, PEOPLE[0], "crash-reports", "main")
            ledgers.deliver(broker, stream)
            ledgers.acknowledge(broker, [stream])
            ledgers.close(broker, stream)
            if told:
                ledgers.seek(broker, PEOPLE[0], "crash-reports", "main")
            else:
                ledgers.store["transport", "analyst-1", "main"] = (1_001, [0, 0])
            ledgers.open(broker, PEOPLE[0], "crash-reports", "main")
            assert bool(await faults(ledgers)) is not told

    async def test_what_is_acknowledged_while_a_call_moves_the_subscription(self) -> None:
        """The call has said where it found it, and the stream's client acknowledges more before it is moved."""
        ledgers, broker = exchange()
        stream = ledgers.open(broker, PEOPLE[0], "crash-reports", "main")
        ledgers.deliver(broker, stream)
        ledgers._close_others = lambda *_: False  # type: ignore[method-assign]
        ledgers.seek(broker, PEOPLE[0], "crash-reports", "main")
        moved = ledgers.store["transport", "analyst-1", "main"]
        ledgers.acknowledge(broker, [stream])
        ledgers.store["transport", "analyst-1", "main"] = moved
        ledgers.close(broker, stream, "SUBSCRIPTION_TAKEN_OVER")
        ledgers.open(broker, PEOPLE[0], "crash-reports", "main")
        assert await faults(ledgers) == []

    async def test_two_streams_of_one_epoch(self) -> None:
        ledgers = FakeLedgers(seed=12, instances=("broker", "second"))
        broker, second = ledgers.instances.values()
        ledgers.open(broker, PEOPLE[0], "crash-reports", "main")
        epoch, positions = ledgers.store["transport", "analyst-1", "main"]
        ledgers.store["transport", "analyst-1", "main"] = (epoch - 1, positions)
        ledgers._close_others = lambda *_: False  # type: ignore[method-assign]
        ledgers.open(second, PEOPLE[0], "crash-reports", "main")
        assert any("two streams of a subscription" in fault.what for fault in await faults(ledgers))

    async def test_a_life_over_two_instances_joins(self) -> None:
        ledgers = FakeLedgers(seed=12, instances=("broker", "second"))
        broker, second = ledgers.instances.values()
        for _ in range(10):
            ledgers.publish(broker, "crash-reports", 4)
        for instance in (broker, second, broker, second):
            stream = ledgers.open(instance, PEOPLE[0], "crash-reports", "main")
            ledgers.deliver(instance, stream)
            ledgers.acknowledge(instance, [stream])
            ledgers.now_ms += 1_000
        assert await faults(ledgers) == []

    async def test_a_stream_id_on_two_instances(self) -> None:
        ledgers = FakeLedgers(seed=12, instances=("broker", "second"))
        broker, second = ledgers.instances.values()
        ledgers.publish(broker, "crash-reports", 4)
        stream = ledgers.open(broker, PEOPLE[2], "crash-reports")
        second.streams.append(stream)
        ledgers.deliver(second, stream)
        (fault,) = await faults(ledgers)
        assert (fault.instance, "instance broker has opened" in fault.what) == ("second", True)


class TestStreams:
    async def test_opened_twice(self) -> None:
        ledgers, broker = exchange()
        stream = ledgers.open(broker, PEOPLE[0], "crash-reports")
        who, named = PEOPLE[0].who(), stream.named()
        ledgers.write(broker, "stream_opened", who=who, stream=named, decisions=[])
        assert any("open before" in fault.what for fault in await faults(ledgers))

    @pytest.mark.parametrize("subscription", ["", "main"])
    async def test_after_its_end(self, subscription: str) -> None:
        ledgers, broker = exchange(400)
        stream = ledgers.open(broker, PEOPLE[0], "crash-reports", subscription)
        ledgers.deliver(broker, stream)
        ledgers.close(broker, stream)
        for _ in range(300):  # so that another piece meets it
            ledgers.small(broker)
        broker.streams.append(stream)
        ledgers.deliver(broker, stream)
        (fault,) = await faults(ledgers)
        assert (fault.index, "goes on after its end" in fault.what) == (len(broker.plain) - 1, True)

    async def test_that_the_rulebook_refused(self) -> None:
        ledgers, broker = exchange()
        ledgers.lie = once("stream_opened", lies("decisions.0.output.effect", lambda _: "withhold"))
        ledgers.open(broker, PEOPLE[0], "crash-reports")
        (fault,) = await faults(ledgers)
        assert "does not permit" in fault.what

    async def test_an_end_that_is_not_where_it_stood(self) -> None:
        ledgers, broker = exchange()
        stream = ledgers.open(broker, PEOPLE[0], "crash-reports")
        ledgers.deliver(broker, stream)
        ledgers.lie = once("stream_closed", lies("end.standing.next.0", more))
        ledgers.close(broker, stream)
        (fault,) = await faults(ledgers)
        assert "ends elsewhere" in fault.what

    @pytest.mark.parametrize(
        ("path", "other", "said"),
        [
            ("0.input.subject.id", "analyst-2", "a decision about another"),
            ("0.input.subject.agency", "ems", "a decision about another"),
            ("0.input.topic", "alerts", "a decision about another"),
            ("0.input.action", "deliver", "a decision about another"),
            ("0.input", None, "documented form"),
        ],
    )
    async def test_an_end_by_a_decision_about_another(self, path: str, other: object, said: str) -> None:
        ledgers, broker = exchange()
        ledgers.close(broker, ledgers.open(broker, PEOPLE[0], "crash-reports"), "POLICY_DENIED")
        assert await faults(ledgers) == []
        ledgers.lie = once("stream_closed", lies(f"end.decisions.{path}", lambda _: other))
        ledgers.close(broker, ledgers.open(broker, PEOPLE[0], "crash-reports"), "POLICY_DENIED")
        (fault,) = await faults(ledgers)
        assert (said in fault.what, fault.index) == (True, len(broker.plain) - 1)


async def test_a_lag_is_made_up_for_or_nothing_joins() -> None:
    """With an owner lagging, a record of another owner there is outside of what was dealt with."""
    for told in ("highway-patrol", "ems"):
        ledgers, broker = exchange(withhold=False)
        ledgers.withhold = True
        stream = ledgers.open(broker, PEOPLE[2], "crash-reports")
        chances = iter([0.9, 0.9, 0.001])
        ledgers.random.random = lambda chances=chances: next(chances, 0.9)  # type: ignore[misc,method-assign]
        ledgers.deliver(broker, stream)
        assert stream.lags and broker.plain[-1].kind == "delivery"
        ledgers.lie = once("delivery", lies("decisions.0.input.record.agency", lambda _, told=told: told))
        ledgers.deliver(broker, stream)
        assert not stream.lags
        found = await faults(ledgers)
        assert any("lies outside what was considered" in fault.what for fault in found) == (told == "ems")
        assert bool(found) == (told == "ems")


async def test_a_configuration_of_another_instance() -> None:
    ledgers, broker = exchange()
    ledgers.lie = once("configuration", lies("start.instance", lambda _: "second"))
    ledgers.restart(broker)
    (fault,) = await faults(ledgers)
    assert "another instance or epoch" in fault.what
