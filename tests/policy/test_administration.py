"""Four eyes on every side, against an oracle that knows nothing of how the rules are written."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.policy.engine import decide

pytestmark = pytest.mark.opa

Pair = tuple[str, str]

EXCHANGE, EMS, PATROL = "exchange", "ems", "highway-patrol"
LISTED = {(agency, subject) for agency in (EXCHANGE, EMS, PATROL) for subject in ("admin-1", "admin-2")}
PEOPLE: tuple[Pair, ...] = (
    *((EXCHANGE, "admin-1"), (EXCHANGE, "admin-2"), (EMS, "admin-1"), (EMS, "admin-2"), (PATROL, "admin-1")),
    *((EXCHANGE, "admin-9"), ("nobody", "admin-1")),
)
AREAS: tuple[tuple[Pair, ...], ...] = (
    (("exchange", ""),),
    (("agency", EMS),),
    (("module", EMS),),
    (("agreement", EMS), ("keys", EMS)),
    (("topic", ""), ("module", EMS)),
    (("module", EMS), ("agreement", PATROL)),
    # Not registered, so it has no administrators.
    (("module", "new-agency"),),
)
# Each person's approval alone, all of them, and pairs: one approval a side is needed.
APPROVALS = [*itertools.combinations(PEOPLE, 0), *itertools.combinations(PEOPLE, 1), PEOPLE]
APPROVALS += itertools.combinations(PEOPLE, 2)


def sides_of(areas: Iterable[Pair]) -> set[str]:
    return {
        owner if kind not in {"agency", "topic"} and owner in {EMS, PATROL} else EXCHANGE
        for kind, owner in areas
    }


def may_propose(person: Pair, areas: Iterable[Pair]) -> bool:
    return person in LISTED and (person[0] == EXCHANGE or sides_of(areas) == {person[0]})


def may_activate(
    person: Pair, areas: tuple[Pair, ...], author: Pair | None, approvals: Iterable[Pair]
) -> bool:
    """Two persons of each side at least stand behind a change, or one and an author of the exchange."""
    if author is None or person not in LISTED or not may_propose(author, areas):
        return False
    behind = {
        side: {each for each in approvals if each[0] == side and each in LISTED} - {author}
        for side in sides_of(areas)
    }
    return all(behind.values()) and (person[0] in behind or person[0] == EXCHANGE or person == author)


def item(
    person: Pair, verb: str, areas: Iterable[Pair], author: Pair | None, approvals: Iterable[Pair]
) -> dict[str, Any]:
    role = "exchange-admin" if person[0] == EXCHANGE else "agency-admin"
    return {
        "action": "administer",
        "subject": {"agency": person[0], "id": person[1], "roles": [role], "attributes": {}},
        "verb": verb,
        "areas": [{"kind": kind, "owner": owner} for kind, owner in areas],
        "author": None if author is None else {"agency": author[0], "id": author[1]},
        "approvals": [{"agency": agency, "id": subject} for agency, subject in approvals],
        "about": {},
    }


def permitted(opa: Path, items: Iterable[dict[str, Any]]) -> list[bool]:
    asked = [{**each, "id": str(number)} for number, each in enumerate(items)]
    outputs = decide(opa, asked)
    assert [output["id"] for output in outputs] == [each["id"] for each in asked]
    return [output["effect"] == "release" for output in outputs]


@pytest.mark.parametrize("verb", ["activate", "rollback"])
def test_no_combination_of_persons_gets_round_the_other_side(opa_binary: Path, verb: str) -> None:
    activators = ((EXCHANGE, "admin-1"), (EMS, "admin-1"))
    asked = list(itertools.product(activators, AREAS, (*PEOPLE, None), APPROVALS))
    expected = [may_activate(*each) for each in asked]
    found = permitted(
        opa_binary,
        (item(who, verb, areas, author, approvals) for who, areas, author, approvals in asked),
    )
    assert len(asked) > 3_000
    assert 50 < sum(expected) < len(expected) / 2
    assert [each for each, one, other in zip(asked, found, expected, strict=True) if one != other] == []


def test_who_proposes_and_who_approves(opa_binary: Path) -> None:
    asked = list(itertools.product(PEOPLE, AREAS, (*PEOPLE, None)))
    proposing = permitted(opa_binary, (item(who, "propose", areas, None, ()) for who, areas, _ in asked))
    assert proposing == [may_propose(who, areas) for who, areas, _ in asked]
    approving = permitted(
        opa_binary, (item(who, "approve", areas, author, ()) for who, areas, author in asked)
    )
    assert approving == [
        who in LISTED and who[0] in sides_of(areas) and author is not None and who != author
        for who, areas, author in asked
    ]
