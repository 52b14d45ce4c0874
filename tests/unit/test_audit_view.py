"""What administrators see of the ledger: nothing that is not listed, and nothing that depends on what they may not know."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.audit.kinds import KINDS, ROOTS
from broker.core.audit.view import VISIBLE_KINDS, Scope, own_places, shown_parts
from broker.core.ledger.runs import places_of
from broker.model.ledger import JsonValue, LedgerEntry
from tests.fakes.ledgers import OWNERS, PEOPLE, FakeLedgers, make_ledgers

AGENCIES = sorted({person.agency for person in PEOPLE} | set(OWNERS))
LEDGERS = make_ledgers(seed=7, rounds=400)
ENTRIES = [entry for instance in LEDGERS.instances.values() for entry in instance.plain]
AUDITOR = Scope()

PERSON = {"agency", "subject", "roles", "attributes", "token", "certificate"}
_ABOUT_OVERLAYS = "what id kind target owner source reason tell_reason until_ms ratify_by_ms"
OVERLAY = set(_ABOUT_OVERLAYS.split())
STREAM = {"topic", "purpose", "subscription", "epoch", "stream"}
DECISION = {"input", "output"}
PERMITTED: Mapping[str, Mapping[str, set[str]]] = {
    "call_refused": {"who": PERSON, "call": {"method", "reason", "reference"}},
    "delivery": {
        "class": {"topic", "agency", "roles", "attributes", "purpose"},
        "receivers": {"subject", "token", "certificate", "subscription", "epoch", "stream"},
        "count": set(),
        "decisions": DECISION,
        "places": {"source", "id", "decision"},
    },
    "ledger_read": {"who": PERSON, "query": {"method", "about"}},
    "moved": {"who": PERSON, "stream": STREAM},
    "preview": {"who": PERSON, "call": {"topic", "reference", "records"}},
    "publish": {
        "who": PERSON,
        "call": {"topic", "reference"},
        "records": {"source", "id", "type", "labels", "duplicate", "refused"},
    },
    "refused_aggregate": {"refused": {"agency", "reason", "count"}},
    "stream_closed": {"who": PERSON, "stream": STREAM, "end": {"cause"}},
    "stream_opened": {"who": PERSON, "stream": STREAM},
    "overlay_changed": {"who": PERSON, "change": OVERLAY},
    "subscription": {"who": PERSON, "change": {"change", "subscription", "topic", "purpose"}},
}
"""What docs/ledger.md promises to administrators: by kind and part the members, of the part or of each of its items."""


def shown(agency: str | None, entry: LedgerEntry) -> dict[str, Any]:
    names = (
        {place: ("//source", f"id of {place}") for place in own_places(agency, entry.body)} if agency else {}
    )
    return {part.name: part.value for part in shown_parts(Scope(agency), entry, names)}


def members(value: JsonValue) -> Iterator[set[str]]:
    for item in value if isinstance(value, list) else [value]:
        yield set(item) if isinstance(item, dict) else set()


@pytest.mark.parametrize("agency", AGENCIES)
def test_nothing_outside_the_list_ever_appears(agency: str) -> None:
    seen = set()
    for entry in ENTRIES:
        for name, value in shown(agency, entry).items():
            seen.add(entry.kind)
            for found in members(value):
                assert found <= PERMITTED[entry.kind][name], (entry.kind, name)
    assert len(seen) > 1, "the made-up ledgers say too little about this agency"


def test_the_list_is_about_parts_that_exist() -> None:
    assert PERMITTED.keys() == VISIBLE_KINDS <= KINDS.keys()
    for kind, parts in PERMITTED.items():
        assert parts.keys() <= KINDS[kind] - ROOTS
        assert not parts.keys() & {"rules", "considered", "digest", "handed_out", "faulted", "move", "step"}


def test_by_which_decision_a_stream_ended_is_for_auditors_only() -> None:
    ledgers = FakeLedgers(seed=7)
    (instance,) = ledgers.instances.values()
    ledgers.close(instance, ledgers.open(instance, PEOPLE[0], "crash-reports"), "POLICY_DENIED")
    entry = instance.plain[-1]
    assert shown(PEOPLE[0].agency, entry)["end"] == {"cause": "POLICY_DENIED"}
    assert shown(None, entry)["end"]["decisions"][0]["output"]["effect"] == "withhold"


@pytest.mark.parametrize("kind", [*sorted(KINDS.keys() - VISIBLE_KINDS), "a-kind-of-tomorrow"])
def test_other_kinds_show_nothing(kind: str) -> None:
    who = PEOPLE[0].who()
    names = KINDS.get(kind, frozenset({"who"})) | {"who", "class", "receivers", "count"}
    body: dict[str, JsonValue] = dict.fromkeys(names, who) | {
        "count": 1,
        "receivers": [who],
        "records": [who],
    }
    assert shown("transport", LedgerEntry(kind, 0, body)) == {}


def test_auditors_see_everything() -> None:
    for entry in ENTRIES:
        whole = shown(None, entry)
        assert whole == {**entry.body, **{name: root.hex() for name, root in entry.roots.items()}}
        assert not any(part.reduced for part in shown_parts(AUDITOR, entry, {}))


def test_others_entries_are_not_shown() -> None:
    for entry in ENTRIES:
        who: Any = entry.body.get("who")
        if who is not None:
            for agency in AGENCIES:
                assert bool(shown(agency, entry)) == (who["agency"] == agency)


@pytest.mark.parametrize("owner", OWNERS)
def test_owners_see_their_records_and_of_the_receivers_their_agency(owner: str) -> None:
    deliveries = [entry for entry in ENTRIES if entry.kind == "delivery"]
    found = [shown(owner, entry) for entry in deliveries if shown(owner, entry)]
    assert len(found) > 10
    for parts in found:
        assert set(parts) == {"class", "decisions", "places"}
        assert set(parts["class"]) == {"topic", "agency", "purpose"}
        for decision in parts["decisions"]:
            assert decision["input"]["record"]["agency"] == owner
            assert set(decision["input"]["subject"]) == {"agency", "purpose"}
        assert {place["decision"] for place in parts["places"]} == set(range(len(parts["decisions"])))
        assert all(place["id"].startswith("id of") for place in parts["places"])


def delivery_of_two_owners(**changes: JsonValue) -> LedgerEntry:
    """To transport, of one record of each owner."""
    entry = next(e for e in ENTRIES if e.kind == "delivery" and e.body["class"]["agency"] == "transport")  # type: ignore[index,call-overload]
    body: Any = orjson.loads(orjson.dumps(dict(entry.body)))
    first, second = body["decisions"][0], orjson.loads(orjson.dumps(body["decisions"][0]))
    first["input"]["record"]["agency"], second["input"]["record"]["agency"] = OWNERS
    body |= {"decisions": [first, second], "places": [[0, 11, 1], [0, 12, 0], [1, 13, 1]], "count": 3}
    return replace(entry, body={**body, **changes})


def test_each_owner_sees_its_own_of_a_batch_of_several() -> None:
    entry = delivery_of_two_owners()
    first, second = (shown(owner, entry) for owner in OWNERS)
    assert first["places"] == [{"source": "//source", "id": "id of (0, 12)", "decision": 0}]
    assert [place["id"] for place in second["places"]] == ["id of (0, 11)", "id of (1, 13)"]
    assert {place["decision"] for place in second["places"]} == {0}
    assert "count" not in first | second and "receivers" not in first | second
    assert shown("ems", entry) == {}


def test_a_record_that_the_index_does_not_know_stays_unnamed() -> None:
    (_, _, places) = shown_parts(Scope(OWNERS[0]), delivery_of_two_owners(), {})
    assert places.value == [{"source": None, "id": None, "decision": 0}]


def test_a_batch_of_nothing_is_not_shown_to_its_receivers() -> None:
    """An entry by which only what was considered is written out would tell that something was withheld."""
    assert shown("transport", delivery_of_two_owners())["count"] == 3
    assert shown("transport", delivery_of_two_owners(count=0, places=[], decisions=[])) == {}


def test_readers_of_their_own_records_are_both() -> None:
    entry = delivery_of_two_owners()
    body: Any = orjson.loads(orjson.dumps(dict(entry.body)))
    body["class"]["agency"] = OWNERS[0]
    parts = shown(OWNERS[0], replace(entry, body=body))
    assert set(parts) == {"class", "receivers", "count", "decisions", "places"}
    assert set(parts["class"]) == {"topic", "agency", "roles", "attributes", "purpose"}
    assert len(parts["places"]) == 1


# ---- noninterference: what may not be known changes, and nothing of what is shown does ----


def disturbed(entry: LedgerEntry, agency: str, chance: random.Random) -> LedgerEntry:
    """The same entry, had other records been withheld, stood elsewhere in the log, or been decided by other rules."""
    body: Any = orjson.loads(orjson.dumps(dict(entry.body)))

    def positions() -> list[int]:
        return [chance.randrange(1_000_000) for _ in range(3)]

    body["rules"] = {"revision": f"sha256:{chance.random()}", "engine": "opa 9"}
    for name in ("considered", "digest", "move", "faulted", "stored"):
        if name in body:
            body[name] = positions()
    if isinstance(body.get("end"), dict):
        body["end"]["standing"] = {"next": positions(), "lags": [[0, "secret-owner", 5]]}
    for row in body.get("records", ()) if entry.kind == "publish" else ():
        row["digest"] = f"{chance.random()}"
    if entry.kind in ("call_refused", "stream_opened", "publish"):
        body["decisions"] = [{"input": {"secret": chance.random()}, "output": {"reasons": ["secret"]}}]
    if entry.kind == "delivery":
        _disturb_decisions(body, agency, chance)
    return replace(entry, body=body, roots={name: chance.randbytes(32) for name in entry.roots})


def _disturb_decisions(body: Any, agency: str, chance: random.Random) -> None:
    """Others' records, and where all of them are."""
    other = {"input": {"record": {"agency": f"other-{chance.random()}"}}, "output": {"reasons": ["secret"]}}
    own = {n for n, d in enumerate(body["decisions"]) if d["input"]["record"]["agency"] == agency}
    body["decisions"] = [d if n in own else other for n, d in enumerate(body["decisions"])] + [other]
    body["places"] = [
        [chance.randrange(9), chance.randrange(10**6), n if n in own else len(body["decisions"]) - 1]
        for _, _, n in places_of(body["places"])
    ]


