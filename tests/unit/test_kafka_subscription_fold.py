"""The fold of the subscriptions' log: by log order one proposal wins, in every instance, also after compaction."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.kafka.subscription_fold import ABSENT, Proposal, SubscriptionFold, parse
from broker.model.subscription import SubscriptionKey
from tests.contract.samples import subscription

KEY = subscription().key


def proposal(
    proposer: str,
    serial: int,
    expects: int,
    *,
    epoch: int = 0,
    deleted: bool = False,
    key: SubscriptionKey = KEY,
) -> Proposal:
    state = None if deleted else replace(subscription(), key=key, epoch=epoch, positions=(serial, expects))
    return Proposal(proposer, serial, expects, key, epoch, state)


def folded(log: list[Proposal]) -> SubscriptionFold:
    fold = SubscriptionFold()
    for each in log:
        fold.apply(each)
    return fold


def compacted(log: list[Proposal], until: int) -> list[Proposal]:
    """As Kafka does it: of the first `until` records the newest of each key stays, in its place."""
    newest = {each.log_key(): at for at, each in enumerate(log[:until])}
    return [each for at, each in enumerate(log[:until]) if newest[each.log_key()] == at] + log[until:]


@st.composite
def histories(draw: st.DrawFn) -> list[Proposal]:
    """Logs that proposers write: each knows all up to some point, at least its own last record, and then proposes."""
    log: list[Proposal] = []
    versions = [0]
    last_own: dict[str, int] = {}
    for serial in range(draw(st.integers(1, 12))):
        proposer = draw(st.sampled_from("ABC"))
        known = draw(st.integers(last_own.get(proposer, 0), len(log)))
        expects = versions[known]
        log.append(proposal(proposer, serial, expects, epoch=serial, deleted=draw(st.booleans())))
        versions.append(versions[-1] + (expects == versions[-1]))
        last_own[proposer] = len(log)
    return log


@given(histories(), st.data())
def test_compaction_at_any_time_changes_nothing(log: list[Proposal], data: st.DataObject) -> None:
    whole = folded(log).present(KEY)
    until = data.draw(st.integers(0, len(log)))
    once = compacted(log, until)
    assert folded(once).present(KEY) == whole
    again = compacted(once, data.draw(st.integers(0, len(once))))
    assert folded(again).present(KEY) == whole


@given(histories())
def test_a_reader_of_the_compacted_log_agrees_on_what_follows(log: list[Proposal]) -> None:
    whole, late = folded(log), folded(compacted(log, len(log)))
    present = whole.present(KEY).number
    for expects in range(max(0, present - 2), present + 1):
        following = proposal("D", 99, expects, epoch=99)
        assert whole.apply(following) == late.apply(following)
        assert whole.present(KEY) == late.present(KEY)


def test_of_two_that_expect_the_same_version_the_first_wins() -> None:
    fold = SubscriptionFold()
    assert fold.present(KEY) is ABSENT
    assert fold.apply(proposal("A", 0, 0, epoch=1))
    assert not fold.apply(proposal("B", 0, 0, epoch=2))
    assert fold.present(KEY).epoch == 1
    assert fold.apply(proposal("B", 1, 1, epoch=2))
    assert fold.present(KEY).epoch == 2


@pytest.mark.parametrize("deleted", [False, True])
def test_a_proposal_comes_back_from_its_bytes(deleted: bool) -> None:
    key = SubscriptionKey("a/b", 'quo"te', "ü\x00")
    sent = proposal("A", 7, 3, epoch=4, deleted=deleted, key=key)
    assert parse(sent.log_key(), sent.log_value()) == sent


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"", b"{}"),
        (b'["a","b","c"]', b"{}"),
        (b'["a","b","c","d"]', b"not json"),
        (b'["a","b","c","d"]', b'{"serial":1,"expects":0}'),
        (b'["a","b","c","d"]', b'{"serial":1,"expects":0,"epoch":1,"state":[]}'),
        (b'["a","b","c","d"]', b'{"serial":"1","expects":"0","epoch":1,"state":null}'),
    ],
)
def test_anything_else_is_refused(key: bytes, value: bytes) -> None:
    with pytest.raises(ValueError, match="not readable"):
        parse(key, value)
