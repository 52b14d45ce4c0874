"""Which revisions are held ready: approved ones that can still be activated, and the one before."""

from __future__ import annotations

from broker.core.control.activations import Activated, Activations
from broker.core.rulebook.likely import likely_next
from broker.core.rulebook.proposals import Check, Proposal, Proposals, Signed

APPROVED = (Signed(("exchange", "b"), 5),)
REJECTED = Signed(("exchange", "c"), 6)


def proposal(
    number: int,
    *,
    parent: str = "r1",
    approvals: tuple[Signed, ...] = APPROVED,
    rejected: Signed | None = None,
) -> Proposal:
    return Proposal(
        id=f"p{number}",
        revision=f"r{number}",
        parent=parent,
        author=("exchange", "a"),
        message="why",
        time_ms=1,
        areas=(("exchange", ""),),
        rollback=False,
        instance="first",
        position=number,
        check=Check(accepted=True),
        approvals=approvals,
        rejected=rejected,
    )


def proposals(*made: Proposal) -> Proposals:
    return Proposals({each.id: each for each in made})


def history(*revisions: str, of: str | None = None) -> Activations:
    past = [Activated(number, each, number, 0) for number, each in enumerate(revisions, 1)]
    if of is not None:
        past[-1] = Activated(len(past), revisions[-1], len(past), 0, "a", of)
    return Activations(tuple(past))


def test_nothing_is_likely_where_nothing_was_approved_and_nothing_was_before() -> None:
    assert likely_next(proposals(proposal(2, approvals=())), history("r1")) == ()
    assert likely_next(Proposals(), Activations()) == ()


def test_the_newest_approved_come_first_and_the_one_before_always_has_its_place() -> None:
    many = proposals(*(proposal(number) for number in range(2, 8)))
    assert likely_next(many, history("r0", "r1")) == ("r7", "r6", "r0")


def test_rejected_stale_and_activated_proposals_are_not_likely() -> None:
    made = proposals(proposal(2, rejected=REJECTED), proposal(3, parent="r0"), proposal(4))
    assert likely_next(made, history("r0", "r4", "r1", of="p4")) == ("r4",)
    assert likely_next(made, history("r1")) == ("r4",)
    assert likely_next(proposals(proposal(4)), history("r9", "r1", of="p4")) == ("r9",)


def test_no_revision_is_named_twice_and_never_the_one_in_force() -> None:
    assert likely_next(proposals(proposal(2), proposal(3)), history("r2", "r1")) == ("r3", "r2")
    assert likely_next(Proposals(), history("r1", "r1")) == ()
