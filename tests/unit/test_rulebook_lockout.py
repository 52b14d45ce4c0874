"""Lockouts: how they are tried, and what no answer means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from broker.core.rulebook.findings import Severity
from broker.core.rulebook.lockout import lockouts
from broker.model.decision import Decision, Effect
from broker.model.registry import Agency, Registry, Vocabulary
from broker.ports.policy_engine import Item
from tests.fakes.trial import Decide, FunctionTrial

NONE: frozenset[str] = frozenset()
WORDS = Vocabulary(("clear",), NONE, NONE, NONE, NONE, {}, NONE)
YES = Decision(Effect.RELEASE)


def registry(**administrators: Iterable[str]) -> Registry:
    agencies = {
        name: Agency(name, name, "", (), frozenset({"agency-admin"}), frozenset(), {}, 60)
        for name in administrators
    }
    listed = {name: tuple(subjects) for name, subjects in administrators.items()}
    return Registry(agencies, {}, {}, (), WORDS, listed)


def who(item: Item) -> tuple[str, str]:
    subject = cast(dict[str, Any], item["subject"])
    return subject["agency"], subject["id"]


def two_eyes(*refused: tuple[tuple[str, str], str]) -> Decide:
    """One approval by another, but for what is refused: a person and a verb."""

    def decide(item: Item) -> Decision:
        missing = item["verb"] == "activate" and not item["approvals"]
        refuses = (who(item), item["verb"]) in refused
        return Decision(Effect.WITHHOLD, reasons=("no",)) if missing or refuses else YES

    return decide


async def test_the_first_author_for_whom_it_works_is_enough() -> None:
    trial = FunctionTrial(two_eyes())
    assert await lockouts(trial, registry(exchange=["a", "b", "c"], ems=["d", "e"])) == []
    asked = [(*who(item), item["verb"]) for item in trial.asked]
    assert asked == [
        ("exchange", "a", "propose"),
        ("ems", "d", "propose"),
        ("exchange", "b", "approve"),
        ("exchange", "c", "approve"),
        ("ems", "e", "approve"),
        ("exchange", "a", "activate"),
        ("ems", "d", "activate"),
    ]
    (activation,) = (
        item for item in trial.asked if who(item) == ("exchange", "a") and item["verb"] == "activate"
    )
    assert activation["author"] == {"agency": "exchange", "id": "a"}
    assert activation["approvals"] == [{"agency": "exchange", "id": each} for each in "bc"]


async def test_another_author_is_tried_where_the_first_may_not() -> None:
    trial = FunctionTrial(two_eyes((("exchange", "a"), "propose"), (("exchange", "b"), "activate")))
    assert await lockouts(trial, registry(exchange=["a", "b", "c"])) == []
    approvals = [item for item in trial.asked if item["verb"] == "approve"]
    assert [(who(item)[1], cast(Any, item["author"])["id"]) for item in approvals] == [
        ("a", "b"),
        ("c", "b"),
        ("a", "c"),
        ("b", "c"),
    ]


async def test_only_approvals_that_were_permitted_count() -> None:
    refused = tuple((("exchange", each), "approve") for each in "ab")
    (finding,) = await lockouts(FunctionTrial(two_eyes(*refused)), registry(exchange=["a", "b"]))
    assert (finding.severity, finding.file) == (Severity.ERROR, "data/administrators/exchange/data.yaml")
    assert finding.what == "nobody could change what is exchange's: b could not activate a change (no)"


async def test_no_answer_is_no_permission() -> None:
    (finding,) = await lockouts(FunctionTrial(lambda _: None), registry(exchange=["a", "b"]))
    assert "could not propose a change (no-decision)" in finding.what
    (finding,) = await lockouts(FunctionTrial(lambda _: YES, silent=True), registry(exchange=["a", "b"]))
    assert (finding.severity, finding.what.startswith("it was not tried")) == (Severity.ERROR, True)


async def test_a_time_is_asked_for_where_the_revision_depends_on_it() -> None:
    trial = FunctionTrial(two_eyes())
    await lockouts(trial, registry(exchange=["a", "b"]), time="2026-05-01T00:00:00Z")
    assert {item["time"] for item in trial.asked} == {"2026-05-01T00:00:00Z"}


async def test_many_agencies_are_asked_about_in_batches() -> None:
    agencies = {f"agency-{number}": ["a", "b"] for number in range(300)}
    sizes: list[int] = []

    class Counting(FunctionTrial):
        async def decide(self, items: Sequence[Item]) -> Mapping[str, Decision]:
            sizes.append(len(items))
            return await super().decide(items)

    assert await lockouts(Counting(two_eyes()), registry(exchange=["a", "b"], **agencies)) == []
    assert sizes == 3 * [200, 101]
