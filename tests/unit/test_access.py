"""What a principal may use: a hidden topic and a missing one cost the same questions (design rule 6)."""

from __future__ import annotations

import pytest

from broker.core.access import Access
from broker.core.catalog import Catalog
from broker.core.decide import Question
from broker.errors import EntenteError, Reason
from broker.model.decision import Decision
from tests.fakes.delivery import RELEASE, TOPIC, TYPE, WITHHOLD, ScriptedDecider, World, registry
from tests.fakes.regimes import regime


@pytest.fixture
def decider() -> ScriptedDecider:
    return ScriptedDecider()


@pytest.fixture
def access(decider: ScriptedDecider) -> Access:
    return regime(decider).access


async def refused(access: Access, topic: str, purpose: str | None) -> EntenteError:
    principal = World().principal("p-1", "beta")
    with pytest.raises(EntenteError) as caught:
        if purpose is None:
            await access.require_publish(principal, topic)
        else:
            await access.require_subscribe(principal, topic, purpose)
    return caught.value


@pytest.mark.parametrize("purpose", [None, "work"])
async def test_hidden_and_missing_cost_one_call_of_the_engine_each(
    access: Access, decider: ScriptedDecider, purpose: str | None
) -> None:
    decider.answer = lambda _: WITHHOLD
    costs = []
    for topic in (TOPIC, "u"):
        before = decider.calls
        assert (await refused(access, topic, purpose)).reason is Reason.TOPIC_NOT_FOUND
        costs.append(decider.calls - before)
    assert costs == [1, 1]


async def test_asking_for_permission_to_publish_costs_the_same(
    access: Access, decider: ScriptedDecider
) -> None:
    decider.answer = lambda _: WITHHOLD
    catalog, principal = Catalog(registry(), access), World().principal("p-1", "beta")
    for topic in (TOPIC, "u"):
        before = decider.calls
        assert not (await catalog.can_publish(principal, topic)).permitted
        assert decider.calls - before == 1


@pytest.mark.parametrize("purpose", [None, "work"])
@pytest.mark.parametrize("topic", ["", "A", "a b", "a" * 64, "-a", "t\n", "ü"])
async def test_what_can_be_no_name_is_not_asked_about(
    access: Access, decider: ScriptedDecider, topic: str, purpose: str | None
) -> None:
    assert (await refused(access, topic, purpose)).reason is Reason.TOPIC_NOT_FOUND
    assert decider.calls == 0


@pytest.mark.parametrize("purpose", [None, "work"])
async def test_without_a_decision_hidden_and_missing_are_alike_too(
    access: Access, decider: ScriptedDecider, purpose: str | None
) -> None:
    decider.answer = lambda _: None
    for topic in (TOPIC, "u"):
        assert (await refused(access, topic, purpose)).reason is Reason.POLICY_UNAVAILABLE


async def test_who_may_only_subscribe_or_only_publish_knows_the_topic(
    access: Access, decider: ScriptedDecider
) -> None:
    principal = World().principal("p-1", "beta")
    for action in ("publish", "subscribe"):

        def answer(question: Question, permitted: str = action) -> Decision:
            return RELEASE if question.item["action"] == permitted else WITHHOLD

        decider.answer = answer
        assert (await access.require_publish(principal, TOPIC)).name == TOPIC
        assert await access.may_publish(principal, TOPIC) == ([TYPE] if action == "publish" else [])


async def test_a_purpose_that_the_token_lacks_is_named_only_if_the_vocabulary_has_it(access: Access) -> None:
    failure = await refused(access, TOPIC, "curiosity")
    assert failure.reason is Reason.PURPOSE_NOT_PERMITTED
    assert "curiosity" not in str(failure)
    assert "vocabulary" in failure.metadata
