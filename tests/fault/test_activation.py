"""Another revision on two instances over Kafka, under streams and a steady rate: nothing older after Activate, nothing lost.

In short with every run of the tests, and at length with `make soak`: the same code.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import grpc
import pytest

from broker.core.control.desk import Enacted
from broker.core.rulebook.load import read_rulebook, revision_of
from broker.errors import EntenteError, Reason
from broker.model.rulebook import Revision
from deploy.kafka.node import KafkaNode
from protos.entente.v1 import exchange_pb2
from protos.entente.v1.exchange_pb2 import SubscribeRequest
from tests.services.broker import BrokerProcess, vulnerability
from tests.services.operator import Ends, Operator, operating
from tests.services.traffic import Failures, Reader

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]

log = logging.getLogger(__name__)

LANES = ("east", "west")
BATCH = 2
LIMITS = {"heartbeat_s": 0.2, "drain_s": 0.0, "publish_records_per_s": 1_000_000}
MARK = "delete-after-90-days"
AGREEMENTS = "data/agreements/cyber-centre/data.yaml"
PATIENCE_S = 120.0
WHILE_ONE_IS_GONE = frozenset({"", "DRAINING", "LEDGER_UNAVAILABLE", "STORAGE_UNAVAILABLE"})


@dataclass(frozen=True)
class Length:
    """How many streams there are, how often is switched, and how long a publisher waits between batches.

    rejoins: whether the instance that was fenced is started again.
    """

    streams: int
    activations: int
    pause_s: float
    rejoins: bool


SHORT = Length(streams=10, activations=3, pause_s=0.05, rejoins=False)
LONG = Length(streams=100, activations=20, pause_s=0.4, rejoins=True)
LENGTHS = [
    pytest.param(SHORT, id="short"),
    pytest.param(LONG, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(1_800)]),
]
AT_LENGTH = [pytest.param(LONG, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(1_800)])]


class Watcher(Reader):
    """Notes under which obligations each record came, and how long nothing did; may be sent to another instance."""

    def __init__(self, broker: BrokerProcess, name: str, failures: Failures) -> None:
        super().__init__(broker, LANES, failures=failures, name=name)
        self.name = name
        self.failures = failures.seen
        self.came: dict[str, tuple[bool, float]] = {}
        self.arrivals: list[float] = []

    def move(self, broker: BrokerProcess) -> None:
        """Go on there as soon as the present stream has ended."""
        self._broker = broker

    async def run(self, until: int) -> None:
        while min(self.received.values()) < until:
            async with self._broker.channel() as channel:
                try:
                    await self._stream(channel, until)
                except grpc.aio.AioRpcError as error:
                    await self._failures.note(error)

    async def _take(
        self,
        call: grpc.aio.StreamStreamCall[SubscribeRequest, exchange_pb2.SubscribeResponse],
        batch: exchange_pb2.Batch,
        following: dict[str, int],
        sent: dict[bytes, dict[str, int]],
    ) -> None:
        now_s = time.monotonic()
        self.arrivals.append(now_s)
        for delivery in batch.deliveries:
            self.came[delivery.record.id] = (MARK in delivery.disclosure.obligations, now_s)
        await super()._take(call, batch, following, sent)

    def longest_pause_s(self, begin_s: float, end_s: float) -> float:
        """Within this time."""
        seen = [begin_s, *(at for at in self.arrivals if begin_s <= at <= end_s), end_s]
        return max(after - before for before, after in pairwise(seen))


@dataclass
class Lanes:
    """Publishes at a steady rate until told to stop; each batch again until it is acknowledged."""

    broker: BrokerProcess
    pause_s: float
    permitted: frozenset[str]
    acknowledged: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LANES, 0))
    stop: bool = False

    async def run(self) -> None:
        failures = Failures(self.permitted)
        async with self.broker.channel() as channel:
            while not self.stop:
                for lane, number in self.acknowledged.items():
                    ids = range(number, number + BATCH)
                    batch = [vulnerability(f"{lane}/{each}", partition_key=lane) for each in ids]
                    try:
                        results = await self.broker.publish(channel, batch)
                    except grpc.aio.AioRpcError as error:
                        await failures.note(error)
                        continue
                    assert all(result.HasField("accepted") for result in results), results
                    self.acknowledged[lane] += BATCH
                await asyncio.sleep(self.pause_s)


@dataclass(frozen=True)
class Switch:
    """One activation: its revision, where the ledgers ended when it was asked for and when it had returned."""

    revision: Revision
    marked: bool
    asked: Ends
    done: Ends
    published: dict[str, int]
    took_ms: float
    begin_s: float
    end_s: float


@dataclass
class Scene:
    """Two instances, streams on both, a publisher, and who activates."""

    first: BrokerProcess
    second: BrokerProcess
    operator: Operator
    lanes: Lanes
    watchers: Sequence[Watcher]
    revisions: Sequence[Revision]
    running: list[asyncio.Task[None]] = field(default_factory=list)
    switches: list[Switch] = field(default_factory=list)

    async def activate(self, number: int) -> Enacted:
        """Put one of the two revisions in force, and let some records pass under it."""
        revision = self.revisions[number % 2]
        asked, begin_s = await self.operator.ledger_ends(), time.monotonic()
        enacted = await self.operator.activate(revision)
        end_s, published = time.monotonic(), dict(self.lanes.acknowledged)
        done = await self.operator.ledger_ends()
        took_ms = (end_s - begin_s) * 1000
        self.switches.append(
            Switch(revision, bool(number % 2), asked, done, published, took_ms, begin_s, end_s)
        )
        return enacted

    async def received(self, watchers: Sequence[Watcher], more: int = 2 * BATCH) -> None:
        """Until all of these have so many of each lane, more than are acknowledged now."""
        aims = {lane: number + more for lane, number in self.lanes.acknowledged.items()}
        give_up_s = time.monotonic() + PATIENCE_S
        while behind := [w for w in watchers if any(w.received[lane] < aim for lane, aim in aims.items())]:
            for task in self.running:
                assert not task.done(), task.exception()
            assert time.monotonic() < give_up_s, [(w.name, w.streams, w.received, w.failures) for w in behind]
            await asyncio.sleep(0.02)

    async def check_ledger(self) -> None:
        """Between an activation's return and the next one's call every release is under its revision."""
        deliveries = await self.operator.entries("delivery")
        for number, switch in enumerate(self.switches):
            later = self.switches[number + 1].asked if number + 1 < len(self.switches) else None
            within = [
                each
                for each in deliveries
                if each.offset >= switch.done[each.partition]
                and (later is None or each.offset < later[each.partition])
            ]
            assert within, "nothing was released in between"
            rules = [each.entry.body["rules"] for each in within]
            assert {rule["revision"] for rule in rules if isinstance(rule, dict)} == {switch.revision.id}

    def check_streams(self) -> None:
        """Nothing is lost; what is published after a return, and comes before the next call, comes under its revision."""
        for watcher in self.watchers:
            assert watcher.received == self.lanes.acknowledged
            every = {
                f"{lane}/{number}" for lane, count in watcher.received.items() for number in range(count)
            }
            assert set(watcher.came) == every
            for number, switch in enumerate(self.switches):
                last = number + 1 == len(self.switches)
                until_s = float("inf") if last else self.switches[number + 1].begin_s
                for lane in LANES:
                    # The batch that was on its way when it returned may have been stored before.
                    begin = switch.published[lane] + BATCH
                    came = [watcher.came[f"{lane}/{each}"] for each in range(begin, watcher.received[lane])]
                    assert {marked for marked, at in came if at < until_s} <= {switch.marked}, (lane, number)

    def tell(self) -> None:
        """Figures; the machine's load is in them."""
        took = sorted(switch.took_ms for switch in self.switches)
        pauses = sorted(
            watcher.longest_pause_s(switch.begin_s, switch.end_s + 1.0) * 1000
            for switch in self.switches
            for watcher in self.watchers
        )
        line = (
            f"{len(self.watchers)} streams, {len(took)} activations: call to return"
            f" p50 {quantile(took, 0.5):.0f} ms, p99 {quantile(took, 0.99):.0f} ms;"
            f" longest time without a batch p50 {quantile(pauses, 0.5):.0f} ms, p99 {quantile(pauses, 0.99):.0f} ms"
            f" at one batch each {self.lanes.pause_s * 1000:.0f} ms"
        )
        log.warning("%s", line)


def quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def two_revisions(directory: Path) -> tuple[Revision, Revision]:
    """As it is, and with an obligation on every vulnerability for partner-cert."""
    present = read_rulebook(directory / "rulebook")
    text = present.files[AGREEMENTS].decode()
    head, name, tail = text.partition("partner-cert-cyber-defence:")
    changed = head + name + tail.replace("obligations: []", f"obligations: [{MARK}]", 1)
    other = revision_of({**present.files, AGREEMENTS: changed.encode()})
    assert other.id != present.id
    return present, other


@asynccontextmanager
async def scene(
    kafka: KafkaNode, directory: Path, length: Length, *, lease_s: float, permitted: frozenset[str]
) -> AsyncIterator[Scene]:
    """All runs inside the block; at its end all that was published has come, and the ledger is looked at."""
    first = BrokerProcess(directory / "first", kafka=kafka.bootstrap, limits=LIMITS)
    first.change({"control": {"lease_s": lease_s}})
    second = BrokerProcess.beside(first, directory / "second")
    try:
        await asyncio.gather(*(asyncio.to_thread(each.start) for each in (first, second)))
        async with operating(kafka.bootstrap, first) as operator:
            revisions = two_revisions(first.directory)
            await operator.store(revisions[1])
            await operator.approve(revisions[1])
            made = Scene(first, second, operator, Lanes(first, length.pause_s, permitted), [], revisions)
            made.watchers = [
                Watcher((first, second)[number % 2], f"stream-{number}", Failures(permitted))
                for number in range(length.streams)
            ]
            async with busy(made):
                yield made
            made.tell()
            made.check_streams()
            await made.check_ledger()
    finally:
        with contextlib.suppress(AssertionError):
            second.signal(signal.SIGCONT)  # it may be asleep still if the test failed
        await asyncio.gather(*(asyncio.to_thread(each.stop) for each in (first, second)))


