"""Offset-complete: whatever streams do, their entries join without hole or overlap and count every record once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.core.decide import Question
from broker.core.deliver import admission, collect, group, history, standing
from broker.core.deliver.session import Session
from broker.core.ledger.runs import places_of
from broker.errors import EntenteError
from broker.model.decision import Decision, Effect
from protos.entente.v1.exchange_pb2 import SubscribeResponse
from tests.fakes.chains import Place, entry_of, read_chains
from tests.fakes.delivery import RELEASE, WITHHOLD, label_of, owner_of
from tests.fakes.streams import StreamWorld

NOTICE = Decision(Effect.NOTICE)
OWNERS = ("alpha", "beta", "gamma")

STEPS: dict[str, tuple[int, st.SearchStrategy[tuple[Any, ...]]]] = {
    "store": (
        8,
        st.tuples(st.sampled_from(OWNERS), st.integers(0, 1), st.sampled_from(["green", "red", "red"])),
    ),
    "open_stream": (3, st.tuples(st.integers(0, 2), st.sampled_from(["", "", "s"]), st.integers(0, 6))),
    "grant": (4, st.tuples(st.integers(0, 5), st.integers(1, 3))),
    "refresh": (4, st.tuples(st.integers(0, 5), st.sampled_from([True, True, False]))),
    "read": (3, st.tuples(st.integers(0, 5), st.booleans())),
    "leave": (1, st.tuples(st.integers(0, 5))),
    "silence": (1, st.tuples(st.sets(st.sampled_from(OWNERS), max_size=2))),
    "fail": (1, st.tuples(st.integers(1, 2))),
    "hold": (2, st.tuples(st.booleans())),
    "turns": (6, st.tuples(st.integers(1, 40))),
}
"""What may happen next, how often, and with which arguments."""

step = st.sampled_from([name for name, (weight, _) in STEPS.items() for _ in range(weight)]).flatmap(
    lambda name: st.tuples(st.just(name), STEPS[name][1])
)


@dataclass(eq=False)
class Client:
    """A stream, what it does now, and what it was handed: places by batch. stayed: until nothing more was to come."""

    session: Session
    subject: str
    task: asyncio.Task[None] | None = None
    places: list[list[Place]] = field(default_factory=list)
    stayed: bool = False


class Run:
    """One random interleaving."""

    def __init__(self) -> None:
        self.world = StreamWorld(partitions=2)
        self.world.decider.answer = self.answer
        self.silent: set[str] = set()
        self.open: list[Client] = []
        self.all: list[Client] = []
        self.closing: list[asyncio.Task[None]] = []
        self.stored = 0

    def answer(self, question: Question) -> Decision | None:
        """What is released depends on label and role; owners may be silent, which makes their records lag."""
        if question.item["action"] != "deliver":
            return RELEASE
        if owner_of(question) in self.silent:
            return None
        if "guest" in str(question.item["subject"]):
            return NOTICE if owner_of(question) == "gamma" else WITHHOLD
        return RELEASE if label_of(question) == "green" else WITHHOLD

    async def do(self, what: str, *arguments: Any) -> None:
        """One step, and a turn for everybody else."""
        await getattr(self, what)(*arguments)
        await asyncio.sleep(0)

    async def store(self, owner: str, partition: int, label: str) -> None:
        self.stored += 1
        await self.world.store(owner, str(self.stored), partition=partition, label=label)

    async def open_stream(self, person: int, subscription: str, records: int) -> None:
        subject = f"p-{person}"
        opening = self.world.open(subject, subscription=subscription, records=records)
        try:
            session = await asyncio.wait_for(opening, 0.001) if self.world.ledger.hold else await opening
        except (EntenteError, TimeoutError):
            return
        self.all.append(client := Client(session, subject))
        self.open.append(client)

    async def grant(self, number: int, records: int) -> None:
        if client := self.pick(number):
            self.world.grant(client.session, records)

    async def refresh(self, number: int, changed: bool) -> None:
        client = self.pick(number)
        if client is not None and (client.task is None or client.task.done()):
            is_reader = "reader" in client.session.principal.roles
            role = "reader" if is_reader != changed else "guest"
            principal = replace(self.world.principal(client.subject, role=role), token_id=f"t-{self.stored}")
            client.task = asyncio.ensure_future(self._refresh(client, principal))

    async def _refresh(self, client: Client, principal: Any) -> None:
        try:
            await self.world.streams.refresh(client.session, principal)
        except EntenteError as error:
            client.session.fail(error)

    async def read(self, number: int, acknowledge: bool) -> None:
        client = self.pick(number)
        while client is not None and client.session._outbox:
            outgoing = client.session._outbox.popleft()
            self.world.fanout.written(client.session, outgoing)
            response = SubscribeResponse.FromString(outgoing.message)
            if response.WhichOneof("message") != "batch":
                continue
            batch = response.batch
            # Evidence first: the entry is there, is about exactly this, and names this stream.
            body: Any = entry_of(self.world, batch, client.subject).body
            assert client.session.stream in [receiver["stream"] for receiver in body["receivers"]]
            client.places.append([(partition, offset) for partition, offset, _ in places_of(body["places"])])
            if acknowledge:
                with contextlib.suppress(EntenteError):
                    await self.world.streams.acknowledge(client.session, batch.cursor)

    async def leave(self, number: int) -> None:
        if client := self.pick(number):
            await self.read(number, False)
            self.open.remove(client)
            self.closing.append(asyncio.ensure_future(self._close(client)))

    async def _close(self, client: Client) -> None:
        if client.task is not None:  # as the servicer does: what runs beside a stream ends before it
            client.task.cancel()
            await asyncio.gather(client.task, return_exceptions=True)
        await self.world.streams.close(client.session, "cancelled")

    async def silence(self, owners: set[str]) -> None:
        self.silent = set(owners)

    async def fail(self, count: int) -> None:
        self.world.ledger.failures = count

    async def hold(self, held: bool) -> None:
        if self.world.ledger.hold is not None:
            self.world.ledger.hold.set()
        self.world.ledger.hold = asyncio.Event() if held else None

    async def turns(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    def pick(self, number: int) -> Client | None:
        return self.open[number % len(self.open)] if self.open else None

    async def finish(self) -> None:
        """Everybody reads to the end and leaves."""
        await self.hold(False)
        self.world.ledger.failures, self.silent = 0, set()
        for client in self.open:
            if client.task is not None:
                await client.task
            self.world.grant(client.session, 100)
        await self.world.idle()
        for client in self.open:
            client.stayed = client.session.is_open
        while self.open:
            await self.leave(0)
        await asyncio.gather(*self.closing)
        await self.world.close()


steps_of_a_run = st.lists(step, min_size=40, max_size=100)


@given(steps=steps_of_a_run)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_entries_of_a_stream_join_whatever_happens(steps: list[tuple[str, tuple[Any, ...]]]) -> None:
    with quick():
        asyncio.run(run(steps))


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@given(steps=steps_of_a_run)
@settings(max_examples=3_000, deadline=None, suppress_health_check=list(HealthCheck))
def test_entries_of_a_stream_join_whatever_happens_for_long(steps: list[tuple[str, tuple[Any, ...]]]) -> None:
    with quick():
        asyncio.run(run(steps))


async def run(steps: list[tuple[str, tuple[Any, ...]]]) -> None:
    """Do it, then read the ledger."""
    made = Run()
    for what, arguments in steps:
        await made.do(what, *arguments)
    await asyncio.wait_for(made.finish(), 60)
    check(made)


def check(made: Run) -> None:
    """What the ledger says of the streams against what they were handed."""
    chains = read_chains(made.world.log, made.world.ledger.entries)
    for client in made.all:
        chain = chains[client.session.stream]
        assert chain.ended == "cancelled"
        named = [places for places in chain.handed_out if places]
        # The last batches of a stream that ended may be accounted for and not have been read.
        assert client.places == (named if client.stayed else named[: len(client.places)])
        if "refreshed" not in chain.moves:
            handed = [place for places in named for place in places]
            assert len(set(handed)) == len(handed), "one place in two entries of a stream"


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """Nothing waits long, and whatever is bounded is bounded by little."""
    with (
        mock.patch.object(group, "BACKOFF_S", (0.0, 0.0005)),
        mock.patch.object(collect, "LINGER_S", 0.0),
        mock.patch.object(admission, "RETRY_S", 0.001),
        mock.patch.object(standing, "MAX_LAGS", 2),
        mock.patch.object(history, "MAX_DECISIONS", 2),
        mock.patch.object(history, "MAX_HISTORIES", 2),
    ):
        yield