def without_names(parts: dict[str, Any]) -> dict[str, Any]:
    """Names are looked up by place, which is what changed."""
    places = [place["decision"] for place in parts.get("places", ())]
    return {**parts, **({"places": places} if places else {})}


@given(st.integers(0, len(ENTRIES) - 1), st.sampled_from(AGENCIES), st.randoms(use_true_random=False))
def test_what_may_not_be_known_changes_nothing(number: int, agency: str, chance: random.Random) -> None:
    entry = ENTRIES[number]
    changed = disturbed(entry, agency, chance)
    assert without_names(shown(agency, changed)) == without_names(shown(agency, entry))
    assert b"secret" not in orjson.dumps(shown(agency, changed))


ODD: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["transport", "x", "secret"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["agency", "class", "input", "record", "count", "x"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(
    st.sampled_from(sorted(KINDS)),
    st.dictionaries(st.sampled_from(sorted({p for k in KINDS.values() for p in k})), ODD),
)
def test_odd_values_break_nothing(kind: str, body: dict[str, JsonValue]) -> None:
    entry = LedgerEntry(kind, 0, body)
    for part in shown_parts(Scope("transport"), entry, {}):
        assert part.name in PERMITTED[kind]
        for found in members(part.value):
            assert found <= PERMITTED[kind][part.name]
