"""What suspensions and withdrawals restrict, for whom, and until when."""

from __future__ import annotations

from broker.core.overlay.judge import Judge
from broker.core.overlay.layers import Layers
from broker.model.overlay import Overlays, Suspension, SuspensionKind, Withdrawal

NOW_MS = 1_000_000


def suspension(
    kind: SuspensionKind, target: str, owner: str | None = None, **times: int | None
) -> Suspension:
    """One by an administrator of its owner, or of the exchange."""
    return Suspension("s1", kind, target, owner, "a reason", owner or "exchange", "admin", 0, **times)


def judge(*suspensions: Suspension, epoch: int = 1) -> Judge:
    """Over these suspensions."""
    return Judge(Overlays(epoch, {str(n): each for n, each in enumerate(suspensions)}))


def test_nothing_restricts_nothing() -> None:
    nothing = judge(epoch=0)
    assert nothing.principal_suspended("ems", "a", NOW_MS) is None
    assert nothing.topic_suspended("crash-reports", NOW_MS) is None
    assert nothing.owner_waits("ems", "crash-reports", "police", NOW_MS) is None
    assert not nothing.is_withdrawn(b"i" * 16)
    assert not nothing.withdraws_anything


def test_an_agency_is_suspended_with_all_its_people_and_nobody_else() -> None:
    present = judge(suspension(SuspensionKind.AGENCY, "ems"))
    assert present.principal_suspended("ems", "anybody", NOW_MS) is not None
    assert present.principal_suspended("ems2", "anybody", NOW_MS) is None
    assert present.owner_waits("ems", "crash-reports", "police", NOW_MS) is None


def test_a_principal_is_suspended_alone() -> None:
    present = judge(suspension(SuspensionKind.PRINCIPAL, "ems/a/b"))
    assert present.principal_suspended("ems", "a/b", NOW_MS) is not None
    assert present.principal_suspended("ems", "a", NOW_MS) is None
    assert present.principal_suspended("ems", "a/b/c", NOW_MS) is None


def test_an_agency_and_a_topic_of_the_same_name_are_two_things() -> None:
    present = judge(suspension(SuspensionKind.TOPIC, "ems"))
    assert present.topic_suspended("ems", NOW_MS) is not None
    assert present.principal_suspended("ems", "a", NOW_MS) is None


def test_an_owners_suspension_holds_up_its_own_records_only() -> None:
    present = judge(suspension(SuspensionKind.AGENCY, "police", "ems"))
    assert present.principal_suspended("police", "a", NOW_MS) is None
    assert present.owner_waits("ems", "crash-reports", "police", NOW_MS) is not None
    assert present.owner_waits("ems", "crash-reports", "roads", NOW_MS) is None
    assert present.owner_waits("roads", "crash-reports", "police", NOW_MS) is None


def test_an_owners_suspension_of_a_topic_holds_up_its_records_there_for_everybody() -> None:
    present = judge(suspension(SuspensionKind.TOPIC, "crash-reports", "ems"))
    assert present.topic_suspended("crash-reports", NOW_MS) is None
    assert present.owner_waits("ems", "crash-reports", "police", NOW_MS) is not None
    assert present.owner_waits("ems", "other", "police", NOW_MS) is None
    assert present.owner_waits("roads", "crash-reports", "police", NOW_MS) is None


def test_an_owners_suspension_of_somebody_elses_principal_is_that_principals_alone() -> None:
    present = judge(suspension(SuspensionKind.PRINCIPAL, "police/a", "ems"))
    assert present.is_apart("police", "a")
    assert not present.is_apart("police", "b")
    assert present.owner_waits("ems", "t", "police", NOW_MS, "a") is not None
    assert present.owner_waits("ems", "t", "police", NOW_MS, "b") is None
    assert present.owner_waits("ems", "t", "police", NOW_MS) is None
    assert present.principal_suspended("police", "a", NOW_MS) is None


def test_an_agency_that_suspends_its_own_people_refuses_their_calls() -> None:
    present = judge(suspension(SuspensionKind.PRINCIPAL, "ems/a", "ems"))
    assert present.principal_suspended("ems", "a", NOW_MS) is not None
    assert not present.is_apart("ems", "a")
    assert judge(suspension(SuspensionKind.AGENCY, "ems", "ems")).principal_suspended("ems", "b", NOW_MS)


def test_what_ends_or_lapses_restricts_until_that_moment() -> None:
    ends = judge(suspension(SuspensionKind.TOPIC, "t", until_ms=NOW_MS))
    assert ends.topic_suspended("t", NOW_MS - 1) is not None
    assert ends.topic_suspended("t", NOW_MS) is None
    lapses = judge(suspension(SuspensionKind.TOPIC, "t", ratify_by_ms=NOW_MS))
    assert lapses.topic_suspended("t", NOW_MS - 1) is not None
    assert lapses.topic_suspended("t", NOW_MS) is None


def test_one_that_is_over_does_not_hide_one_that_holds() -> None:
    present = judge(
        suspension(SuspensionKind.AGENCY, "ems", until_ms=1), suspension(SuspensionKind.AGENCY, "ems")
    )
    assert present.principal_suspended("ems", "a", NOW_MS) is not None


def test_a_withdrawn_record_is_known_by_its_identity() -> None:
    record = Withdrawal("//ems/a", "1", b"i" * 16, "ems", "wrong", False, "ems", "admin", 0, "a")
    present = Judge(Overlays(1, {}, Layers[Withdrawal]().put(record.identity, record)))
    assert present.is_withdrawn(b"i" * 16)
    assert present.withdraws_anything
    assert not present.is_withdrawn(b"j" * 16)


def test_earlier_states_of_what_grows_stay_as_they_were() -> None:
    states = [Layers[int]()]
    for number in range(5_000):
        states.append(states[-1].put(b"%d" % number, number))
    for size in (0, 1, 1_024, 1_025, 2_050, 5_000):
        state = states[size]
        assert len(state) == size
        assert set(state) == {b"%d" % number for number in range(size)}
        assert (b"%d" % size) not in state
        assert size == 0 or state[b"%d" % (size - 1)] == size - 1
        assert state.newest(3) == list(range(size))[::-1][:3]
    again = states[-1].put(b"0", 7)
    assert (again[b"0"], len(again), states[-1][b"0"]) == (7, 5_000, 0)
