"""The time that a decision may take: what is measured, what is refused, and which rule is named."""

from __future__ import annotations

import pytest

from broker.core.rulebook.budget import BUDGET_NS, Timed, measure, over_budget, slowest
from broker.core.rulebook.cases import read_cases
from broker.core.rulebook.load import read_rulebook
from broker.core.rulebook.registry import parse_registry
from broker.core.rulebook.samples import Question, questions_of_agreements
from broker.core.rulebook.spread import spread
from broker.model.decision import Decision, Effect
from broker.ports.rulebook_trial import Cost
from tests.fakes.rulebook import ROOT
from tests.fakes.trial import FunctionTrial

QUESTION = Question("cases/some.yaml", 3, "officer deliver crash", {"id": "1"})
MODULES = {
    "agencies/ems/module.rego": {
        "package": {"path": [{"value": "data"}, {"value": "agencies"}, {"value": "ems"}]},
        "rules": [
            {"location": {"row": 3}, "head": {"name": "deny"}},
            {"location": {"row": 9}, "head": {"name": "_slow"}},
        ],
    },
    "entente/lib/lib.rego": {
        "package": {"path": [{"value": "data"}, {"value": "entente"}, {"value": "lib"}]},
        "rules": [{"location": {"row": 2}, "head": {"name": "holds"}}],
    },
}
COSTS = (
    Cost("agencies/ems/module.rego", 10, 4_000_000),
    Cost("entente/lib/lib.rego", 2, 4_500_000),
    Cost("agencies/ems/module.rego", 11, 1_500_000),
)


def trial(*times: int | None, costs: tuple[Cost, ...] = COSTS) -> FunctionTrial:
    return FunctionTrial(lambda _: Decision(Effect.WITHHOLD), times, costs)


async def test_a_decision_is_as_fast_as_its_fastest_run() -> None:
    """However busy the machine is, a good rulebook passes: one run within the budget is enough."""
    busy = trial(BUDGET_NS * 90, *[BUDGET_NS * 3] * 14, BUDGET_NS, BUDGET_NS * 9)
    assert await over_budget(busy, await measure(busy, [QUESTION]), MODULES) == []
    assert busy.profiled == [] and len(busy.asked) == 16


async def test_what_is_far_too_slow_is_not_asked_as_often() -> None:
    slow = trial(BUDGET_NS * 5)
    assert len(await over_budget(slow, await measure(slow, [QUESTION] * 50), MODULES)) == 1
    assert len(slow.asked) == 50 + 3 * 5


async def test_what_is_within_the_budget_is_not_asked_again() -> None:
    quick = trial(BUDGET_NS)
    assert await over_budget(quick, await measure(quick, [QUESTION] * 3), MODULES) == []
    assert len(quick.asked) == 3


async def test_the_rule_that_takes_the_time_is_named() -> None:
    slow = trial(6_200_000)
    (finding,) = await over_budget(slow, await measure(slow, [QUESTION]), MODULES)
    assert str(finding) == (
        "agencies/ems/module.rego:10: data.agencies.ems._slow is too slow: deciding 'officer deliver crash' "
        "(cases/some.yaml:3) takes 6.2 ms, and a decision may take 5 ms, 55% of it here; "
        "do less in it, or ask the data by key instead of searching it"
    )
    assert len(slow.asked) == 21, "asked often before it is refused"


async def test_where_no_line_is_known_the_question_is_named() -> None:
    slow = trial(6_200_000, costs=())
    (finding,) = await over_budget(slow, await measure(slow, [QUESTION]), MODULES)
    assert (finding.file, finding.line) == ("cases/some.yaml", 3)


async def test_no_answer_in_time_ends_the_measuring_and_is_over_budget() -> None:
    stuck = trial(1_000, None)
    timed = await measure(stuck, [QUESTION] * 5)
    assert [each.duration_ns for each in timed] == [1_000, None]
    (finding,) = await over_budget(stuck, timed, MODULES)
    assert "gave no answer in time" in finding.what and finding.line == 10


async def test_one_rule_is_named_once_and_the_slowest_questions_come_first() -> None:
    timed = [Timed(QUESTION, BUDGET_NS + number) for number in range(1, 9)]
    slow = trial(BUDGET_NS * 2)
    assert len(await over_budget(slow, timed, MODULES)) == 1
    assert (await slowest(trial(7), timed)) == Timed(QUESTION, 7)
    assert await slowest(slow, []) is None


def test_each_agreement_asks_for_what_it_is_for() -> None:
    revision = read_rulebook(ROOT / "policy")
    registry = parse_registry(revision)
    asked = list(questions_of_agreements(registry, read_cases(revision, registry)))
    assert {question.title for question in asked} == {agreement.id for agreement in registry.agreements}
    assert all(question.item["action"] == "deliver" for question in asked)


@pytest.mark.parametrize(("count", "most"), [(0, 5), (1, 5), (5, 5), (6, 5), (1000, 7), (10**12, 50)])
def test_a_spread_is_even_and_says_each_once(count: int, most: int) -> None:
    chosen = list(spread(count, most))
    assert len(chosen) == len(set(chosen)) == min(count, most)
    assert all(0 <= index < count for index in chosen)
    if count > 100:
        assert min(chosen) < count / 5 and max(chosen) > count * 4 / 5
