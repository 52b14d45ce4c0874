"""What the control log's events make of the overlays."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.overlay.events import suspension_body, withdrawal_body
from broker.core.overlay.fold import PAST_SUSPENSIONS, OverlayFold
from broker.core.record.fingerprint import identity
from broker.model.control import ControlEvent
from broker.model.ledger import JsonValue
from broker.model.overlay import EndCause, Suspension, SuspensionKind, Withdrawal

NOW_MS = 1_000_000
ADMIN: JsonValue = {"agency": "exchange", "subject": "admin"}
OTHER: JsonValue = {"agency": "exchange", "subject": "other"}


def event(kind: str, body: Mapping[str, JsonValue], at_ms: int = NOW_MS) -> ControlEvent:
    """One as an instance writes it."""
    return ControlEvent(kind, at_ms, "a", body)


def suspended(number: int = 1, **times: int | None) -> ControlEvent:
    """An agency, by the exchange."""
    suspension = Suspension(
        f"s{number}", SuspensionKind.AGENCY, "ems", None, "why", "exchange", "admin", NOW_MS, **times
    )
    return event("suspended", suspension_body(suspension))


def withdrawn(number: int = 1) -> ControlEvent:
    """A record, by its owner."""
    source, record_id = "//ems/cad", str(number)
    identified = identity(source, record_id)
    withdrawal = Withdrawal(source, record_id, identified, "ems", "why", False, "ems", "admin", NOW_MS, "a")
    return event("withdrawn", withdrawal_body(withdrawal))


def folded(*events: ControlEvent) -> OverlayFold:
    """What they come to; each must count."""
    fold = OverlayFold()
    for position, each in enumerate(events):
        following = fold.apply(each, position)
        assert following is not None, each
        fold = following
    return fold


def void(fold: OverlayFold, each: ControlEvent) -> bool:
    """Whether the event does not count after these."""
    return fold.apply(each, 99) is None


def test_a_suspension_is_there_until_it_is_lifted_and_the_epoch_rises_with_each_change() -> None:
    held = folded(suspended())
    assert held.overlays.suspensions["s1"].target == "ems"
    assert held.overlays.suspensions["s1"].by_subject == "admin"
    over = folded(suspended(), event("lifted", {"id": "s1", "by": OTHER}))
    assert (held.overlays.epoch, over.overlays.epoch) == (1, 2)
    assert not over.overlays.suspensions
    assert (over.past[0].cause, over.past[0].by) == (EndCause.LIFTED, ("exchange", "other"))


def test_an_id_is_used_once() -> None:
    assert void(folded(suspended()), suspended())
    assert void(folded(suspended(), event("lifted", {"id": "s1", "by": OTHER})), suspended())


def test_one_that_is_over_when_it_comes_does_not_count() -> None:
    assert void(OverlayFold(), suspended(until_ms=NOW_MS))


def test_it_is_ratified_by_another_person_in_time_and_once() -> None:
    waiting = folded(suspended(ratify_by_ms=NOW_MS + 10))
    ratify = event("ratified", {"id": "s1", "by": OTHER})
    ratified = waiting.apply(ratify, 1)
    assert ratified is not None
    assert ratified.overlays.suspensions["s1"].ratified_by == ("exchange", "other")
    assert ratified.overlays.suspensions["s1"].holds_at(NOW_MS + 1_000_000)
    assert void(ratified, ratify)
    assert void(waiting, event("ratified", {"id": "s1", "by": ADMIN}))
    assert void(waiting, event("ratified", {"id": "s1", "by": OTHER}, NOW_MS + 10))
    assert void(waiting, event("ratified", {"id": "s2", "by": OTHER}))
    assert void(folded(suspended()), ratify)


def test_ratifying_does_not_make_it_last_longer_than_it_was_meant_to() -> None:
    meant = folded(
        suspended(until_ms=NOW_MS + 20, ratify_by_ms=NOW_MS + 10),
        event("ratified", {"id": "s1", "by": OTHER}),
    )
    assert meant.overlays.suspensions["s1"].holds_at(NOW_MS + 19)
    assert not meant.overlays.suspensions["s1"].holds_at(NOW_MS + 20)


@pytest.mark.parametrize(
    ("times", "cause"),
    [
        ({"until_ms": NOW_MS + 10}, EndCause.ENDED),
        ({"ratify_by_ms": NOW_MS + 10}, EndCause.LAPSED),
        ({"until_ms": NOW_MS + 10, "ratify_by_ms": NOW_MS + 5}, EndCause.LAPSED),
    ],
)
def test_its_end_by_time_is_announced_after_it_and_not_before(times: dict[str, int], cause: EndCause) -> None:
    held = folded(suspended(**times))
    last_ms = min(times.values())
    assert void(held, event("announced", {"id": "s1"}, last_ms - 1))
    for announced_ms in (last_ms, NOW_MS + 1_000):
        over = held.apply(event("announced", {"id": "s1"}, announced_ms), 1)
        assert over is not None
        assert not over.overlays.suspensions
        assert over.past[0].cause is cause, "of what came first, however late it is announced"


def test_a_record_is_withdrawn_once_and_for_good() -> None:
    gone = folded(withdrawn())
    named = identity("//ems/cad", "1")
    assert gone.overlays.withdrawn[named].owner == "ems"
    assert gone.apply(withdrawn(), 6) is gone, (
        "it counts, so that whoever asks again waits until it is confirmed"
    )
    told = gone.apply(event("announced", {"source": "//ems/cad", "id": "1"}), 7)
    assert told is not None
    assert told.announced[named] == 7
    assert told.overlays is gone.overlays, (
        "that it was announced restricts nobody, so nothing has to be replaced"
    )
    assert void(told, event("announced", {"source": "//ems/cad", "id": "1"}))
    assert void(OverlayFold(), event("announced", {"source": "//ems/cad", "id": "1"}))


@pytest.mark.parametrize("name", ["id", "kind", "target", "reason", "by", "since_ms"])
def test_a_body_that_lacks_something_is_no_event(name: str) -> None:
    body = {key: value for key, value in suspended().body.items() if key != name}
    with pytest.raises((KeyError, TypeError, ValueError)):
        OverlayFold().apply(event("suspended", body), 0)


@pytest.mark.parametrize("source", ["", "ems/cad", "http://ems/"])
def test_a_withdrawal_of_a_source_without_an_owner_is_no_event(source: str) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        OverlayFold().apply(event("withdrawn", {**withdrawn().body, "source": source}), 0)


def test_those_that_are_over_are_kept_to_a_bound() -> None:
    count = PAST_SUSPENSIONS + 5
    events = [
        each
        for number in range(count)
        for each in (suspended(number), event("lifted", {"id": f"s{number}", "by": ADMIN}))
    ]
    past = folded(*events).past
    assert [each.suspension.id for each in past] == [f"s{n}" for n in range(5, count)]


def test_what_was_withdrawn_before_is_not_copied_for_each_that_follows() -> None:
    fold = OverlayFold()
    events = [withdrawn(number) for number in range(20_000)]
    began_s = time.process_time()
    for position, each in enumerate(events):
        following = fold.apply(each, position)
        assert following is not None
        fold = following
    used_s = time.process_time() - began_s
    assert len(fold.withdrawn) == 20_000
    assert used_s < 10, "each change copies all that was withdrawn before"


_ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["suspended", "ratified", "lifted", "announced", "withdrawn"]),
        st.integers(0, 3),
        st.integers(0, 30),
        st.sampled_from(["admin", "other"]),
    ),
    max_size=30,
)


@given(_ACTIONS)
def test_whatever_comes_the_epoch_never_falls_and_nobody_ratifies_his_own(
    actions: list[tuple[str, int, int, str]],
) -> None:
    fold, withdrawn_before = OverlayFold(), 0
    for position, (kind, number, later_ms, subject) in enumerate(actions):
        by: JsonValue = {"agency": "exchange", "subject": subject}
        if kind == "suspended":
            each = suspended(number, ratify_by_ms=NOW_MS + 15)
        elif kind == "withdrawn":
            each = withdrawn(number)
        else:
            each = event(kind, {"id": f"s{number}", "by": by}, NOW_MS + later_ms)
        following = fold.apply(each, position)
        if following is None:
            continue
        assert following.overlays.epoch == fold.overlays.epoch + (following is not fold)
        assert len(following.overlays.withdrawn) >= withdrawn_before
        for held in following.overlays.suspensions.values():
            assert held.ratified_by != (held.by_agency, held.by_subject)
        fold, withdrawn_before = following, len(following.overlays.withdrawn)
