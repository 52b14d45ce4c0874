"""Whatever streams do while revisions and overlays come and go: each release is by one order, which was in force."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.core.decide import Question
from broker.core.deliver.fanout import Warm
from broker.core.ledger.runs import places_of
from broker.core.record.envelope import source_agency
from broker.model.decision import Decision
from broker.model.ledger import LedgerEntry
from broker.model.overlay import Suspension, SuspensionKind
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.fakes.delivery import RELEASE, WITHHOLD, ScriptedDecider
from tests.unit.test_deliver_chains import OWNERS, STEPS, Run, check, quick

LABELS = ("green", "red")
PEOPLE = ("p-0", "p-1", "p-2")

MORE: dict[str, tuple[int, st.SearchStrategy[tuple[Any, ...]]]] = {
    "switch": (
        6,
        st.tuples(
            st.sets(st.tuples(st.sampled_from(OWNERS), st.sampled_from(LABELS)), max_size=6),
            st.sets(st.sampled_from(PEOPLE), max_size=1),
            st.booleans(),
        ),
    ),
    "suspend": (
        3,
        st.tuples(st.sets(st.tuples(st.sampled_from(OWNERS), st.sampled_from(["", *PEOPLE])), max_size=3)),
    ),
    "mute": (1, st.tuples(st.booleans())),
}
step = st.sampled_from([name for name, (weight, _) in (STEPS | MORE).items() for _ in range(weight)]).flatmap(
    lambda name: st.tuples(st.just(name), (STEPS | MORE)[name][1])
)


@dataclass
class Rulebook:
    """What a revision releases, by owner and label, and to whom nothing at all."""

    released: set[tuple[str, str]]
    denied: set[str] = field(default_factory=set)

    def effect(self, asked: Any) -> str:
        """Of a deliver decision's input."""
        record = asked["record"]
        place = (record["agency"], record["labels"]["dataclassification"])
        return "release" if place in self.released else "withhold"


class OrderedRun(Run):
    """One random interleaving in which what is in force changes."""

    def __init__(self) -> None:
        super().__init__()
        self.rulebooks = [Rulebook({(owner, "green") for owner in OWNERS})]
        self.held: list[set[tuple[str, str]]] = [set()]
        self.muted = False
        self.floors: list[tuple[int, int, int]] = []
        self.world.decider.answer = self.answering(self.rulebooks[0])

    def answering(self, rulebook: Rulebook) -> Any:
        def answer(question: Question) -> Decision | None:
            item = cast(Any, question.item)
            if item["action"] != "deliver":
                if self.muted:
                    return None
                return WITHHOLD if item["subject"]["id"] in rulebook.denied else RELEASE
            if item["record"]["agency"] in self.silent:
                return None
            return RELEASE if rulebook.effect(item) == "release" else WITHHOLD

        return answer

    async def switch(self, released: set[tuple[str, str]], denied: set[str], warm: bool) -> None:
        self.rulebooks.append(Rulebook(set(released), set(denied)))
        decider = ScriptedDecider()
        decider.answer = self.answering(self.rulebooks[-1])
        later = self.world.regime(decider)
        decided: Warm = {}
        if warm:
            await self.world.fanout.warm(later, decided)
        self.noted(self.world.put_in_force(later, decided))

    async def suspend(self, held: set[tuple[str, str]]) -> None:
        """Owners have their records wait, for a person or for everybody."""
        self.held.append(set(held))
        self.noted(
            self.world.restrict(*[suspension(*each) for each in sorted(held)], epoch=len(self.held) - 1)
        )

    async def mute(self, muted: bool) -> None:
        """There is no decision about who may subscribe."""
        self.muted = muted

    def noted(self, over: asyncio.Future[None]) -> None:
        """From the end of the passages on, no entry that releases something may be of an older order."""
        revision, epoch = len(self.rulebooks) - 1, len(self.held) - 1
        over.add_done_callback(
            lambda _: self.floors.append((len(self.world.ledger.entries), revision, epoch))
        )

    async def finish(self) -> None:
        self.muted = False
        await self.suspend(set())
        await super().finish()

    def check(self) -> None:
        """Each entry against the order that it names."""
        for index, entry in enumerate(self.world.ledger.entries):
            rules: Any = entry.body["rules"]
            revision, epoch = int(rules["revision"].removeprefix("sha256:")), rules["overlays"]
            if entry.kind in ("delivery", "stream_opened"):
                for mark, least_revision, least_epoch in self.floors:
                    assert index < mark or (revision >= least_revision and epoch >= least_epoch)
            if entry.kind == "delivery":
                self.check_delivery(entry, self.rulebooks[revision], self.held[epoch])

    def check_delivery(self, entry: LedgerEntry, rulebook: Rulebook, held: set[tuple[str, str]]) -> None:
        body = cast(Any, entry.body)
        people = {receiver["subject"] for receiver in body["receivers"]}
        for receiver in body["receivers"]:
            assert receiver["subject"] not in rulebook.denied
        assert all("under" not in decision for decision in body["decisions"])
        for partition, offset, number in places_of(body["places"]):
            event = CloudEvent.FromString(self.world.log.records[partition][offset].body)
            owner = str(source_agency(event.source))
            assert not {(owner, person) for person in ("", *people)} & held
            assert (owner, event.attributes["dataclassification"].ce_string) in rulebook.released
            assert rulebook.effect(body["decisions"][number]["input"]) == "release"
        for history in body["considered"]:
            for decision, _ in history["withheld"]:
                by = decision.get("under", body["rules"])["revision"]
                made_by = self.rulebooks[int(by.removeprefix("sha256:"))]
                assert made_by.effect(decision["input"]) == "withhold"


def suspension(owner: str, person: str) -> Suspension:
    """An owner's own: of a person, or of the agency."""
    kind = SuspensionKind.PRINCIPAL if person else SuspensionKind.AGENCY
    target = f"consumer/{person}" if person else "consumer"
    return Suspension(f"{owner} {person}", kind, target, owner, "why", owner, "admin", 0)


steps_of_a_run = st.lists(step, min_size=40, max_size=100)


@given(steps=steps_of_a_run)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_each_release_is_by_one_order_that_was_in_force(steps: list[tuple[str, tuple[Any, ...]]]) -> None:
    with quick():
        asyncio.run(run(steps))


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@given(steps=steps_of_a_run)
@settings(max_examples=3_000, deadline=None, suppress_health_check=list(HealthCheck))
def test_each_release_is_by_one_order_that_was_in_force_for_long(
    steps: list[tuple[str, tuple[Any, ...]]],
) -> None:
    with quick():
        asyncio.run(run(steps))


async def run(steps: list[tuple[str, tuple[Any, ...]]]) -> None:
    """Do it, then read the ledger."""
    made = OrderedRun()
    for what, arguments in steps:
        await made.do(what, *arguments)
    await asyncio.wait_for(made.finish(), 60)
    check(made)
    made.check()
