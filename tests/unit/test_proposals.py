"""Proposals as a fold: approvals count for exactly the version that was approved, and nobody approves their own."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from broker.core.control.activations import Activated, Activations
from broker.core.control.state import ControlState
from broker.core.rulebook.findings import Finding, Severity
from broker.core.rulebook.proposals import (
    AREAS_MOST,
    Begun,
    Check,
    Proposal,
    Proposals,
    SaidOf,
    Standing,
    check_body,
    read_check,
    standing,
)
from broker.model.control import ControlEvent

ANN, BOB, CAT = ("exchange", "ann"), ("exchange", "bob"), ("ems", "cat")


def event(kind: str, at_ms: int = 1, **body: Any) -> ControlEvent:
    return ControlEvent(kind, at_ms, "one", body)


def by(person: tuple[str, str]) -> dict[str, str]:
    return {"agency": person[0], "subject": person[1]}


def proposed(revision: str = "r2", author: tuple[str, str] = ANN, **changes: Any) -> ControlEvent:
    body = {
        "proposal": "p",
        "revision": revision,
        "parent": "r1",
        "by": by(author),
        "message": "why",
        "areas": [{"kind": "topic", "owner": ""}],
        **changes,
    }
    return event("proposed", **body)


def checked(version: int, accepted: bool = True) -> ControlEvent:
    return event("checked", proposal="p", version=version, **check_body(Check(accepted)))


def approved(revision: str, person: tuple[str, str]) -> ControlEvent:
    return event("approved", proposal="p", revision=revision, by=by(person))


def rejected(person: tuple[str, str]) -> ControlEvent:
    return event("rejected", proposal="p", by=by(person), reason="no")


def after(*events: ControlEvent) -> Proposals:
    """All of the events, each of which has to count, at positions 1, 2, 3 …"""
    fold = Proposals()
    for position, each in enumerate(events, 1):
        found = fold.apply(each, position)
        assert found is not None, f"event {position} does not count"
        fold = found
    return fold


def only(fold: Proposals) -> Proposal:
    (found,) = fold.by_id.values()
    return found


def test_from_proposed_to_approved() -> None:
    found = only(after(proposed(), checked(1), approved("r2", BOB), approved("r2", CAT)))
    assert [each.by for each in found.approvals] == [BOB, CAT]
    assert found.check == Check(True)
    assert (found.author, found.revision, found.parent, found.areas) == (ANN, "r2", "r1", (("topic", ""),))


def test_what_does_not_count() -> None:
    fold = after(proposed(), checked(1))
    for void in (
        approved("r3", BOB),  # another revision than the proposal's
        approved("r2", ANN),  # the author's own
        checked(1, accepted=False),  # a second result
        checked(2),  # of a version that never was
        proposed("r3", author=CAT),  # another agency's
        event("approved", proposal="missing", revision="r2", by=by(BOB)),
    ):
        assert fold.apply(void, 9) is None
    once = fold.apply(approved("r2", BOB), 3)
    assert once is not None
    assert once.apply(approved("r2", BOB), 4) is None


def test_what_is_not_checked_or_was_refused_cannot_be_approved() -> None:
    assert after(proposed()).apply(approved("r2", BOB), 2) is None
    assert after(proposed(), checked(1, accepted=False)).apply(approved("r2", BOB), 3) is None


def test_another_version_loses_approvals_and_check_and_the_older_check_comes_too_late() -> None:
    fold = after(proposed(), checked(1), approved("r2", BOB), proposed("r3", author=BOB))
    found = only(fold)
    assert (found.revision, found.author, found.approvals, found.check) == ("r3", BOB, (), None)
    assert fold.apply(checked(1), 5) is None
    assert fold.apply(approved("r2", CAT), 5) is None
    again = fold.apply(checked(4), 5)
    assert again is not None
    assert again.apply(approved("r3", BOB), 6) is None, "bob is its author now"
    assert again.apply(approved("r3", ANN), 6) is not None


def test_the_same_files_again_are_another_version_too() -> None:
    fold = after(proposed(), checked(1), approved("r2", BOB), proposed())
    assert only(fold).approvals == ()


def test_a_rejected_proposal_is_closed() -> None:
    fold = after(proposed(), checked(1), rejected(BOB))
    assert only(fold).rejected is not None
    for late in (approved("r2", CAT), rejected(BOB), proposed("r3"), checked(1)):
        assert fold.apply(late, 9) is None


def test_where_a_proposal_stands() -> None:
    first = Activated(1, "r1", 0, 0)
    present = Activations((first,))
    other = Activations((first, Activated(2, "r9", 5, 5, "a")))
    mine = Activations((first, Activated(2, "r2", 5, 5, "a", proposal="p")))
    assert standing(only(after(proposed())), present) is Standing.CHECKING
    assert standing(only(after(proposed(), checked(1, accepted=False))), present) is Standing.REFUSED
    good = only(after(proposed(), checked(1)))
    assert standing(good, present) is Standing.OPEN
    assert standing(good, other) is Standing.STALE
    assert standing(good, mine) is Standing.ACTIVATED
    assert standing(only(after(proposed(), rejected(BOB))), other) is Standing.REJECTED


def test_a_malformed_event_counts_for_nobody() -> None:
    state = ControlState()
    broken = [
        proposed(areas=[]),
        proposed(areas=[{"kind": "topic", "owner": ""}] * (AREAS_MOST + 1)),
        proposed(areas=[{"kind": "topic"}]),
        proposed(by="ann"),
        proposed(revision=""),
        event("proposed"),
    ]
    for each in broken:
        assert state.apply(each, 1) is None
    good = state.apply(proposed(), 1)
    assert good is not None
    assert good.apply(event("checked", proposal="p", version=1, accepted=True, findings=7), 2) is None
    assert good.apply(event("checked", proposal="p", version=True, accepted=True, findings=[]), 2) is None


def preparing(activation: str = "a", **changes: Any) -> ControlEvent:
    body = {"activation": activation, "revision": "r2", "base": 1, "run": "r", "by": by(BOB), "proposal": "p"}
    return event("preparing", **{**body, **changes})


def test_who_began_an_activation_is_kept_and_never_voids_it() -> None:
    fold = after(preparing(proposal=None, by=by(ANN)))
    assert fold.begun == {"a": Begun(ANN, None)}
    again = fold.apply(preparing("b", proposal=None, by={}), 2)
    assert again is not None
    assert again.begun["b"] == Begun(None, None)


def test_only_a_version_that_passed_the_checks_is_activated() -> None:
    good = after(proposed(), checked(1))
    for void in (
        after(),
        after(proposed()),
        after(proposed(), checked(1, accepted=False)),
        after(proposed(), checked(1), rejected(BOB)),
        after(proposed(), checked(1), proposed("r3"), checked(3)),
    ):
        assert void.apply(preparing(), 9) is None
    assert good.apply(preparing(revision="r3"), 9) is None
    begun = good.apply(preparing(), 3)
    assert begun is not None
    later = begun.apply(proposed("r3"), 4)
    assert later is not None
    assert later.begun["a"] == Begun(BOB, only(good)), "what came later is not what was activated"


def test_an_activation_of_what_is_no_proposal_counts_for_no_fold() -> None:
    state = ControlState().apply(event("genesis", revision="r1", engine="e", administrators=[]), 0)
    assert state is not None
    assert state.apply(preparing(), 1) is None
    for position, each in enumerate((proposed(), checked(1), preparing()), 1):
        state = state.apply(each, position)
        assert state is not None
    assert state.activations.pending is not None
    assert state.activations.pending.proposal == "p"


def test_a_check_comes_back_as_it_was() -> None:
    check = Check(
        False,
        (
            SaidOf(Finding("a.yaml", 3, "is wrong", "correct it"), "is wrong there"),
            SaidOf(Finding("b.yaml", None, "is odd", "look", Severity.WARNING)),
        ),
        cut=True,
    )
    assert read_check(check_body(check)) == check


_EVENTS = st.one_of(
    st.builds(proposed, st.sampled_from(["r2", "r3"]), st.sampled_from([ANN, BOB, CAT])),
    st.builds(checked, st.integers(0, 12), st.booleans()),
    st.builds(approved, st.sampled_from(["r2", "r3"]), st.sampled_from([ANN, BOB, CAT])),
    st.builds(rejected, st.sampled_from([ANN, BOB])),
)


@given(st.lists(_EVENTS, max_size=12))
def test_no_order_of_events_makes_an_approval_of_the_author_or_of_another_version(
    events: list[ControlEvent],
) -> None:
    fold = Proposals()
    since = 0
    counted: list[tuple[int, ControlEvent]] = []
    for position, each in enumerate(events, 1):
        found = fold.apply(each, position)
        if found is None:
            continue
        fold = found
        counted.append((position, each))
        since = position if each.kind == "proposed" else since
    for proposal in fold.by_id.values():
        people = [each.by for each in proposal.approvals]
        assert proposal.author not in people
        assert len(people) == len(set(people))
        given_since = [
            (each.body["by"], each.body["revision"])
            for position, each in counted
            if each.kind == "approved" and position > since
        ]
        assert given_since == [(by(person), proposal.revision) for person in people]
        assert not people or (proposal.check is not None and proposal.check.accepted)
