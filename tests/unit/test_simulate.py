"""Simulation: who would gain, lose or see differently, with counts, within bounds, and each owner for itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.simulate import combinations
from broker.core.simulate.model import (
    Combination,
    Detail,
    Example,
    Part,
    RecordKind,
    Shift,
    Side,
    Simulation,
    SimulationFailed,
)
from broker.core.simulate.run import Material, simulate
from broker.core.simulate.scope import scoped, with_examples_of
from broker.core.simulate.stored import Stored, StoredReader
from broker.core.simulate.traffic import Traffic, TrafficReader
from broker.errors import NoDecision
from broker.model.decision import KEEP, Decision, Effect, Treatment, TreatmentKind
from broker.model.labels import Labels
from broker.model.ledger import EncodedEntry
from broker.model.principal import SubjectClass
from broker.ports.policy_engine import Item
from tests.fakes.simulated import (
    ANALYST,
    CRASH,
    MEDIC,
    WITHHOLD,
    delivery,
    granting,
    kind,
    publication,
    sample_registry,
    side,
    stored,
)
from tests.fakes.trial import FunctionTrial

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
DAY_MS = 86_400_000
RELEASE = Decision(Effect.RELEASE, {"operational": KEEP, "pii": KEEP})


def read(entries: Sequence[EncodedEntry], **options: int | str) -> Traffic:
    reader = TrafficReader(**options)  # type: ignore[arg-type]
    reader.add(entries)
    return reader.traffic()


def kept(*records: tuple[RecordKind, str, int], owner: str | None = None) -> Stored:
    reader = StoredReader(NOW_MS, owner)
    for record, name, recorded_ms in records:
        reader.add(record.topic, [stored(record, name, recorded_ms)])
    return reader.stored


async def run(before: Side, after: Side, traffic: Traffic, held: Stored | None, **more: object) -> Simulation:
    limit = more.pop("limit", 50_000)
    return await simulate(before, after, Material(traffic, held, **more), NOW, limit=limit)  # type: ignore[arg-type]


TRAFFIC = [
    delivery(NOW_MS - 5, MEDIC, {kind(): 7}, {kind("red"): 2}, receivers=3),
    delivery(NOW_MS - 4, ANALYST, {kind(): 4}, {}),
    publication(NOW_MS - 9, kind(), ["crash-1"]),
]


async def test_a_revocation_shows_who_loses_what_and_how_much() -> None:
    held = kept(
        *((kind(), f"crash-{n}", NOW_MS - n * DAY_MS) for n in range(10)), (kind("green"), "g-1", NOW_MS - 1)
    )
    before, after = side(granting(RELEASE, "ems", "transport")), side(granting(RELEASE, "transport"))
    found = await run(before, after, read(TRAFFIC), held)

    assert {row.combination.subject.agency for row in found.rows} == {"ems"}
    assert {row.shift for row in found.rows} == {Shift.LOSES}
    (mine,) = (row for row in found.rows if row.combination == Combination(MEDIC, kind()))
    assert (mine.part, mine.handed_out, mine.withheld) == (Part.RECORDED, 21, 0)
    assert (mine.stored, mine.stored_before, mine.stored_after) == (10, 10, 0)
    assert mine.example == Example("//highway-patrol/cad", "crash-9", NOW_MS - 9 * DAY_MS)
    assert (mine.before.effect, mine.after.effect) == (Effect.RELEASE, Effect.WITHHOLD)
    (reach,) = found.reaches
    assert (reach.owner, reach.consumer, reach.topic) == ("highway-patrol", "ems", "crash-reports")
    assert (reach.recorded_before, reach.recorded_after) == (27, 0), (
        "3 receivers of 7 records and of 2 withheld"
    )
    assert (reach.stored_before, reach.stored_after) == (11, 0)
    volume = found.volumes["highway-patrol"]
    assert (volume.handed_out, volume.withheld, volume.stored, volume.cut) == (25, 6, 11, False)
    recorded = volume.tallies[Part.RECORDED]
    assert (recorded.possible, recorded.decided, recorded.loses, recorded.gains) == (3, 3, 2, 0)
    assert volume.tallies[Part.WHAT_IF].loses > 0
    assert all(t.possible == t.decided for t in volume.tallies.values()), "small enough to try all"


async def test_a_grant_of_history_shows_its_size_and_honours_since_when() -> None:
    held = kept(*((kind(), f"crash-{n}", NOW_MS - n * DAY_MS) for n in range(10)))
    since = replace(RELEASE, not_before=datetime.fromtimestamp((NOW_MS - 3 * DAY_MS) / 1000, UTC))
    nothing = side(granting(RELEASE))
    found = await run(nothing, side(granting(since, "ems")), read(TRAFFIC), held)
    (row,) = (row for row in found.rows if row.combination == Combination(MEDIC, kind()))
    assert (row.shift, row.stored, row.stored_before, row.stored_after) == (Shift.GAINS, 10, 0, 4)
    assert [(reach.stored_before, reach.stored_after) for reach in found.reaches] == [(0, 4)]

    found = await run(side(granting(since, "ems")), side(granting(RELEASE, "ems")), read(TRAFFIC), held)
    (row,) = (row for row in found.rows if row.combination == Combination(MEDIC, kind()))
    assert (row.shift, row.stored_before, row.stored_after) == (Shift.DIFFERS, 4, 10)
    assert row.details == (Detail("recorded from", "2026-05-29T00:00:00Z", None),)

    lapsed = replace(RELEASE, valid_until=NOW)
    found = await run(side(granting(RELEASE, "ems")), side(granting(lapsed, "ems")), read(TRAFFIC), held)
    assert {row.shift for row in found.rows} == {Shift.LOSES}, "what no longer holds releases nothing"


async def test_treatments_and_obligations_are_told_by_marking() -> None:
    stricter = Decision(
        Effect.RELEASE, {"operational": KEEP, "pii": Treatment(TreatmentKind.MASK, 1)}, ("delete",)
    )
    found = await run(side(granting(RELEASE, "ems")), side(granting(stricter, "ems")), read(TRAFFIC), None)
    row = next(row for row in found.rows if row.combination == Combination(MEDIC, kind()))
    assert row.shift is Shift.DIFFERS and row.stored is None
    assert row.details == (
        Detail("marking pii", "keep", "mask (first 1, last 0 kept)"),
        Detail("obligation delete", None, "yes"),
    )
    other = replace(RELEASE, treatments={**RELEASE.treatments, "nobody-has-this": KEEP})
    found = await run(side(granting(RELEASE, "ems")), side(granting(other, "ems")), read(TRAFFIC), None)
    assert found.rows == (), "a marking that the type has not changes nothing for anybody"


async def test_a_field_that_is_marked_otherwise_is_seen_though_decisions_are_the_same() -> None:
    registry = sample_registry()
    crash = registry.record_types[CRASH]
    path = next(path for path, markings in crash.fields.items() if markings == ("criminal",))
    remarked = replace(crash, fields={**crash.fields, path: ("operational",)})
    changed = replace(registry, record_types={**registry.record_types, CRASH: remarked})
    grants = granting(RELEASE, "ems")
    found = await run(side(grants), side(grants, changed), read(TRAFFIC), None)
    row = next(row for row in found.rows if row.combination == Combination(MEDIC, kind()))
    assert Detail(f"field {path}", "remove", "keep") in row.details


async def test_who_may_not_subscribe_gets_nothing() -> None:
    grants = granting(RELEASE, "ems", "transport")

    def refused(item: Item) -> Decision:
        return WITHHOLD if item["subject"]["agency"] == "ems" else Decision(Effect.RELEASE)  # type: ignore[index]

    found = await run(side(grants), side(grants, permitted=refused), read(TRAFFIC), None)
    assert {(row.combination.subject.agency, row.shift) for row in found.rows} == {("ems", Shift.LOSES)}


async def test_an_agency_topic_or_type_that_is_gone_is_asked_nothing() -> None:
    registry = sample_registry()
    grants = granting(RELEASE, "ems", "transport")
    gone = replace(registry, topics={n: t for n, t in registry.topics.items() if n != "crash-reports"})
    after = side(grants, gone)
    found = await run(side(grants), after, read(TRAFFIC), None)
    assert {row.shift for row in found.rows} == {Shift.LOSES}
    assert isinstance(after.trial, FunctionTrial)
    assert not [item for item in after.trial.asked if item["topic"] == "crash-reports"]


async def test_rules_that_depend_on_the_time_are_given_it() -> None:
    timed = side(granting(RELEASE, "ems"), time_dependent=True)
    await run(side(granting(RELEASE, "ems")), timed, read(TRAFFIC), None)
    assert isinstance(timed.trial, FunctionTrial)
    assert {item.get("time") for item in timed.trial.asked} == {"2026-06-01T00:00:00Z"}


async def test_an_engine_without_an_answer() -> None:
    class Faulty(FunctionTrial):
        """Gives up on every batch with a record for the analyst."""

        async def decide(self, items: Sequence[Item]) -> dict[str, Decision]:
            subjects = [item["subject"] for item in items if item["action"] == "deliver"]
            if any(subject["agency"] == "transport" for subject in subjects):  # type: ignore[index]
                raise NoDecision("slow")
            return dict(await super().decide(items))

    good = side(granting(RELEASE, "ems", "transport"))
    faulty = replace(good, trial=Faulty(lambda item: RELEASE))
    found = await run(good, faulty, read(TRAFFIC), None, limit=3)
    assert [(row.combination.subject, row.shift, row.after.effect) for row in found.rows] == [
        (ANALYST, Shift.LOSES, None)
    ]
    with pytest.raises(SimulationFailed, match=r"stopped answering under sha256:[0-9a-f]{64}; start"):
        await run(
            good, replace(good, trial=FunctionTrial(lambda item: WITHHOLD, silent=True)), read(TRAFFIC), None
        )


async def test_what_is_beyond_the_limit_is_said_and_what_was_recorded_comes_first() -> None:
    held = kept(*((kind(), f"crash-{n}", NOW_MS - n) for n in range(3)))
    before, after = side(granting(RELEASE, "ems", "transport")), side(granting(RELEASE, "transport"))
    progress: list[tuple[int, int | None]] = []
    found = await simulate(
        before,
        after,
        Material(read(TRAFFIC), held),
        NOW,
        limit=10,
        progress=lambda at: progress.append((at.done, at.total)),
    )
    tallies = found.volumes["highway-patrol"].tallies
    assert sum(t.decided or 0 for v in found.volumes.values() for t in v.tallies.values()) == 10
    assert tallies[Part.RECORDED].decided == tallies[Part.RECORDED].possible == 3
    assert (tallies[Part.WHAT_IF].possible or 0) > (tallies[Part.WHAT_IF].decided or 0)
    assert progress[-1] == (20, 20)
    again = await simulate(before, after, Material(read(TRAFFIC), held), NOW, limit=10)
    assert again == found, "the same every time"


async def test_what_the_change_touches_is_tried_before_the_rest() -> None:
    """With room for a few combinations only, those of the owner whose agreements change are among them."""
    before, after = side(granting(RELEASE)), side(granting(RELEASE, "transport"))
    path = "data/agreements/highway-patrol/data.yaml"
    touched = side(granting(RELEASE, "transport"), files={path: b"{}"})
    assert combinations.touched_agencies(before.revision.files, after.revision.files) == frozenset()
    assert combinations.touched_agencies(before.revision.files, touched.revision.files) == {"highway-patrol"}
    found = await run(before, touched, Traffic(), None, limit=60)
    assert {row.combination.record.owner for row in found.rows} == {"highway-patrol"}
    assert (
        sum(v.tallies[Part.WHAT_IF].decided or 0 for o, v in found.volumes.items() if o != "highway-patrol")
        == 0
    )


async def test_without_any_record_each_classification_is_supposed() -> None:
    found = await run(side(granting(RELEASE)), side(granting(RELEASE, "ems")), Traffic(), None)
    kinds = {row.combination.record for row in found.rows if row.combination.record.type == CRASH}
    assert {each.labels.dataclassification for each in kinds} == set(
        sample_registry().vocabulary.classifications
    )
    assert all(row.part is Part.WHAT_IF and row.example is None for row in found.rows)


def test_recorded_decisions_are_counted_by_records_and_receivers() -> None:
    green = kind("green")
    entries = [
        delivery(10, MEDIC, {kind(): 2, green: 1}, {kind("red"): 5}, receivers=2),
        delivery(20, MEDIC, {green: 3}, {}),
        delivery(30, ANALYST, {}, {green: 1}),
    ]
    found = read(entries)
    assert found.handed_out == Counter({Combination(MEDIC, kind()): 4, Combination(MEDIC, green): 5})
    assert found.withheld == Counter({Combination(MEDIC, kind("red")): 10, Combination(ANALYST, green): 1})
    assert read(entries, since_ms=20).handed_out == Counter({Combination(MEDIC, green): 3})

    newest = read(list(reversed(entries)), last=4)
    assert newest.handed_out == Counter({Combination(MEDIC, green): 3})
    assert newest.withheld == Counter({Combination(ANALYST, green): 1})


def test_what_cannot_be_read_is_counted_and_stops_nothing() -> None:
    good = delivery(10, MEDIC, {kind(): 1}, {})
    found = read(
        [EncodedEntry(good.leaf, b""), EncodedEntry(b"{", b"x"), EncodedEntry(good.leaf, b"x"), good]
    )
    assert (found.unread, found.handed_out.total()) == (3, 1)


def test_stored_records_are_counted_unless_they_are_expired_or_unreadable() -> None:
    reader = StoredReader(NOW_MS)
    reader.add(
        "crash-reports",
        [
            stored(kind(), "a", 5, expires="2026-05-31T23:59:59Z"),
            stored(kind(), "b", 7, expires="2026-06-01T00:00:01Z"),
            stored(kind(), "c", 6),
            stored(kind(), "d", 9)._replace(body=b"\xff"),
        ],
    )
    (found,) = reader.stored.kinds.values()
    assert (found.count, found.since(7), found.since(8), reader.stored.unplaced) == (2, 1, 0, 1)


def test_each_owner_has_what_is_its_own() -> None:
    theirs = RecordKind("vulnerabilities", "gov.cisa.kev.v1", "cyber-centre", Labels("clear"))
    entries = [
        *TRAFFIC,
        delivery(NOW_MS, MEDIC, {theirs: 5}, {}),
        publication(NOW_MS, theirs, ["cve-1"]),
    ]
    found = read(entries, owner="highway-patrol")
    assert {each.record.owner for each in found.combinations()} == {"highway-patrol"}
    assert not found.withheld, "from whom records were withheld in silence is not told"
    assert {each.owner for each in found.examples} == {"highway-patrol"}
    held = kept((kind(), "a", 1), (theirs, "cve-1", 2), owner="cyber-centre")
    assert set(held.kinds) == {theirs}


async def test_nothing_of_another_owner_shows_in_ones_own_part() -> None:
    """An attack: whatever another owner has, grants and changes, an agency's own part stays the same."""
    theirs = RecordKind("vulnerabilities", "gov.cisa.kev.v1", "cyber-centre", Labels("clear"))

    def grants(theirs_too: bool, *agencies: str) -> Side:
        def decide(item: Item) -> Decision:
            mine = item["record"]["agency"] == "highway-patrol"  # type: ignore[index]
            return (
                RELEASE if (mine or theirs_too) and item["subject"]["agency"] in agencies else WITHHOLD  # type: ignore[index]
            )

        return side(decide)

    secret = SubjectClass("partner-cert", ("secret-role",), (), "cyber-defence")
    quiet: list[EncodedEntry] = TRAFFIC[:]
    busy = [
        *TRAFFIC,
        delivery(NOW_MS, secret, {theirs: 5}, {kind("red"): 9}),
        publication(NOW_MS, theirs, ["cve-1"]),
    ]
    shown = []
    for entries, held, theirs_too in (
        (quiet, kept((kind(), "a", 1), owner="highway-patrol"), False),
        (busy, kept((kind(), "a", 1), (theirs, "cve-1", 2), owner="highway-patrol"), True),
    ):
        found = await run(
            grants(theirs_too, "ems", "transport"),
            grants(theirs_too, "transport"),
            read(entries, owner="highway-patrol"),
            held,
            owner="highway-patrol",
        )
        own = scoped(found, "highway-patrol")
        assert own.rows
        shown.append(replace(own, before="", after=""))
    assert repr(shown[0]) == repr(shown[1])

    whole = await run(
        grants(False, "ems"),
        grants(True, "transport"),
        read(busy),
        kept((kind(), "a", 1), (theirs, "cve-1", 2)),
        notes=("12 entries of the ledger are erased",),
    )
    assert {row.combination.record.owner for row in whole.rows} == {"highway-patrol", "cyber-centre"}
    own = scoped(whole, "highway-patrol")
    text = repr(own)
    for word in (
        "cyber-centre",
        "cve",
        "kev",
        "vulnerabilities",
        "secret-role",
        "erased",
        "paramedic",
        "clearance",
    ):
        assert word not in text
    assert {row.withheld for row in own.rows} == {0} and own.volumes["highway-patrol"].withheld == 0
    assert {reach.recorded_after for reach in own.reaches} == {None}
    assert all(tally.possible is None for tally in own.volumes["highway-patrol"].tallies.values())
    (mine,) = (
        row for row in own.rows if row.part is Part.RECORDED and row.combination.subject.agency == "ems"
    )
    assert (mine.shift, mine.handed_out, mine.stored_before, mine.stored_after) == (Shift.LOSES, 21, 1, 0)
    assert scoped(whole, None) == whole
    nobody = scoped(whole, "road-works")
    assert (nobody.rows, nobody.reaches, nobody.volumes, nobody.notes) == ((), (), {}, ())


