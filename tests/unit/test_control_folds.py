"""The folds over the control log: whatever instances write and whoever crashes, one revision is in force for each number."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.control.state import ControlState
from broker.model.control import ControlEvent
from broker.model.ledger import JsonValue

NAMES = ("a", "b", "c")
ACTIVATIONS = ("x", "x", "y")


def event(kind: str, instance: str = "a", **body: JsonValue) -> ControlEvent:
    return ControlEvent(kind, 1_000, instance, body)


def folded(*events: ControlEvent) -> ControlState:
    """All of which must count."""
    state = ControlState()
    for position, each in enumerate(events):
        after = state.apply(each, position)
        assert after is not None, (position, each)
        state = after
    return state


GENESIS = event("genesis", revision="r1", engine="opa 1")
JOINED = (event("joined", "a", run="a1", ledger_epoch=1), event("joined", "b", run="b1", ledger_epoch=1))


def preparing(activation: str = "x", base: int = 1) -> ControlEvent:
    return event(
        "preparing",
        activation=activation,
        revision=f"r-{activation}",
        base=base,
        run="a1",
        by={},
        proposal=None,
        rollback=False,
    )


def activated(activation: str = "x", base: int = 1) -> ControlEvent:
    return event("activated", activation=activation, base=base)


def prepared(run: str, activation: str = "x") -> ControlEvent:
    return event("prepared", run[0], activation=activation, run=run)


def test_a_revision_comes_into_force_when_all_members_hold_it_ready() -> None:
    state = folded(GENESIS, *JOINED, preparing(), prepared("a1"))
    assert state.apply(activated(), 9) is None
    state = folded(GENESIS, *JOINED, preparing(), prepared("a1"), prepared("b1"), activated())
    assert state.activations.revision == "r-x"
    assert state.activations.number == 2
    assert state.activations.pending is None
    assert [past.revision for past in state.activations.history] == ["r1", "r-x"]


def test_who_joins_meanwhile_has_to_hold_it_ready_too() -> None:
    late = event("joined", "c", run="c1", ledger_epoch=1)
    state = folded(GENESIS, *JOINED, preparing(), prepared("a1"), prepared("b1"), late)
    assert state.apply(activated(), 9) is None
    ready = state.apply(prepared("c1"), 9)
    assert ready is not None and ready.apply(activated(), 10) is not None


def test_another_run_of_an_instance_has_to_prepare_for_itself() -> None:
    again = event("joined", "b", run="b2", ledger_epoch=2)
    state = folded(GENESIS, *JOINED, preparing(), prepared("a1"), prepared("b1"), again)
    assert state.apply(activated(), 9) is None
    after = state.apply(prepared("b2"), 9)
    assert after is not None and after.apply(activated(), 10) is not None


def test_who_is_gone_is_not_waited_for() -> None:
    begun = (GENESIS, *JOINED, preparing(), prepared("a1"))
    assert folded(*begun, event("left", "b", run="b1"), activated()).activations.revision == "r-x"
    assert folded(*begun, event("fenced", "a", of="b", run="b1"), activated()).activations.revision == "r-x"


def test_one_that_cannot_prepare_keeps_all_from_it_as_long_as_it_is_a_member() -> None:
    failed = event("unprepared", "b", activation="x", run="b1", cause="no engine")
    state = folded(GENESIS, *JOINED, preparing(), prepared("a1"), failed)
    assert state.apply(activated(), 9) is None
    assert state.activations.pending is not None and state.activations.pending.failed == {"b1": "no engine"}
    gone = state.apply(event("fenced", "a", of="b", run="b1"), 9)
    assert gone is not None and gone.apply(activated(), 10) is not None


def test_a_second_activation_waits_for_the_first_to_end() -> None:
    state = folded(GENESIS, *JOINED, preparing())
    assert state.apply(preparing("y"), 9) is None
    assert state.apply(event("abandoned", activation="y", cause="?"), 9) is None
    abandoned = state.apply(event("abandoned", "b", activation="x", cause="gone"), 9)
    assert abandoned is not None and abandoned.apply(preparing("y"), 10) is not None
    assert abandoned.apply(activated(), 10) is None
    assert abandoned.apply(preparing("y", base=0), 10) is None


def test_nothing_is_activated_before_the_genesis_nor_a_second_genesis_counted() -> None:
    assert ControlState().apply(preparing(base=0), 0) is None
    assert folded(GENESIS).apply(GENESIS, 1) is None


def test_an_older_run_takes_no_newer_ones_place() -> None:
    state = folded(GENESIS, *JOINED, event("joined", "b", run="b5", ledger_epoch=5))
    assert state.members.has("b", "b5") and not state.members.has("b", "b1")
    assert state.apply(event("joined", "b", run="b3", ledger_epoch=3), 9) is None
    assert state.apply(event("left", "b", run="b1"), 9) is None
    assert state.apply(event("fenced", "a", of="b", run="b1"), 9) is None
    left = state.apply(event("left", "b", run="b5"), 9)
    assert left is not None and left.apply(event("joined", "b", run="b3", ledger_epoch=3), 10) is None


def test_what_has_not_the_form_of_its_kind_does_not_count() -> None:
    state = folded(GENESIS, *JOINED, preparing())
    for broken in (
        event("joined", "c", run="c1"),
        event("joined", "c", run="c1", ledger_epoch="1"),
        event("joined", "c", run="", ledger_epoch=1),
        event("left", "b"),
        event("fenced", "a", run="b1"),
        event("prepared", "b", activation="x"),
        event("prepared", "b", activation=["x"], run="b1"),
        event("unprepared", "b", activation="x", run="b1"),
        event("activated", activation="x"),
        event("abandoned"),
        event("unheard-of"),
    ):
        assert state.apply(broken, 9) is None, broken


runs = st.sampled_from([f"{name}{number}" for name in NAMES for number in (1, 2)] + ["a1", "b1"] * 3)
activations = st.sampled_from(ACTIVATIONS)
anything = st.one_of(
    st.just(GENESIS),
    runs.map(lambda run: event("joined", run[0], run=run, ledger_epoch=int(run[1]))),
    runs.map(lambda run: event("left", run[0], run=run)),
    runs.map(lambda run: event("fenced", "a", of=run[0], run=run)),
    st.builds(preparing, activations, st.integers(0, 3)),
    st.builds(prepared, runs, activations),
    st.builds(
        lambda run, activation: event("unprepared", run[0], activation=activation, run=run, cause="it broke"),
        runs,
        activations,
    ),
    st.builds(activated, activations, st.integers(0, 3)),
    activations.map(lambda activation: event("abandoned", activation=activation, cause="gone")),
)


@given(st.lists(anything, max_size=60))
@settings(max_examples=300, deadline=None)
def test_whoever_crashes_when_each_number_has_one_revision(events: list[ControlEvent]) -> None:
    state = folded(GENESIS, *JOINED)
    for position, each in enumerate(events, 3):
        after = state.apply(each, position)
        assert after == state.apply(each, position), "the fold is not a function"
        if after is None:
            continue
        before, now = state.activations, after.activations
        assert now.history[: before.number] == before.history, "what was in force is final"
        assert [past.number for past in now.history] == list(range(1, now.number + 1))
        if now.number > before.number and each.kind == "activated":
            pending = before.pending
            assert pending is not None and now.pending is None
            for member in state.members.present.values():
                assert member.run in pending.prepared and member.run not in pending.failed
            assert now.history[-1].revision == pending.revision
            assert pending.base == before.number
        else:
            assert now.number == before.number
        state = after
