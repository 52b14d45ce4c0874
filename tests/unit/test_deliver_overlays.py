"""What overlays restrict in delivery: withdrawn records, owners' suspensions, and the notices of withdrawals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from broker.core.deliver.session import Session
from broker.core.deliver.standing import Lag
from broker.core.in_force import Order
from broker.core.overlay.events import suspension_body, withdrawal_body
from broker.core.overlay.fold import OverlayFold
from broker.core.overlay.notice import SOURCE, key_of_partition, notice_record, read_notice
from broker.core.record.fingerprint import identity
from broker.model.control import ControlEvent
from broker.model.overlay import Suspension, SuspensionKind, Withdrawal
from broker.model.partition import partition_for
from protos.entente.v1.exchange_pb2 import Delivery, SubscribeResponse
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.fakes.delivery import TOPIC, TYPE, World

pytestmark = pytest.mark.usefixtures("quick_groups")


class Overlaid(World):
    """A world whose overlays change as events come."""

    def __init__(self) -> None:
        super().__init__(partitions=2)
        self.fold = OverlayFold()

    async def overlay(self, kind: str, body: Any) -> None:
        """An event that counts, and is in force on return."""
        event = ControlEvent(kind, self.clock.now_ms(), "a", body)
        following = self.fold.apply(event, 0)
        assert following is not None
        self.fold = following
        regime = self.in_force.present.regime
        await asyncio.wait_for(self.in_force.replace(Order(regime, self.fold.overlays)), 10)

    async def suspend(self, kind: SuspensionKind, target: str, owner: str, **times: int) -> None:
        """An owner's suspension, with the id s1."""
        suspension = Suspension(
            "s1", kind, target, owner, "why", owner, "admin", self.clock.now_ms(), **times
        )
        await self.overlay("suspended", suspension_body(suspension))

    async def withdraw(self, owner: str, record_id: str) -> Withdrawal:
        """A record of `store`."""
        source = f"//{owner}/x"
        new = Withdrawal(
            source, record_id, identity(source, record_id), owner, "wrong", True, owner, "admin", 0, "a"
        )
        await self.overlay("withdrawn", withdrawal_body(new))
        return new

    async def notify(self, withdrawal: Withdrawal, *agencies: str) -> None:
        """Store its notice for these agencies."""
        record = notice_record(withdrawal, TYPE, "ask@owner", agencies, self.clock.now_ms(), b"k")
        await self.log.add(0, record.body, record.recorded_ms)


@pytest.fixture
async def world() -> AsyncIterator[Overlaid]:
    made = Overlaid()
    yield made
    await made.close()


async def deliveries(world: World, session: Session, count: int) -> list[Delivery]:
    """The next so many."""
    found: list[Delivery] = []
    while len(found) < count:
        outgoing = await asyncio.wait_for(session.next(), 10)
        assert outgoing is not None, "the stream ended"
        found.extend(SubscribeResponse.FromString(outgoing.message).batch.deliveries)
        world.fanout.written(session, outgoing)
    assert len(found) == count
    return found


async def test_a_withdrawn_record_is_not_delivered_and_leaves_no_gap(world: Overlaid) -> None:
    for number in range(4):
        await world.store("alpha", str(number))
    await world.withdraw("alpha", "1")
    session = world.session(records=100)
    assert await world.receive(session, 3) == ["0", "2", "3"]
    assert session.standing.cursor == (4, 0)
    (entry,) = world.ledger.of("delivery")
    considered = cast(list[Any], entry.body["considered"])
    assert considered[0]["outcomes"] == {"release": 3, "withdrawn": 1}
    assert cast(Any, entry.body["rules"])["overlays"] == 1


async def test_only_the_record_of_that_source_and_id_is_withdrawn(world: Overlaid) -> None:
    await world.withdraw("alpha", "1")
    await world.store("beta", "1")
    await world.store("alpha", "11")
    assert await world.receive(world.session(records=100), 2) == ["1", "11"]


async def test_what_was_prepared_before_the_withdrawal_is_not_released_after_it(world: Overlaid) -> None:
    """The ledger holds the first batch's entry; the batch that was prepared behind it holds the record."""
    world.ledger.hold = asyncio.Event()
    session = world.session(records=100)
    await world.store("alpha", "0")
    await asyncio.wait_for(world.ledger.asked.wait(), 10)
    await world.store("alpha", "1")
    await world.idle()
    changing = asyncio.ensure_future(world.withdraw("alpha", "1"))
    await asyncio.sleep(0)
    assert not changing.done(), "an entry under what was in force before may still become durable"
    world.ledger.hold.set()
    await changing
    released = len(world.ledger.released())
    await world.store("alpha", "2")
    assert await world.receive(session, 2) == ["0", "2"]
    assert len(world.ledger.released()) == released + 1


async def test_an_owners_records_wait_for_the_agency_and_come_when_it_is_lifted(world: Overlaid) -> None:
    await world.suspend(SuspensionKind.AGENCY, "consumer", "alpha")
    for number, owner in enumerate(["beta", "alpha", "beta", "alpha"]):
        await world.store(owner, f"{owner}-{number}")
    held, free = world.session(records=100), world.session("p-2", agency="other", records=100)
    assert await world.receive(held, 2) == ["beta-0", "beta-2"]
    assert await world.receive(free, 4) == ["beta-0", "alpha-1", "beta-2", "alpha-3"]
    assert held.standing.lags == (Lag(0, "alpha", 1),)
    assert held.is_open, "nobody is told"
    await world.overlay("lifted", {"id": "s1", "by": {"agency": "alpha", "subject": "admin"}})
    assert await world.receive(held, 2) == ["alpha-1", "alpha-3"]
    assert held.standing.cursor == (4, 0)