async def test_examples_are_of_ones_own_records() -> None:
    held = kept((kind(), "crash-1", 1))
    found = await run(side(granting(RELEASE)), side(granting(RELEASE, "ems")), read(TRAFFIC), held)
    assert any(row.example for row in found.rows)
    assert not any(row.example for row in with_examples_of(found, "exchange").rows)
    assert with_examples_of(found, "highway-patrol") == found


_OTHERS = [
    RecordKind("vulnerabilities", "gov.cisa.kev.v1", "cyber-centre", Labels(word))
    for word in ("clear", "amber")
]
_SECRET = [
    SubjectClass(agency, ("x",), (), "cyber-defence") for agency in ("ems", "partner-cert", "transport")
]


@given(
    st.lists(
        st.tuples(st.sampled_from(_SECRET), st.sampled_from([*_OTHERS, kind("red")]), st.integers(0, 9))
    ),
    st.lists(st.tuples(st.sampled_from(_OTHERS), st.integers(1, 10**12))),
    st.frozensets(st.sampled_from(["ems", "partner-cert", "transport"])),
    st.frozensets(st.sampled_from(["ems", "partner-cert", "transport"])),
)
@settings(max_examples=25, deadline=None)
def test_whatever_others_do_an_owners_part_is_the_same(
    decisions: list[tuple[SubjectClass, RecordKind, int]],
    records: list[tuple[RecordKind, int]],
    granted_before: frozenset[str],
    granted_after: frozenset[str],
) -> None:
    """Others' traffic, what they withhold and have withheld, their records, and what they grant and revoke."""

    def rulebook(theirs: frozenset[str], *mine: str) -> Side:
        def decide(item: Item) -> Decision:
            granted = mine if item["record"]["agency"] == "highway-patrol" else theirs  # type: ignore[index]
            return RELEASE if item["subject"]["agency"] in granted else WITHHOLD  # type: ignore[index]

        path = "data/agreements/cyber-centre/data.yaml"
        return side(decide, files={path: repr(sorted(theirs)).encode()})

    async def own(
        entries: list[EncodedEntry], held: Stored, before: frozenset[str], after: frozenset[str]
    ) -> Simulation:
        sides = rulebook(before, "ems", "transport"), rulebook(after, "transport")
        traffic = read(entries, owner="highway-patrol")
        found = await run(*sides, traffic, held, owner="highway-patrol", limit=200)
        return replace(scoped(found, "highway-patrol"), before="", after="")

    mine = [(kind(), "a", 1)]
    busy = TRAFFIC + [
        delivery(NOW_MS, subject, {}, {record: count})
        if record.owner == "highway-patrol"
        else delivery(NOW_MS, subject, {record: count}, {record: 1})
        for subject, record, count in decisions
    ]
    theirs = [(record, f"r-{n}", time_ms) for n, (record, time_ms) in enumerate(records)]
    quiet = asyncio.run(own(TRAFFIC, kept(*mine, owner="highway-patrol"), frozenset(), frozenset()))
    loud = asyncio.run(own(busy, kept(*mine, *theirs, owner="highway-patrol"), granted_before, granted_after))
    assert quiet.rows and repr(quiet) == repr(loud)


async def test_what_others_change_does_not_even_order_an_owners_part() -> None:
    """With room for a few combinations only: which of them are tried depends on nobody else's part of the rulebook."""
    everybody = granting(RELEASE, *sample_registry().agencies)
    shown = []
    for files in ({}, {"data/agreements/cyber-centre/data.yaml": b"{}", "agencies/ems/module.rego": b""}):
        after = side(everybody, files=files)
        found = await run(side(granting(RELEASE)), after, Traffic(), None, owner="highway-patrol", limit=30)
        shown.append(replace(scoped(found, "highway-patrol"), before="", after=""))
    assert shown[0].rows and repr(shown[0]) == repr(shown[1])