@asynccontextmanager
async def busy(made: Scene) -> AsyncIterator[None]:
    """Streams and a publisher inside the block; afterwards everything that was published has come everywhere."""
    made.running = [asyncio.create_task(watcher.run(1 << 60)) for watcher in made.watchers]
    publishing = asyncio.create_task(made.lanes.run())
    try:
        await made.received(made.watchers, more=1)
        yield
        made.lanes.stop = True
        await publishing
        await made.received(made.watchers, more=0)
    finally:
        for task in (publishing, *made.running):
            task.cancel()
        await asyncio.gather(publishing, *made.running, return_exceptions=True)


@pytest.mark.parametrize("length", LENGTHS)
async def test_nothing_older_is_released_once_an_activation_has_returned_and_one_that_sleeps_is_fenced(
    kafka_node: KafkaNode, tmp_path: Path, length: Length
) -> None:
    async with scene(kafka_node, tmp_path, length, lease_s=8.0, permitted=WHILE_ONE_IS_GONE) as made:
        for number in range(1, length.activations + 1):
            assert (await made.activate(number)).fenced == ()
            await made.received(made.watchers)
        made.second.signal(signal.SIGSTOP)
        asleep = await made.activate(length.activations + 1)
        assert asleep.fenced == ("second",) and made.operator.fenced == ["second"]
        await made.received(made.watchers[::2])
        if not length.rejoins:
            for watcher in made.watchers:
                watcher.move(made.first)
        made.second.signal(signal.SIGCONT)
        assert await asyncio.to_thread(made.second.wait) == 1
        assert "gone on without this one" in made.second.log() or "taken over the ledger" in made.second.log()
        if length.rejoins:
            await asyncio.to_thread(made.second.start)
        await made.received(made.watchers)


@pytest.mark.parametrize("length", AT_LENGTH)
async def test_kafka_restarted_during_an_activation_leaves_one_revision_in_force(
    kafka_node: KafkaNode, tmp_path: Path, length: Length
) -> None:
    async with scene(kafka_node, tmp_path, length, lease_s=10.0, permitted=WHILE_ONE_IS_GONE) as made:
        for number in range(1, 5):
            activating = asyncio.create_task(made.activate(number))
            await asyncio.sleep(0.05 * number)
            await asyncio.to_thread(kafka_node.restart)
            with contextlib.suppress(EntenteError):
                await activating
            while not made.switches or made.switches[-1].revision is not made.revisions[number % 2]:
                try:
                    await made.activate(number)
                except EntenteError as error:
                    assert error.reason in (Reason.ACTIVATION_FAILED, Reason.AGREEMENT_UNAVAILABLE), error
            await made.received(made.watchers)