async def test_an_owners_records_wait_on_a_topic_for_everybody(world: Overlaid) -> None:
    await world.suspend(SuspensionKind.TOPIC, TOPIC, "alpha")
    await world.store("alpha", "a")
    await world.store("beta", "b")
    for agency in ("consumer", "alpha"):
        assert await world.receive(world.session(agency=agency, records=100), 1) == ["b"]
    assert world.ledger.released() == [(0, 1), (0, 1)]


async def test_a_suspension_on_another_topic_holds_nothing_up(world: Overlaid) -> None:
    await world.suspend(SuspensionKind.TOPIC, "another", "alpha")
    await world.store("alpha", "a")
    assert await world.receive(world.session(records=100), 1) == ["a"]


async def test_a_suspension_that_ends_by_its_time_needs_no_event(world: Overlaid) -> None:
    await world.suspend(SuspensionKind.AGENCY, "consumer", "alpha", until_ms=world.clock.now_ms() + 60_000)
    await world.store("alpha", "a")
    await world.store("beta", "b")
    session = world.session(records=100)
    assert await world.receive(session, 1) == ["b"]
    world.clock.advance(61)
    assert await world.receive(session, 1) == ["a"]


async def test_what_waits_costs_no_reading(world: Overlaid) -> None:
    await world.suspend(SuspensionKind.AGENCY, "consumer", "alpha")
    await world.store("alpha", "a")
    await world.store("beta", "b")
    session = world.session(records=100)
    assert await world.receive(session, 1) == ["b"]
    positions = []
    read = world.log.read

    async def noted(topic: str, where: Any, **how: Any) -> Any:
        positions.append(where)
        return await read(topic, where, **how)

    world.log.read = noted  # type: ignore[method-assign]
    await world.store("beta", "c")
    assert await world.receive(session, 1) == ["c"]
    assert all(where[0] >= 2 for where in positions), "the records that wait are read again and again"


async def test_a_notice_reaches_exactly_the_agencies_that_were_handed_the_record(world: Overlaid) -> None:
    await world.store("alpha", "1")
    withdrawal = await world.withdraw("alpha", "1")
    await world.notify(withdrawal, "consumer", "third")
    await world.store("beta", "2")
    told, other = world.session(records=100), world.session("p-2", agency="other", records=100)
    notice, record = await deliveries(world, told, 2)
    assert (notice.withdrawal.source, notice.withdrawal.id, notice.withdrawal.type) == (
        "//alpha/x",
        "1",
        TYPE,
    )
    assert (notice.withdrawal.owner, notice.withdrawal.contact) == ("alpha", "ask@owner")
    assert notice.withdrawal.reason == "wrong"
    assert b"third" not in notice.SerializeToString(), "who else was handed it is nobody's to know"
    assert record.record.id == "2"
    (only,) = await deliveries(world, other, 1)
    assert only.record.id == "2"
    assert told.standing.cursor == other.standing.cursor == (3, 0)


async def test_a_notice_is_accounted_for_like_a_record(world: Overlaid) -> None:
    withdrawal = await world.withdraw("alpha", "1")
    await world.notify(withdrawal, "consumer")
    await deliveries(world, world.session(records=100), 1)
    (entry,) = world.ledger.of("delivery")
    told = {"source": "//alpha/x", "id": "1", "owner": "alpha"}
    assert entry.body["decisions"] == [{"withdrawal": told, "output": {"effect": "withdrawal"}}]
    assert world.ledger.released() == [(0, 0)]
    considered = cast(list[Any], entry.body["considered"])
    assert considered[0]["outcomes"] == {"withdrawal": 1}


async def test_a_notice_waits_for_credit(world: Overlaid) -> None:
    await world.notify(await world.withdraw("alpha", "1"), "consumer")
    session = world.session()
    await world.idle()
    assert world.ledger.released() == []
    world.grant(session, 1)
    await deliveries(world, session, 1)


def test_a_reason_is_told_only_if_its_owner_wants_it() -> None:
    quiet = Withdrawal("//a/x", "1", b"i" * 16, "a", "secret reason", False, "a", "admin", 0, "a")
    record = notice_record(quiet, TYPE, "c", ["b"], 0, b"k")
    assert b"secret reason" not in record.body


def test_a_notice_is_nothing_that_a_partner_could_publish() -> None:
    """Sources of partners begin with `//<agency>/` (SOURCE_FORGED else); that of a notice does not."""
    withdrawal = Withdrawal("//a/x", "1", b"i" * 16, "a", "r", True, "a", "admin", 0, "a")
    event = CloudEvent.FromString(notice_record(withdrawal, TYPE, "c", ["b"], 0, b"k").body)
    assert event.source == SOURCE
    assert read_notice(event) is not None
    event.source = "//a/withdrawals"
    assert read_notice(event) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"source":1}'])
def test_what_is_no_notice_tells_nobody_anything(text: str) -> None:
    event = CloudEvent(
        id="x", source=SOURCE, spec_version="1.0", type="entente.withdrawal.v1", text_data=text
    )
    assert read_notice(event) is None


@pytest.mark.parametrize("partitions", [1, 2, 7, 64])
def test_a_notice_follows_the_record_in_its_partition(partitions: int) -> None:
    withdrawal = Withdrawal("//a/x", "1", b"i" * 16, "a", "r", True, "a", "admin", 0, "a")
    for partition in range(partitions):
        key = key_of_partition(withdrawal, partition, partitions)
        assert partition_for(key, partitions) == partition
